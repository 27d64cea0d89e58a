package storage

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdDiscovered(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "discovered", Short: "List the block devices of each node and their content",
		Example: "  talosmate storage discovered -n worker-1\n" +
			"  talosmate storage discovered -n 10.0.0.21 --insecure -o json --query '.items[] | select(.discovered == \"\") | .device'",
		Spec: spec(),
	}, "DiscoveredVolumeList", cmdutil.NodeList[talos.DiscoveredVolume]{
		Columns: []output.Column[talos.DiscoveredVolume]{
			{Header: "DEVICE", Value: func(v talos.DiscoveredVolume) string { return v.Device }},
			{Header: "TYPE", Value: func(v talos.DiscoveredVolume) string { return v.Type }},
			{Header: "SIZE", Value: func(v talos.DiscoveredVolume) string { return size(v.SizeBytes) }},
			{Header: "DISCOVERED", Value: func(v talos.DiscoveredVolume) string { return v.Discovered }},
			{Header: "LABEL", Value: func(v talos.DiscoveredVolume) string { return v.Label }},
			{Header: "PARTITION", Value: func(v talos.DiscoveredVolume) string { return v.PartitionLabel }},
			{Header: "PARENT", Wide: true, Value: func(v talos.DiscoveredVolume) string { return v.Parent }},
			{Header: "UUID", Wide: true, Value: func(v talos.DiscoveredVolume) string { return v.UUID }},
			{Header: "PARTITION UUID", Wide: true, Value: func(v talos.DiscoveredVolume) string { return v.PartitionUUID }},
		},
		Name: func(v talos.DiscoveredVolume) string { return v.Device },
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.DiscoveredVolume, error) {
		return n.DiscoveredVolumes(ctx)
	})
}
