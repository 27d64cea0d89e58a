package errs

import (
	"fmt"
	"runtime/debug"
	"sync"
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

// Group is a sync.WaitGroup for work that can panic: Wait panics again in the caller's goroutine, where the node or the
// command that the work belongs to recovers.
type Group struct {
	wg    sync.WaitGroup //nolint:forbidigo // the one place where groups of goroutines are started
	mu    sync.Mutex
	first *Panic
}

// Go calls f in a goroutine of its own.
func (g *Group) Go(f func()) {
	g.wg.Go(func() {
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
	})
}

// Wait waits for every goroutine.
func (g *Group) Wait() {
	g.wg.Wait()

	if g.first != nil {
		panic(g.first)
	}
}
