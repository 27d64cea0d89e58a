package talos

import (
	"context"
	"errors"
	"fmt"

	"github.com/talosmate/talosmate/internal/errs"
)

// EachChange calls fn for every target like Each, for work that changes something: never through the node
// that is changed where that can be helped, and without a time limit of its own, since what was sent has to be seen to
// its end. What fn returns beside an error is kept. When ctx ends no further node is begun; those say so, and
// carry its cause.
func EachChange[T any](ctx context.Context, c *Cluster, targets []Target, fn func(context.Context, *Node) (T, error)) []Outcome[T] {
	out := make([]Outcome[T], len(targets))
	slots := make(chan struct{}, c.Options.Concurrency)

	var wg errs.Group

	for i, t := range targets {
		slots <- struct{}{}

		wg.Go(func() {
			defer func() { <-slots }()

			out[i].Target = t

			if ctx.Err() != nil {
				cause := context.Cause(ctx)
				out[i].Err = &errs.Error{
					Exit: errs.ExitCode(cause), Node: t.Address, Hostname: t.Hostname, Err: fmt.Errorf("%s was not begun: %w", t.Name(), cause),
				}

				return
			}

			node := c.ChangingNode(t)
			out[i].Value, out[i].Err = safely(ctx, node, fn)
			nameNode(t, out[i].Err)

			if KindOf(out[i].Err) == errs.KindUnimplemented {
				c.explainUnimplemented(ctx, node, out[i].Err)
			}
		})
	}

	wg.Wait()

	return out
}

// nameNode puts the node into a typed error that does not name one.
// The interruption itself, which wraps nothing, is no node's.
func nameNode(t Target, err error) {
	var typed *errs.Error
	if errors.As(err, &typed) && typed.Node == "" && (typed.Exit != errs.Interrupted || errors.Unwrap(typed.Err) != nil) {
		typed.Node, typed.Hostname = t.Address, t.Hostname
	}
}

// Failed joins the errors of failed nodes; nil if none failed.
func Failed[T any](outcomes []Outcome[T]) error {
	_, err := Collect(outcomes, false)

	return err
}

// AsNodeError makes a node's error the typed one that documents list, and names the node in it.
func AsNodeError(t Target, err error) *errs.Error {
	nameNode(t, err)

	return asNodeError(t, err)
}
