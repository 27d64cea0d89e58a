package node

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/progress"
)

// Sequence acts on several nodes: workers up to parallel at once, then control planes one at a time, each
// behind its own look at etcd. After a failure no further node is begun. The results are in the order of the
// worlds; the error joins those of the failed nodes.
func Sequence(ctx context.Context, worlds []*World, o Options, parallel int, sink progress.Sink) ([]Result, error) {
	results, failures := make([]Result, len(worlds)), make([]error, len(worlds))

	var (
		wg     errs.Group
		halted atomic.Bool
		slots  = make(chan struct{}, max(1, parallel))
	)

	one := func(i int) {
		if (halted.Load() && !o.DryRun) || ctx.Err() != nil {
			r := newRun(worlds[i], o, sink)
			r.res.Status = NotStarted
			results[i] = r.res

			return
		}

		failures[i] = errs.Safely(func() (err error) {
			results[i], err = Run(ctx, worlds[i], o, sink)

			return err
		})
		if results[i].Status == "" { // it panicked
			results[i] = newRun(worlds[i], o, sink).res
			results[i].Status = Unknown
		}

		if failures[i] != nil {
			halted.Store(true)
		}
	}

	for i, w := range worlds {
		if w.ControlPlane {
			wg.Wait() // no worker is on its way while a control plane goes
			one(i)

			continue
		}

		slots <- struct{}{}

		wg.Go(func() {
			defer func() { <-slots }()

			one(i)
		})
	}

	wg.Wait()

	succeeded := 0

	for i, err := range failures {
		if err == nil && results[i].Status != NotStarted {
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
