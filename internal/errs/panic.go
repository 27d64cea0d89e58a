package errs

import (
	"fmt"
	"runtime/debug"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Panic is a panic that was recovered.
type Panic struct {
	Value any    // The value of the panic.
	Stack []byte // The stack trace.
}

// Error implements error.
func (p *Panic) Error() string { return fmt.Sprintf("internal error: %v", p.Value) }

// Catch recovers from a panic of the function that defers it and stores it as an error.
func Catch(err *error) {
	if v := recover(); v != nil {
		*err = asPanic(v)
	}
}

// Safely calls f and returns a panic as an error.
func Safely(f func() error) (err error) {
	defer Catch(&err)

	return f()
}

func asPanic(v any) *Panic {
	if p, again := v.(*Panic); again {
		return p
	}

	return &Panic{Value: v, Stack: debug.Stack()}
}

// Group runs functions in goroutines, up to a limit at once. A panic in one of them panics again in Wait, where the
// node or the command that the work belongs to catches it. It is the one bounded fan-out of the program.
type Group struct {
	group errgroup.Group
	mu    sync.Mutex
	first *Panic
}

// SetLimit bounds how many functions run at once; further calls of Go wait. It must be called before them.
func (g *Group) SetLimit(n int) { g.group.SetLimit(n) }

// Go calls f in a new goroutine.
func (g *Group) Go(f func()) {
	g.group.Go(func() error {
		defer func() {
			if v := recover(); v != nil {
				g.mu.Lock()
				defer g.mu.Unlock()

				if g.first == nil {
					g.first = asPanic(v)
				}
			}
		}()

		f()

		return nil
	})
}

// Wait waits for all functions.
func (g *Group) Wait() {
	_ = g.group.Wait() // the functions return nothing

	if g.first != nil {
		panic(g.first)
	}
}
