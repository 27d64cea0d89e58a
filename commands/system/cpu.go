package system

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdCPU(f *cmdutil.Factory) *cmdutil.Cmd {
	var interval time.Duration

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "cpu", Short: "Show the processors of each node and how busy they are",
		Long: "Show what processors each node has and how busy they are, measured over --interval.",
		Example: "  talosmate system cpu --interval 5s\n" +
			"  talosmate system cpu -A -o json --query '.items[] | .node + \" \" + .load.used_ratio'",
		Spec:  spec(),
		Flags: func(fs *cmdutil.Flags) { cmdutil.Interval(fs, &interval, "the mean since the boot") },
		Check: cmdutil.CheckInterval(&interval),
	}, "CPUList", cmdutil.NodeList[talos.CPU]{
		PerNode: true,
		Columns: []output.Column[talos.CPU]{
			{Header: "MODEL", Value: func(c talos.CPU) string { return c.Model }},
			{Header: "CORES", Value: func(c talos.CPU) string { return strconv.Itoa(c.Cores) }},
			{Header: "THREADS", Value: func(c talos.CPU) string { return strconv.Itoa(c.Threads) }},
			{Header: "USED", Value: part(func(l talos.CPULoad) float64 { return l.Used })},
			{Header: "USER", Value: part(func(l talos.CPULoad) float64 { return l.User })},
			{Header: "SYSTEM", Value: part(func(l talos.CPULoad) float64 { return l.System })},
			{Header: "IOWAIT", Value: part(func(l talos.CPULoad) float64 { return l.IOWait })},
			{Header: "STEAL", Wide: true, Value: part(func(l talos.CPULoad) float64 { return l.Steal })},
			{Header: "IDLE", Wide: true, Value: part(func(l talos.CPULoad) float64 { return l.Idle })},
			{Header: "MHZ", Wide: true, Value: func(c talos.CPU) string { return fmt.Sprintf("%.0f", c.MHz) }},
			{Header: "VENDOR", Wide: true, Value: func(c talos.CPU) string { return c.Vendor }},
		},
		Name:    func(c talos.CPU) string { return c.Node },
		Watched: true, Volatile: []string{"USER", "SYSTEM", "IOWAIT", "STEAL", "IDLE", "MHZ"},
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.CPU, error) {
		cpu, err := n.CPU(ctx)
		if err != nil {
			return nil, err
		}

		before, after, passed, err := cmdutil.Twice(ctx, interval, n.CPUTimes)
		cpu.IntervalSeconds = passed.Seconds()
		cpu.SetLoad(before, after)

		return []talos.CPU{cpu}, err
	})
}

func part(of func(talos.CPULoad) float64) func(talos.CPU) string {
	return func(c talos.CPU) string {
		if c.Load == nil {
			return ""
		}

		return output.Percent(of(*c.Load))
	}
}
