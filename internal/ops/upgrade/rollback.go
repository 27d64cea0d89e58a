package upgrade

import (
	"context"
	"fmt"

	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// CanRollBack reports whether the other boot slot holds the previous version: the node answers on the new one.
func (r *Result) CanRollBack() bool {
	return r.Status == runbook.VerifyFailed && r.Rebooted && r.BootIDAfter != ""
}

// RollBack brings a node that failed its verification back to its previous version, and verifies that.
func RollBack(ctx context.Context, n *probe.Node, o Options, failed Result, sink progress.Sink) Result {
	r := newRun(n, o, sink)
	*r.res = failed
	r.Known = failed.UnmetBefore
	r.K8sName, r.Status = failed.K8sNodeName, failed.Status
	r.res.Rollback = &Rollback{RunningTag: failed.RunningTag}

	if err := r.goBack(ctx); err != nil {
		r.res.Rollback.Error = err.Error()
		r.Stage("rollback", "%v", err)

		return *r.res
	}

	r.res.Rollback.OK, r.res.Status = true, runbook.RolledBack
	r.Obs.TalosBack, r.Obs.RunningTag = true, r.res.Rollback.RunningTag
	r.Rec.Hint = "the node was rolled back and is healthy on its previous version"

	return *r.res
}

func (r *run) goBack(ctx context.Context) (err error) {
	defer r.SequenceError()

	if r.Before, err = r.Prober.Boot(ctx, r.Obs.BootProof); err != nil {
		return fmt.Errorf("cannot roll back %s: %w", r.Target.Name(), err)
	}

	// A request that an endpoint cannot deliver looks like one whose answer was lost, and would be waited for.
	if err = r.reachable(ctx); err != nil {
		return err
	}

	r.Stage("rollback", "rolling back to %s", r.Obs.ServerTag)

	if err = r.Ask(ctx, min(runbook.AnswerWithin, r.o.RebootTimeout), runbook.ShownWithin, r.Node.Change.Rollback); err != nil {
		return fmt.Errorf("cannot roll back %s: %w", r.Target.Name(), err)
	}

	back, err := r.Prober.AwaitNew(ctx, r.Before, r.Asked, r.o.RebootTimeout)
	if err != nil {
		return err
	}

	r.Ended = r.Before
	r.res.Rollback.BootIDAfter, r.res.Rollback.DowntimeSeconds = back.Boot.ID, runbook.Seconds(back.Downtime)

	version, err := r.Version(ctx, nil)
	if err != nil {
		return err
	}

	r.res.Rollback.RunningTag = version.Tag

	if !release.Same(version.Tag, r.Obs.ServerTag) {
		return fmt.Errorf("%s came back on %s instead of %s", r.Target.Name(), version.Tag, r.Obs.ServerTag)
	}

	if r.K8sName != "" {
		if _, _, err = r.Connect(ctx, 0); err != nil {
			r.Kube = nil
			r.Stage("rollback", "%v: continuing without it", err)
		}
	}

	if err = r.settled(ctx); err != nil {
		return err
	}

	return r.mark(ctx, "")
}
