package storage

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdUpkeep(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "upkeep", Aliases: []string{"scrub", "trim"}, Short: "List the scrubs and trims of nodes (from Talos 1.14)",
		Example: "  talosmate storage upkeep -n worker-1\n" +
			"  talosmate storage upkeep -A -o json --query '.items[] | select(.work == \"scrub\" and .last == null) | .node + \" \" + .volume'",
		Spec: spec(),
	}, "UpkeepList", cmdutil.NodeList[talos.Upkeep]{
		Columns: []output.Column[talos.Upkeep]{
			{Header: "VOLUME", Value: func(u talos.Upkeep) string { return u.Volume }},
			{Header: "WORK", Value: func(u talos.Upkeep) string { return u.Work }},
			{Header: "EVERY", Value: func(u talos.Upkeep) string { return seconds(u.IntervalSeconds) }},
			{Header: "NEXT", Value: func(u talos.Upkeep) string { return when(u.Next) }},
			{Header: "LAST", Value: func(u talos.Upkeep) string { return when(u.Last) }},
			{Header: "RESULT", State: true, Value: func(u talos.Upkeep) string { return u.Result }},
			{Header: "TOOK", Wide: true, Value: func(u talos.Upkeep) string { return seconds(u.DurationSeconds) }},
			{Header: "FILESYSTEM", Wide: true, Value: func(u talos.Upkeep) string { return u.Filesystem }},
			{Header: "MOUNTED ON", Wide: true, Value: func(u talos.Upkeep) string { return u.Mountpoint }},
		},
		Name:    func(u talos.Upkeep) string { return u.Volume + " " + u.Work },
		Watched: true,
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Upkeep, error) {
		return n.Upkeep(ctx)
	})
}

func seconds(s float64) string {
	if s == 0 {
		return ""
	}

	return output.Seconds(s)
}

func when(t *time.Time) string {
	if t == nil {
		return ""
	}

	return output.Time(*t)
}
