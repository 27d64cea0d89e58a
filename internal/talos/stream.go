package talos

import (
	"context"
)

// EachStream is Each for streams: without a deadline on the whole call, since its length depends on the data. With
// together all targets are asked at once, which followers need; otherwise up to the cluster's concurrency.
func EachStream[T any](ctx context.Context, c *Cluster, targets []Target, together bool, fn func(context.Context, *Node) (T, error)) []Outcome[T] {
	limit := c.Options.Concurrency
	if together {
		limit = len(targets)
	}

	return fanOut(targets, limit, func(t Target, out *Outcome[T], leave func()) {
		node := c.Node(t)

		defer ifSilent(node, streamPatience, leave)()

		out.Value, out.Err = safely(ctx, node, fn)
	})
}
