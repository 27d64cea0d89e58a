package storage

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdVolumes(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "volumes", Aliases: []string{"volume"}, Short: "List the volumes of each node with their status",
		Example: "  talosmate storage volumes -n worker-1\n" +
			"  talosmate storage volumes -A -o json --query '.items[] | select(.phase != \"ready\") | .node + \" \" + .id + \" \" + .phase'",
		Spec: spec(),
	}, "VolumeList", cmdutil.NodeList[talos.Volume]{
		Columns: []output.Column[talos.Volume]{
			{Header: "VOLUME", Value: func(v talos.Volume) string { return v.ID }},
			{Header: "TYPE", Value: func(v talos.Volume) string { return v.Type }},
			{Header: "PHASE", Value: func(v talos.Volume) string { return v.Phase }},
			{Header: "LOCATION", Value: func(v talos.Volume) string { return v.Location }},
			{Header: "SIZE", Value: func(v talos.Volume) string { return size(v.SizeBytes) }},
			{Header: "ERROR", Value: func(v talos.Volume) string { return v.Error }},
			{Header: "FILESYSTEM", Wide: true, Value: func(v talos.Volume) string { return v.Filesystem }},
			{Header: "ENCRYPTION", Wide: true, Value: func(v talos.Volume) string { return v.Encryption }},
			{Header: "TARGET", Wide: true, Value: func(v talos.Volume) string { return v.TargetPath }},
			{Header: "UUID", Wide: true, Value: func(v talos.Volume) string { return v.UUID }},
		},
		Name:    func(v talos.Volume) string { return v.ID },
		Watched: true,
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Volume, error) {
		return n.Volumes(ctx)
	})
}
