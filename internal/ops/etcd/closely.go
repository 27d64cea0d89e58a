package etcd

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/talos"
)

// directly is how long a node that gave no status by way of the endpoints gets to give one itself.
const directly = 3 * time.Second

// LookClosely is Look, and asks nodes that gave no status once more over connections of their own: an
// endpoint backs off towards a node that was away and answers for it with the refusal of before (seen up to
// 16 s late). Gates between two reboots look this way.
func LookClosely(ctx context.Context, c *talos.Cluster) (View, error) {
	v, err := Look(ctx, c)
	if err != nil || len(v.Unreachable) == 0 {
		return v, err
	}

	var (
		again    []Source
		answered []Answer
	)

	for _, a := range v.Answers {
		if a.Status != nil {
			answered = append(answered, a)

			continue
		}

		n, hangUp := c.Fresh(a.Target)
		defer func() { _ = hangUp() }() // the connection served its questions

		again = append(again, Source{Target: a.Target, Reader: n})
	}

	for i, fresh := range Gather(ctx, again, directly).Answers {
		if fresh.Status == nil {
			fresh = v.answerFor(again[i].Target) // what the endpoints said tells more
		}

		answered = append(answered, fresh)
	}

	if ctx.Err() != nil {
		return v, context.Cause(ctx)
	}

	return newView(answered), nil
}

func (v View) answerFor(t talos.Target) Answer {
	for _, a := range v.Answers {
		if a.Target.Address == t.Address {
			return a
		}
	}

	return Answer{Target: t}
}
