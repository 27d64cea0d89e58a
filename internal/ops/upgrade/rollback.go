package upgrade

import (
	"context"
	"fmt"

	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// canRollBack says whether the other boot slot holds the version before: the node answers on the new one.
func (r *Result) canRollBack() bool {
	return r.Status == VerifyFailed && r.Rebooted && r.BootIDAfter != ""
}

// rollBack brings a node that failed its verification back to the version before, and verifies that.
func rollBack(ctx context.Context, w *World, o Options, failed Result, sink progress.Sink) Result {
	r := newRun(w, o, sink)
	r.res = failed
	r.res.Rollback = &Rollback{RunningTag: failed.RunningTag}

	if err := r.goBack(ctx); err != nil {
		r.res.Rollback.Error = err.Error()
		r.stage("rollback", "%v", err)

		return r.res
	}

	r.res.Rollback.OK, r.res.Status = true, RolledBack
	r.res.TalosBack, r.res.RunningTag = true, r.res.Rollback.RunningTag
	r.res.Hint = "the node was rolled back and is well on its previous version"

	return r.res
}

func (r *run) goBack(ctx context.Context) error {
	before, err := r.seen.Probe(ctx, r.res.BootProof)
	if err != nil {
		return fmt.Errorf("cannot roll back %s: %w", r.w.Target.Name(), err)
	}

	// A request that an endpoint cannot deliver looks like one whose answer was lost, and would be waited for.
	if err = r.reachable(ctx); err != nil {
		return err
	}

	r.stage("rollback", "rolling back to %s", r.res.ServerTag)

	asked := r.w.Now()
	r.seen = r.w.witness()

	sent := runbook.Request{Limit: min(runbook.AnswerWithin, r.o.RebootTimeout), Send: r.w.Change.Rollback}.Once(ctx)

	switch {
	case sent.Answer == runbook.Lost:
		r.seen = boot.Doubting(r.seen, before, runbook.ShownWithin)
	case sent.Err != nil:
		return fmt.Errorf("cannot roll back %s: %w", r.w.Target.Name(), sent.Err)
	}

	seen, err := r.seen.AwaitNew(ctx, before, asked, r.o.RebootTimeout)
	if err != nil {
		return err
	}

	r.left = before
	r.res.Rollback.BootIDAfter, r.res.Rollback.DowntimeSeconds = seen.Boot.ID, seconds(seen.Downtime)

	version, err := r.readVersion(ctx)
	if err != nil {
		return err
	}

	r.res.Rollback.RunningTag = version.Tag

	if !release.Same(version.Tag, r.res.ServerTag) {
		return fmt.Errorf("%s came back on %s instead of %s", r.w.Target.Name(), version.Tag, r.res.ServerTag)
	}

	if r.res.K8sNodeName != "" {
		if _, err = r.connectKubernetes(ctx, r.res.K8sNodeName); err != nil {
			r.stage("rollback", "%v: going on without it", err)
		}
	}

	if err = r.settled(ctx); err != nil {
		return err
	}

	return r.mark(ctx, "")
}
