// Package process holds `talosmate processes`.
package process

import (
	"context"
	"strconv"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// NewCmd makes the command.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	var (
		order string
		limit int
	)

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "processes", Aliases: []string{"process", "ps"}, Short: "List the processes of each node",
		Long: "List the processes of each node, those that hold the most memory first.",
		Example: "  talosmate processes -n worker-1 --sort cpu --limit 10\n" +
			"  talosmate processes -A --watch -o ndjson",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers},
		Flags: func(fs *cmdutil.Flags) {
			fs.Choice(&order, "sort", talos.ByResident, "order within each node, which decides what --limit keeps", talos.ByResident, talos.ByCPU, talos.ByPID)
			fs.IntVar(&limit, "limit", 0, "only the first of each node; 0 for all")
			fs.NotNegative("limit")
		},
	}, "ProcessList", cmdutil.NodeList[talos.Process]{
		Columns: []output.Column[talos.Process]{
			{Header: "PID", Value: func(p talos.Process) string { return strconv.Itoa(int(p.PID)) }},
			{Header: "STATE", State: true, Value: func(p talos.Process) string { return p.State }},
			{Header: "THREADS", Value: func(p talos.Process) string { return strconv.Itoa(int(p.Threads)) }},
			{Header: "CPU TIME", Value: func(p talos.Process) string { return output.Seconds(p.CPUSeconds) }},
			{Header: "RESIDENT", Value: func(p talos.Process) string { return output.Bytes(p.ResidentBytes) }},
			{Header: "VIRTUAL", Value: func(p talos.Process) string { return output.Bytes(p.VirtualBytes) }},
			{Header: "COMMAND", Value: func(p talos.Process) string { return p.Command }},
			{Header: "PPID", Wide: true, Value: func(p talos.Process) string { return strconv.Itoa(int(p.PPID)) }},
			{Header: "ARGS", Wide: true, Value: func(p talos.Process) string { return p.Args }},
		},
		Name:    func(p talos.Process) string { return strconv.Itoa(int(p.PID)) },
		Watched: true, Volatile: []string{"STATE"},
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Process, error) {
		list, err := n.Processes(ctx, order)
		if limit > 0 && len(list) > limit {
			list = list[:limit]
		}

		return list, err
	})
}
