package storage

import (
	"context"
	"strconv"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdLVM(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "lvm", Short: "List the volume groups of each node (from Talos 1.14)",
		Example: "  talosmate storage lvm -n worker-1\n" +
			"  talosmate storage lvm -A -o json --query '.items[] | select(.kind == \"volume_group\" and .free_bytes == 0) | .name'",
		Spec: spec(),
	}, "LVMList", cmdutil.NodeList[talos.LVMDevice]{
		Columns: []output.Column[talos.LVMDevice]{
			{Header: "KIND", Value: func(d talos.LVMDevice) string { return kind(d.Kind) }},
			{Header: "NAME", Value: func(d talos.LVMDevice) string { return d.Name }},
			{Header: "GROUP", Value: func(d talos.LVMDevice) string { return d.VolumeGroup }},
			{Header: "SIZE", Value: func(d talos.LVMDevice) string { return size(d.SizeBytes) }},
			{Header: "FREE", Value: func(d talos.LVMDevice) string {
				if d.Kind == talos.LogicalVolume {
					return ""
				}

				return output.Bytes(d.FreeBytes)
			}},
			{Header: "STATE", State: true, Value: func(d talos.LVMDevice) string { return strings.Join(d.State, ",") }},
			{Header: "ERROR", Value: func(d talos.LVMDevice) string { return d.Error }},
			{Header: "LAYOUT", Wide: true, Value: func(d talos.LVMDevice) string { return d.Layout }},
			{Header: "DEVICE", Wide: true, Value: func(d talos.LVMDevice) string { return d.Device }},
			{Header: "UUID", Wide: true, Value: func(d talos.LVMDevice) string { return d.UUID }},
		},
		Name: func(d talos.LVMDevice) string { return d.Name },
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.LVMDevice, error) {
		return n.LVM(ctx)
	})
}

func newCmdRAID(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "raid", Aliases: []string{"md"}, Short: "List the RAID arrays of each node (from Talos 1.14)",
		Example: "  talosmate storage raid -A\n" +
			"  talosmate storage raid -A -o json --query '.items[] | select(.status != \"ready\") | .node + \" \" + .name + \" \" + .status'",
		Spec: spec(),
	}, "RAIDArrayList", cmdutil.NodeList[talos.Array]{
		Columns: []output.Column[talos.Array]{
			{Header: "ARRAY", Value: func(a talos.Array) string { return a.Name }},
			{Header: "LEVEL", Value: func(a talos.Array) string { return a.Level }},
			{Header: "STATUS", State: true, Value: func(a talos.Array) string { return a.Status }},
			{Header: "SYNC", Value: func(a talos.Array) string { return a.SyncAction }},
			{Header: "DEVICES", Value: func(a talos.Array) string { return strconv.Itoa(a.Devices) }},
			{Header: "ERROR", Value: func(a talos.Array) string { return a.Error }},
			{Header: "DEVICE", Wide: true, Value: func(a talos.Array) string { return a.Device }},
			{Header: "MEMBERS", Wide: true, Value: func(a talos.Array) string { return strings.Join(a.Members, ",") }},
			{Header: "STATE", State: true, Wide: true, Value: func(a talos.Array) string { return a.ArrayState }},
			{Header: "UUID", Wide: true, Value: func(a talos.Array) string { return a.UUID }},
		},
		Name: func(a talos.Array) string { return a.Name },
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Array, error) { return n.Arrays(ctx) })
}
