package container

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdStats(f *cmdutil.Factory) *cobra.Command {
	var (
		namespace string
		interval  time.Duration
	)

	return cmdutil.NewNodeList(f, cmdutil.NodeList[talos.ContainerStat]{
		Use: "stats", Short: "Show what the containers of each node use",
		Long: "Show the memory and CPU time of pods with their containers. CPU is measured over --interval; 100% is\n" +
			"one processor.",
		Example: "  talosmate container stats -n worker-1 --interval 5s\n" +
			"  talosmate container stats -A --namespace system --sort-by -memory_bytes",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Schema: "ContainerStatsList", Default: talos.DefaultMembers},
		Flags: func(fs *pflag.FlagSet) {
			namespaceFlag(fs, &namespace)
			cmdutil.Interval(fs, &interval, "counters only")
		},
		Before: cmdutil.CheckInterval(&interval),
		Columns: []output.Column[talos.ContainerStat]{
			{Header: "CONTAINER", Value: func(s talos.ContainerStat) string { return tree(s.Sandbox, s.PodID, s.ID, s.Name) }},
			{Header: "MEMORY", Value: func(s talos.ContainerStat) string { return output.Bytes(s.MemoryBytes) }},
			{Header: "CPU", Value: percent},
			{Header: "CPU TIME", Value: func(s talos.ContainerStat) string { return output.Seconds(s.CPUSeconds) }},
		},
		Name: func(s talos.ContainerStat) string { return s.ID },
		Fetch: func(ctx context.Context, n *talos.Node, _ []string) ([]talos.ContainerStat, error) {
			before, after, passed, err := cmdutil.Twice(ctx, interval, func(ctx context.Context) ([]talos.ContainerStat, error) {
				return n.ContainerStats(ctx, namespace)
			})
			talos.SetCPUPercent(before, after, passed.Seconds())

			return after, err
		},
	})
}

func percent(s talos.ContainerStat) string {
	if s.CPUPercent == nil {
		return ""
	}

	return fmt.Sprintf("%.1f%%", *s.CPUPercent)
}
