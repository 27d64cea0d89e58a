package node

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
)

// Sequence carries out an operation on several nodes, in their order: workers up to parallel at once, control planes
// one at a time, each behind its own quorum gate. After a failure no further node is begun. The results are in the
// order of the nodes; the error joins those of the failed ones.
func Sequence(ctx context.Context, nodes []*probe.Node, o Options, parallel int, sink progress.Sink) ([]Result, error) {
	results, failures := make([]Result, len(nodes)), make([]error, len(nodes))

	var halted atomic.Bool

	one := func(i int) {
		if (halted.Load() && !o.DryRun) || ctx.Err() != nil {
			r := newRun(nodes[i], o, sink)
			r.Status = runbook.NotStarted
			results[i] = r.result()

			return
		}

		failures[i] = errs.Safely(func() (err error) {
			results[i], err = Run(ctx, nodes[i], o, sink)

			return err
		})
		if results[i].Status == runbook.Unfinished { // it panicked
			r := newRun(nodes[i], o, sink)
			r.Status = runbook.Unknown
			results[i] = r.result()
		}

		if failures[i] != nil {
			halted.Store(true)
		}
	}

	var workers errs.Group

	workers.SetLimit(max(1, parallel))

	for i, n := range nodes {
		if n.ControlPlane {
			workers.Wait() // no worker is down while a control plane is
			one(i)
		} else {
			workers.Go(func() { one(i) })
		}
	}

	workers.Wait()

	succeeded := 0

	for i, err := range failures {
		if err == nil && results[i].Status != runbook.NotStarted {
			succeeded++
		}
	}

	err := failedNodes(failures, succeeded)
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}

	return results, err
}

func failedNodes(all []error, succeeded int) error {
	failed := &errs.Nodes{Succeeded: succeeded}

	for _, err := range all {
		if typed, ok := err.(*errs.Error); ok { //nolint:errorlint // Run gives exactly this type
			failed.Errors = append(failed.Errors, typed)
		}
	}

	if len(failed.Errors) == 0 {
		return nil
	}

	return failed
}
