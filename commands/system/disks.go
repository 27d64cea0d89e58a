package system

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdDisks(f *cmdutil.Factory) *cmdutil.Cmd {
	s := spec()
	s.Insecure = true

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "disks", Aliases: []string{"disk"}, Short: "List the disks of each node",
		Example: "  talosmate system disks -n worker-1\n" +
			"  talosmate system disks -n 10.0.0.21 --insecure -o json --query '.items[] | select(.system_disk | not) | .device'",
		Spec: s,
	}, "DiskList", cmdutil.NodeList[talos.Disk]{
		Columns: []output.Column[talos.Disk]{
			{Header: "DEVICE", Value: func(d talos.Disk) string { return d.Device }},
			{Header: "SIZE", Value: func(d talos.Disk) string { return output.Bytes(d.SizeBytes) }},
			{Header: "TYPE", Value: func(d talos.Disk) string { return d.Type }},
			{Header: "MODEL", Value: func(d talos.Disk) string { return d.Model }},
			{Header: "SERIAL", Value: func(d talos.Disk) string { return d.Serial }},
			{Header: "SYSTEM", Value: func(d talos.Disk) string { return output.YesNo(d.SystemDisk) }},
			{Header: "READ ONLY", Value: func(d talos.Disk) string { return output.YesNo(d.ReadOnly) }},
			{Header: "TRANSPORT", Wide: true, Value: func(d talos.Disk) string { return d.Transport }},
			{Header: "BUS PATH", Wide: true, Value: func(d talos.Disk) string { return d.BusPath }},
			{Header: "WWID", Wide: true, Value: func(d talos.Disk) string { return d.WWID }},
		},
		Name: func(d talos.Disk) string { return d.Device },
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Disk, error) { return n.Disks(ctx) })
}
