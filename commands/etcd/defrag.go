package etcd

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/output"
)

type defragOptions struct {
	threshold        string
	settle, deadline time.Duration
}

func newCmdDefrag(f *cmdutil.Factory) *cmdutil.Cmd {
	var o defragOptions

	return cmdutil.New(f, cmdutil.Command{
		Use: "defrag", Aliases: []string{"defragment"}, Short: "Defragment etcd members, one at a time, the leader last",
		Long: "Defragment the members of the chosen nodes. A member serves nothing while it defragments, so that they\n" +
			"take turns, the leader last, and the whole cluster is checked between: the sweep stops when a member is\n" +
			"unhealthy or an alarm other than NOSPACE is active. --threshold skips members that need none.",
		Example: "  talosmate etcd defrag --controlplanes --threshold 50%\n" +
			"  talosmate etcd defrag -n cp-1 -o json --query '.items[].freed_bytes'",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Operators()},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVar(&o.threshold, "threshold", "0%", "skip members with less than this part of the file free")
			fs.Positive(&o.deadline, "member-timeout", 10*time.Minute, "how long one member may take")
			waitFlag(fs, &o.settle)
		},
	}, cmdutil.ListOf[etcd.Defragmented]("EtcdDefragList"), o.run)
}

func (o *defragOptions) run(c *cmdutil.Call) error {
	threshold, err := ratio(o.threshold)
	if err != nil {
		return err
	}

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	targets, err := c.Targets()
	if err != nil {
		return err
	}

	env := etcd.Env{
		Access: etcd.Through(cluster), Now: c.Printer.Now, Progress: c.Progress(), Begin: c.BeginChange, Settle: o.settle, Deadline: o.deadline,
	}

	v, err := env.Access.Look(c.Context())
	if err != nil {
		return err
	}

	rows, verdicts, missing := v.PlanDefrag(targets.Nodes, threshold)

	if err = errors.Join(missing, gate.Apply(verdicts, c.Overrides)); err != nil {
		etcd.NotReached(rows)

		return cmdutil.PrintList(c, rows, err, defragColumns(), func(d etcd.Defragmented) string { return d.ID })
	}

	for _, verdict := range verdicts {
		if verdict.Verdict == gate.Warn {
			c.Warn("%s: %s", verdict.Gate, verdict.Message)
		}
	}

	if !c.DryRun {
		rows, err = env.Defrag(c.Context(), rows, c.Overrides)
	}

	return cmdutil.PrintList(c, rows, err, defragColumns(), func(d etcd.Defragmented) string { return d.ID })
}

// ratio reads 50% or 0.5.
func ratio(s string) (float64, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(s), "%")

	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}

	if err != nil || !(v >= 0 && v <= 1) {
		return 0, errs.Usagef("bad --threshold %q, want 0%% to 100%%, or 0 to 1", s)
	}

	return v, nil
}

func defragColumns() []output.Column[etcd.Defragmented] {
	type row = etcd.Defragmented

	return []output.Column[row]{
		{Header: "NODE", Value: row.NodeName},
		{Header: "ADDRESS", Wide: true, Value: func(d row) string { return d.Node }},
		{Header: "ID", Wide: true, Value: func(d row) string { return d.ID }},
		{Header: "STATUS", State: true, Value: func(d row) string { return string(d.Status) }},
		{Header: "LEADER", Value: func(d row) string { return output.YesNo(d.Leader) }},
		{Header: "BEFORE", Value: func(d row) string { return output.Bytes(d.BeforeBytes) }},
		{Header: "AFTER", Value: func(d row) string { return output.Bytes(d.AfterBytes) }},
		{Header: "FREED", Value: func(d row) string { return output.Bytes(d.FreedBytes) }},
		{Header: "FREE BEFORE", Value: func(d row) string { return output.Percent(d.FragmentationBefore) }},
		{Header: "TOOK", Value: func(d row) string { return output.Seconds(d.DurationSeconds) }},
		{Header: "MESSAGE", Value: func(d row) string { return d.Message }},
	}
}
