package talos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// Outcome is the result of one node.
type Outcome[T any] struct {
	Target Target
	Value  T
	Err    error
}

// A node that was asked and has sent nothing is only waited for, which costs it no place among those that are worked on.
const (
	patience       = 10 * time.Millisecond // How long a node that was asked for a small answer keeps its place in silence.
	streamPatience = time.Second           // The same for a stream, which costs more once it flows.
	maxOpen        = 512                   // How many nodes are asked at once, those that are waited for among them.
)

// fanOut fills one outcome for each target, up to limit at once. The outcomes are in the order of the targets. fill may
// call leave to give its place to the next target before it ends.
func fanOut[T any](targets []Target, limit int, fill func(t Target, out *Outcome[T], leave func())) []Outcome[T] {
	out := make([]Outcome[T], len(targets))
	places := make(chan struct{}, max(1, limit))

	var group errs.Group

	group.SetLimit(max(maxOpen, limit))

	for i, t := range targets {
		places <- struct{}{}

		leave := sync.OnceFunc(func() { <-places })

		group.Go(func() {
			defer leave()

			out[i].Target = t
			fill(t, &out[i], leave)
		})
	}

	group.Wait()

	return out
}

// ifSilent calls leave after a time in which nothing came from a node, unless the function that it returns is called before.
// Silent nodes would otherwise hold up those behind them for one deadline after the other, and healthy ones for one round
// trip after the other.
func ifSilent(n *Node, after time.Duration, leave func()) (done func() bool) {
	return time.AfterFunc(after, func() {
		if !n.Answered() {
			leave()
		}
	}).Stop
}

// Each calls fn for every target, in parallel up to the cluster's concurrency, each call with its own read timeout. The
// outcomes are in the order of the targets. A node that is down costs one outcome, and the others no time.
func Each[T any](ctx context.Context, c *Cluster, targets []Target, fn func(context.Context, *Node) (T, error)) []Outcome[T] {
	return fanOut(targets, c.Options.Concurrency, func(t Target, out *Outcome[T], leave func()) {
		node := c.Node(t)

		defer ifSilent(node, patience, leave)()

		callCtx, cancel := c.withTimeout(ctx, t.Silent)
		defer cancel()

		out.Value, out.Err = safely(callCtx, node, fn)
		if from := node.Peer(); from != nil && len(t.AnyOf) > 0 {
			out.Target.Address = *from
		}

		if conn.KindOf(out.Err) == errs.KindUnimplemented {
			c.explainUnimplemented(ctx, node, out.Err)
		}
	})
}

// safely calls fn for a node; a panic is an error that names the node.
func safely[T any](ctx context.Context, n *Node, fn func(context.Context, *Node) (T, error)) (value T, err error) {
	var panicked *errs.Panic

	err = errs.Safely(func() (err error) {
		value, err = fn(ctx, n)

		return err
	})
	if errors.As(err, &panicked) {
		err = n.Blame("ask", err)
	}

	return value, err
}

// explainUnimplemented adds the node's version to the hint.
func (c *Cluster) explainUnimplemented(ctx context.Context, n *Node, err error) {
	var typed *errs.Error
	if !errors.As(err, &typed) || typed.Hint != "" {
		return
	}

	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()

	v, verr := n.Version(ctx)
	if verr != nil {
		return
	}

	typed.Hint = fmt.Sprintf("the node runs Talos %s", v.Tag)
	if c.Options.Since != "" {
		typed.Hint += fmt.Sprintf("; this needs %s or newer", c.Options.Since)
	}
}

// Collect splits outcomes into values and the joined error of the failed nodes, nil if none failed. question marks
// commands that ask whether everything is healthy: a missing node makes the answer no.
func Collect[T any](outcomes []Outcome[T], question bool) ([]Outcome[T], error) {
	var good []Outcome[T]

	failed := &errs.Nodes{Question: question}

	for _, o := range outcomes {
		if o.Err == nil {
			good = append(good, o)

			continue
		}

		failed.Errors = append(failed.Errors, errs.Typed(o.Err, o.Target.Address, o.Target.Hostname))
	}

	if len(failed.Errors) == 0 {
		return good, nil
	}

	failed.Succeeded = len(good)

	return good, failed
}
