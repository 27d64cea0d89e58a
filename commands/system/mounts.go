package system

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdMounts(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "mounts", Aliases: []string{"mount"}, Short: "List the mounted file systems of each node",
		Example: "  talosmate system mounts -n worker-1\n" +
			"  talosmate system mounts -A -o json --query '.items[] | select(.used_ratio > 0.8)'",
		Spec: spec(),
	}, "MountList", cmdutil.NodeList[talos.Mount]{
		Columns: []output.Column[talos.Mount]{
			{Header: "MOUNTED ON", Value: func(m talos.Mount) string { return m.MountedOn }},
			{Header: "FILESYSTEM", Wide: true, Value: func(m talos.Mount) string { return m.Filesystem }},
			{Header: "SIZE", Wide: true, Value: sized(func(m talos.Mount) string { return output.Bytes(m.SizeBytes) })},
			{Header: "AVAILABLE", Value: sized(func(m talos.Mount) string { return output.Bytes(m.AvailableBytes) })},
			{Header: "USED", Value: sized(func(m talos.Mount) string { return output.Percent(m.UsedRatio) })},
		},
		Name: func(m talos.Mount) string { return m.MountedOn },
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Mount, error) { return n.Mounts(ctx) })
}

// sized leaves the cells of pseudo file systems empty: they have no size.
func sized(cell func(talos.Mount) string) func(talos.Mount) string {
	return func(m talos.Mount) string {
		if m.SizeBytes == 0 {
			return ""
		}

		return cell(m)
	}
}
