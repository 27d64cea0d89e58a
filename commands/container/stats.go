package container

import (
	"context"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdStats(f *cmdutil.Factory) *cmdutil.Cmd {
	var (
		namespace string
		interval  time.Duration
	)

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "stats", Short: "Show what the containers of each node use",
		Long: "Show the memory and CPU time of pods with their containers. CPU is measured over --interval; 100% is\n" +
			"one processor.",
		Example: "  talosmate container stats -n worker-1 --interval 5s\n" +
			"  talosmate container stats -A --namespace system --sort-by -memory_bytes",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers},
		Flags: func(fs *cmdutil.Flags) {
			namespaceFlag(fs, &namespace)
			cmdutil.Interval(fs, &interval, "counters only")
		},
		Check: cmdutil.CheckInterval(&interval),
	}, "ContainerStatsList", cmdutil.NodeList[talos.ContainerStat]{
		Columns: []output.Column[talos.ContainerStat]{
			{Header: "CONTAINER", Value: func(s talos.ContainerStat) string { return tree(s.Sandbox, s.PodID, s.ID, s.Name) }},
			{Header: "MEMORY", Value: func(s talos.ContainerStat) string { return output.Bytes(s.MemoryBytes) }},
			{Header: "CPU", Value: percent},
			{Header: "CPU TIME", Value: func(s talos.ContainerStat) string { return output.Seconds(s.CPUSeconds) }},
		},
		Name:    func(s talos.ContainerStat) string { return s.ID },
		Watched: true,
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.ContainerStat, error) {
		before, after, passed, err := cmdutil.Twice(ctx, interval, func(ctx context.Context) ([]talos.ContainerStat, error) {
			return n.ContainerStats(ctx, namespace)
		})
		talos.SetCPUPercent(before, after, passed.Seconds())

		return after, err
	})
}

func percent(s talos.ContainerStat) string {
	if s.CPUPercent == nil {
		return ""
	}

	return fmt.Sprintf("%.1f%%", *s.CPUPercent)
}
