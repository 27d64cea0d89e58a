// Package engine holds what every long operation is made of: an undo stack, bounded waiting, and the
// proof that a context's end is an end.
package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Undo is a stack of acts that take back what was done. An act is registered before the deed it undoes, so
// that no interruption can fall between the two.
type Undo struct {
	mu   sync.Mutex
	acts []*undoAct
}

type undoAct struct {
	name string
	fn   func(context.Context) error
	off  bool
}

// Push registers an act. The returned function takes it off the stack: what was done shall stay.
func (u *Undo) Push(name string, fn func(context.Context) error) func() {
	u.mu.Lock()
	defer u.mu.Unlock()

	act := &undoAct{name: name, fn: fn}
	u.acts = append(u.acts, act)

	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()

		act.off = true
	}
}

// Run undoes everything in reverse order, each act on a context of its own that survives the end of ctx.
// It returns what could not be undone.
func (u *Undo) Run(ctx context.Context, each time.Duration) error {
	u.mu.Lock()
	acts := slices.Clone(u.acts)
	u.acts = nil
	u.mu.Unlock()

	var all []error

	for _, act := range slices.Backward(acts) {
		if act.off {
			continue
		}

		undoCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), each)
		if err := act.fn(undoCtx); err != nil {
			all = append(all, fmt.Errorf("cannot undo %q: %w", act.name, err))
		}

		cancel()
	}

	return errors.Join(all...)
}
