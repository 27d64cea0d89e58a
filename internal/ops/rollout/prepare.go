package rollout

import (
	"context"
	"fmt"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// snapshot saves etcd before anything is touched.
func (a *apply) snapshot(ctx context.Context) error {
	if a.o.Snapshot == "" || a.cluster.Snapshot == nil {
		return nil
	}

	a.tell("", "snapshot", "etcd into %s", a.o.Snapshot)

	a.res.Status = runbook.Failed

	snap, verdict, err := a.cluster.Snapshot(ctx, a.o.Snapshot)
	if err != nil {
		return fmt.Errorf("cannot take a snapshot of etcd first: %w", err)
	}

	a.res.Snapshot, a.res.Status = &snap, ""
	verdicts := []gate.Verdict{verdict}
	err = gate.Apply(verdicts, a.o.Node.Overrides)
	a.verdict(verdicts...)
	a.tell("", "snapshot", "%s", verdict.Message)

	if err != nil {
		a.res.Status = runbook.Refused
	}

	return err
}

// prePull fetches the first hop's image on all nodes before the first is disturbed.
func (a *apply) prePull(ctx context.Context) error {
	var (
		targets []talos.Target
		refs    []string
	)

	for _, n := range a.plan.Nodes {
		if upgrade.Installs(n.Action) && len(n.Hops) > 0 && !a.o.Node.RebootOnly {
			targets = append(targets, a.cluster.Target(n.NodeRef))
			refs = append(refs, n.Hops[0].Image)
		}
	}

	failed := make([]error, len(targets))

	SideBySide(targets, func(i int, t talos.Target) {
		a.beginChange()
		failed[i] = a.pull(ctx, t, refs[i])
	})

	if err := NodeErrors(ctx, targets, failed, false); err != nil {
		a.res.Hint = "no node was disturbed"

		return fmt.Errorf("cannot pull the image on every node: %w", err)
	}

	return nil
}

func (a *apply) pull(ctx context.Context, t talos.Target, ref string) error {
	a.tell(t.Name(), "pull", "pulling %s", ref)

	_, err := a.cluster.Node(t).Change.PullImage(ctx, talos.NamespaceSystem, ref, func(p talos.PullProgress) {
		a.sink.Emit(progress.Event{
			Time: a.cluster.Now(), Node: t.Name(), Stage: "pull", Message: "layer " + p.Layer, Current: p.Offset, Total: p.Total,
		})
	})
	if err == nil {
		a.tell(t.Name(), "pull", "pulled; waiting for its turn")
	}

	return err
}
