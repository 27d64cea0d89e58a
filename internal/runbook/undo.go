package runbook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
)

// Undo is a stack of functions that undo changes. A function is pushed before the change that it undoes, so that no
// interruption can fall between the two.
type Undo struct {
	mu    sync.Mutex
	steps []*undoStep
}

type undoStep struct {
	name string
	fn   func(context.Context) error
	off  bool
}

// Push adds a function. The function that it returns removes it again, for a change that is to stay.
func (u *Undo) Push(name string, fn func(context.Context) error) func() {
	u.mu.Lock()
	defer u.mu.Unlock()

	step := &undoStep{name: name, fn: fn}
	u.steps = append(u.steps, step)

	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()

		step.off = true
	}
}

// Around calls fn and undoes what it has pushed, also after a panic, which is an error like any other.
func (u *Undo) Around(ctx context.Context, each time.Duration, fn func() error) error {
	err := errs.Safely(fn)

	return errors.Join(err, u.Run(ctx, each))
}

// Run calls the functions in reverse order, each with a context of its own that survives the end of ctx. It returns
// the errors of what could not be undone.
func (u *Undo) Run(ctx context.Context, each time.Duration) error {
	u.mu.Lock()
	steps := slices.Clone(u.steps)
	u.steps = nil
	u.mu.Unlock()

	var all []error

	for _, step := range slices.Backward(steps) {
		if step.off {
			continue
		}

		undoCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), each)
		if err := step.fn(undoCtx); err != nil {
			all = append(all, fmt.Errorf("cannot undo %q: %w", step.name, err))
		}

		cancel()
	}

	return errors.Join(all...)
}
