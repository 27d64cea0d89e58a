package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
)

// finish settles the result.
func (a *apply) finish(ctx context.Context, err error) (ApplyResult, error) {
	now := a.cluster.Now()
	a.res.FinishedAt, a.res.ElapsedSeconds = now.UTC(), runbook.Seconds(now.Sub(a.began))

	changed := map[string]bool{}
	for _, r := range a.res.Nodes {
		changed[r.Node] = changed[r.Node] || r.Status != runbook.AlreadyCurrent
	}

	for _, n := range a.plan.Nodes {
		switch state := a.state[n.Node]; {
		case state == stateFailed:
			a.res.Failed++
		case n.Action == upgrade.ActSkip, state == stateDone && !changed[n.Node]:
			a.res.Skipped = append(a.res.Skipped, n.NodeName())
		case state == stateDone:
			a.res.Upgraded++
		default:
			a.res.Remaining = append(a.res.Remaining, n.NodeName())
		}
	}

	a.noteOverridden()

	switch a.res.Status = a.ends(ctx, err); a.res.Status {
	case runbook.Interrupted:
		a.res.Hint = "run the same command again: what is done is skipped, and what is half done is finished"
	case runbook.Halted:
		// What halted the run between two nodes knows best.
		if hints := errs.Hints(err); a.res.Hint == "" && len(a.fails) == 0 && len(hints) > 0 {
			a.res.Hint = hints[0]
		}

		if a.res.Hint == "" {
			a.res.Hint = "see to the node that failed, then run the same command again: what is done is skipped"
		}
	}

	err = a.typed(err)

	// The end names the nodes that were not planned.
	if unplanned := a.plan.unplanned(); unplanned != nil && a.res.Status != runbook.Refused {
		err = errors.Join(err, unplanned)

		if a.res.Status == runbook.OK || a.res.Status == runbook.AlreadyCurrent {
			a.res.Status, a.res.Hint = runbook.Partial, "nodes that could not be asked were left out: bring them back, and make a new plan"
		}
	}

	if err != nil {
		a.res.Error = err.Error()
	}

	a.sink.Emit(progress.Event{Time: now, Stage: string(a.res.Status), Message: a.summary(), Done: true, Failed: err != nil})

	return a.res, err
}

// ends is how the run ends.
func (a *apply) ends(ctx context.Context, err error) runbook.Status {
	switch s := a.res.Status; {
	case s == runbook.Refused, s == runbook.Planned, s == runbook.AlreadyCurrent, s == runbook.Partial:
		return s
	case ctx.Err() != nil:
		return runbook.Interrupted
	case s == runbook.Failed:
		return s
	case err != nil:
		return runbook.Halted
	default:
		return runbook.OK
	}
}

// noteOverridden lists what was passed on purpose: for the cluster, in the plan, and at the nodes themselves.
func (a *apply) noteOverridden() {
	for _, n := range a.plan.Nodes {
		a.overridden(n.Gates)
	}

	a.overridden(a.res.Gates)

	for _, n := range a.res.Nodes {
		a.overridden(n.Gates)
	}

	slices.Sort(a.res.OverriddenGates)
	a.res.OverriddenGates = slices.Compact(a.res.OverriddenGates)
}

func (a *apply) overridden(verdicts []gate.Verdict) {
	for _, v := range verdicts {
		if v.Verdict == gate.Overridden {
			a.res.OverriddenGates = append(a.res.OverriddenGates, string(v.Gate))
		}
	}
}

func (a *apply) summary() string {
	return fmt.Sprintf("%d upgraded, %d failed, %d skipped, %d remaining, %.0f s", a.res.Upgraded, a.res.Failed, len(a.res.Skipped),
		len(a.res.Remaining), a.res.ElapsedSeconds)
}

// typed gives the run's error its exit code: the nodes' own, or partial where some came through.
func (a *apply) typed(err error) error {
	if err == nil || a.res.Status == runbook.Refused || a.res.Status == runbook.Interrupted {
		return err
	}

	if len(a.fails) == 0 {
		if a.res.Status == runbook.Halted && a.res.Upgraded > 0 {
			return &errs.Error{Exit: errs.Partial, Kind: errs.KindFailed, Hint: a.res.Hint, Err: err}
		}

		if errors.Is(err, errHalted) {
			return &errs.Error{Exit: errs.Refused, Kind: errs.KindRefused, Hint: a.res.Hint, Err: err}
		}

		return err
	}

	nodes := &errs.Nodes{Succeeded: a.res.Upgraded}

	for _, e := range a.fails {
		nodes.Errors = append(nodes.Errors, errs.Typed(e, "", ""))
	}

	return nodes
}
