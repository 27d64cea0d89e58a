package talos

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/engine"
)

const (
	// nearestLimit bounds the question that tells which way to a node is open.
	nearestLimit = 3 * time.Second
	// directHeadStart is how long the direct way may still answer after the endpoints did.
	directHeadStart = 500 * time.Millisecond
)

// Nearest gives access to a node by a way that is open: directly over a fresh connection if the network lets
// us, else through the endpoints. Each endpoint backs off by itself towards a node that was away, for up to 16
// seconds after it is back, so that one answer through them says nothing about the next. Without an answer it
// is the usual way. The caller calls done. Roles: any but etcd:backup.
func (c *Cluster) Nearest(ctx context.Context, t Target) (n *Node, done func()) {
	via := c.Node(t)
	if via.Direct {
		return via, func() {}
	}

	ctx, cancel := context.WithTimeout(ctx, nearestLimit)
	defer cancel()

	fresh, hangUp := c.Fresh(t)
	done = func() { _ = hangUp() } // nothing is left to be said to the node

	ask := func(way *Node) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := way.Version(ctx)

			return err
		}
	}

	if engine.Prefer(ctx, directHeadStart, ask(fresh), ask(via)) == 0 {
		return fresh, done
	}

	return via, done
}
