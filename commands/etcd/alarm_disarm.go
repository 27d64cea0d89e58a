package etcd

import (
	"context"
	"fmt"
	"io"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdAlarmDisarm(f *cmdutil.Factory) *cmdutil.Cmd {
	ch := change[etcd.Disarmed]{
		deadline: actTimeout,
		gates:    func(r etcd.Disarmed) []gate.Verdict { return r.Gates },
		status:   func(r *etcd.Disarmed) *runbook.Status { return &r.Status },
		name:     func(r etcd.Disarmed) string { return string(r.Status) },
		show:     showDisarmed,
	}

	return ch.command(f, cmdutil.Command{
		Use: "disarm", Short: "Disarm the alarms, once their cause is gone",
		Long: "Disarm all alarms of the cluster, asking one of the chosen nodes. NOSPACE is refused (TM160) as long as a\n" +
			"member's database still fills nine tenths of its quota: etcd would raise it again at once. Free space\n" +
			"first: compaction makes free pages, `etcd defrag` gives them back.",
		Example: "  talosmate etcd alarm disarm --controlplanes\n" +
			"  talosmate etcd alarm disarm -n cp-1 --dry-run -o json --query '.result.gates[].message'",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Operators()},
	}, "EtcdAlarmDisarm", func(c *cmdutil.Call) error {
		var node talos.Target

		ch.plan = func(ctx context.Context, env etcd.Env, v etcd.View) (etcd.Disarmed, error) {
			t, err := answering(c, v)
			if err != nil {
				return etcd.Disarmed{}, err
			}

			node = t
			usages, err := env.Usages(ctx, v)

			return v.PlanDisarm(usages), err
		}
		ch.act = func(ctx context.Context, env etcd.Env, _ etcd.View, plan etcd.Disarmed) (etcd.Disarmed, error) {
			return env.Disarm(ctx, plan, node)
		}

		return nil
	})
}

// answering is the first of the chosen nodes whose member answers: the request is for the whole cluster.
func answering(c *cmdutil.Call, v etcd.View) (talos.Target, error) {
	targets, err := c.Targets()
	if err != nil {
		return talos.Target{}, err
	}

	var firstErr error

	for _, t := range targets.Nodes {
		m, err := v.NodeMember(t)
		if err == nil && m.Healthy && !m.Learner {
			return t, nil
		}

		if firstErr == nil {
			firstErr = err
		}
	}

	if firstErr != nil {
		return talos.Target{}, firstErr
	}

	return targets.Nodes[0], nil // it answers without a leader: etcd itself says what it makes of that
}

func showDisarmed(w io.Writer, r etcd.Disarmed) error {
	if _, err := fmt.Fprintf(w, "Status: %s, %d alarms before, %d now\n", r.Status, len(r.Before), len(r.After)); err != nil {
		return err
	}

	if len(r.After) == 0 {
		return nil
	}

	return output.WriteTable(w, alarmColumns(), r.After)
}
