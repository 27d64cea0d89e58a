package talos

import (
	"context"
	"errors"
	"fmt"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// EachChange is Each for work that changes something: not through the node that is changed if there is another
// endpoint, and without a time limit, since the outcome of a sent request must be read. Values that fn returns with an
// error are kept. When ctx ends, no further node is started; the outcomes of those nodes say so and carry its cause.
func EachChange[T any](ctx context.Context, c *Cluster, targets []Target, fn func(context.Context, *Node) (T, error)) []Outcome[T] {
	return fanOut(targets, c.Options.Concurrency, func(t Target, out *Outcome[T], _ func()) {
		if ctx.Err() != nil {
			cause := context.Cause(ctx)
			out.Err = &errs.Error{
				Exit: errs.ExitCode(cause), Node: t.Address, Hostname: t.Hostname, Err: fmt.Errorf("%s was not started: %w", t.Name(), cause),
			}

			return
		}

		node := c.ChangingNode(t)
		out.Value, out.Err = safely(ctx, node, fn)
		out.Err = node.AfterChange(out.Err)
		nameNode(t, out.Err)

		if conn.KindOf(out.Err) == errs.KindUnimplemented {
			c.explainUnimplemented(ctx, node, out.Err)
		}
	})
}

// nameNode adds the node to a typed error that does not name one. The interruption itself, which wraps nothing, belongs
// to no node.
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

// AsNodeError turns a node's error into the typed one that documents list, and names the node in it.
func AsNodeError(t Target, err error) *errs.Error {
	nameNode(t, err)

	return errs.Typed(err, t.Address, t.Hostname)
}
