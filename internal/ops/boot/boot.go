// Package boot waits for nodes that go away and come back, and proves by observation that they did: a new
// boot, a settled machine, an etcd member that knows a leader, a Ready Kubernetes node. Events play no part:
// a stream of events dies with the node that sends it. Upgrade, reboot, rollback and reset wait here.
package boot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos"
)

// How often and how long is asked.
const (
	Poll       = 250 * time.Millisecond // Between two looks for a new boot.
	VerifyPoll = 500 * time.Millisecond // Between two looks at a node that is back.
	ProbeLimit = 3 * time.Second        // For the answer to one question.

	headStart = 500 * time.Millisecond // How long the direct way may still answer after the endpoints did.
)

// Booter tells which boot a node is in; *talos.Node is one.
type Booter interface {
	Boot(ctx context.Context) (talos.Boot, error)
}

// Witness asks one node by two ways. A node that was away answers directly sooner than through an endpoint,
// which backs off towards it; where the network does not let us reach the node, only the endpoint answers.
type Witness[N Booter] struct {
	Name  string                   // The node in messages.
	Via   N                        // By way of the endpoints, never the node itself if that can be helped.
	Fresh func() (N, func() error) // The node itself, over a connection of its own; the function closes it.
	Now   func() time.Time

	doubt *Doubt // Whether the node was reached at all; nil for no doubt.
}

// Return is a node seen in another boot.
type Return struct {
	Boot talos.Boot // The new boot.
	// Downtime is from the last answer of the old boot to the first of the new one.
	Downtime time.Duration
	// Lag bounds how late the new boot was noticed: it had not answered to the look that began this long before.
	Lag time.Duration
}

// AwaitNew waits until the node proves another boot than before, whose kind of proof is the only one that
// counts. asked is when it was told to go. The error wraps poll.ErrDeadline, or ErrNotBegun where there is a
// doubt, or is the cause of ctx's end.
func (w Witness[N]) AwaitNew(ctx context.Context, before talos.Boot, asked time.Time, deadline time.Duration) (Return, error) {
	var seen Return

	lastUp, lastLook := asked, asked

	err := poll.Until(ctx, "a new boot of "+w.Name, Poll, deadline, func(ctx context.Context) (bool, string, error) {
		began := w.Now()
		now, err := w.Probe(ctx, before.Proof)

		if notBegun := w.doubt.see(ctx, now, err); notBegun != nil {
			return false, "", notBegun
		}

		switch {
		case err != nil:
			lastLook = began

			return false, "the node does not answer", nil
		case now.ID == before.ID:
			lastUp, lastLook = w.Now(), began

			return false, "the node still runs its old boot", nil
		default:
			seen = Return{Boot: now, Downtime: w.Now().Sub(lastUp), Lag: w.Now().Sub(lastLook)}

			return true, "", nil
		}
	})

	return seen, err
}

// AwaitGone waits until the node has not answered, by neither way, for a while: it is off, or on its way.
// One look that fails proves nothing. It returns how long after asked it answered last.
func (w Witness[N]) AwaitGone(ctx context.Context, asked time.Time, quiet, deadline time.Duration) (time.Duration, error) {
	lastUp := asked

	err := poll.Until(ctx, w.Name+" to be off", Poll, deadline, func(ctx context.Context) (bool, string, error) {
		began := w.Now()

		now, err := w.Probe(ctx, "")
		if notBegun := w.doubt.see(ctx, now, err); notBegun != nil {
			return false, "", notBegun
		}

		if err == nil {
			lastUp = w.Now()

			return false, "the node still answers", nil
		}

		return began.Sub(lastUp) >= w.doubt.quiet(quiet), "the node stopped answering a moment ago", nil
	})

	return lastUp.Sub(asked), err
}

// Probe reads the boot by both ways at once and takes the first answer with the wanted proof, any when it
// is empty.
func (w Witness[N]) Probe(ctx context.Context, proof string) (talos.Boot, error) {
	ctx, cancel := context.WithTimeout(ctx, ProbeLimit)
	defer cancel()

	type answer struct {
		boot talos.Boot
		err  error
	}

	fresh, hangUp := w.Fresh()
	answers := make(chan answer, 2)

	for _, n := range []N{fresh, w.Via} {
		go func() {
			var boot talos.Boot

			err := errs.Safely(func() (err error) {
				boot, err = n.Boot(ctx)

				return err
			})
			if err == nil && proof != "" && boot.Proof != proof {
				err = fmt.Errorf("the boot can only be told by %s", boot.Proof)
			}

			answers <- answer{boot, err}
		}()
	}

	first := <-answers
	if first.err != nil {
		second := <-answers
		first = answer{second.boot, errors.Join(first.err, second.err)}

		if second.err == nil {
			first.err = nil
		}
	}

	return first.boot, errors.Join(first.err, hangUp())
}

// Still says whether the node still runs a boot.
func (w Witness[N]) Still(ctx context.Context, before talos.Boot) bool {
	boot, err := w.Probe(ctx, before.Proof)

	return err == nil && boot.ID == before.ID
}

// Ask puts one question to the node by a way that is open, directly if the network lets us: each endpoint backs
// off by itself towards a node that was away, and holds a call up until it gives in. An answer that does not
// come is what was seen, not a failure: it has the form of an poll.Probe.
func (w Witness[N]) Ask(ctx context.Context, question func(context.Context, N) (saw string, done bool, err error)) (bool, string, error) {
	askCtx, cancel := context.WithTimeout(ctx, ProbeLimit)
	defer cancel()

	fresh, hangUp := w.Fresh()
	defer func() { _ = hangUp() }() // the connection served its one question

	try := func(n N) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := n.Boot(ctx)
			if talos.KindOf(err) != "" && !talos.Transient(err) {
				return nil // a refusal is an answer: the way is open
			}

			return err
		}
	}

	way := fresh

	switch poll.Prefer(askCtx, headStart, try(fresh), try(w.Via)) {
	case 0:
	case 1:
		way = w.Via
	default:
		return false, "the node does not answer", nil
	}

	answerCtx, cancelAnswer := context.WithTimeout(ctx, ProbeLimit)
	defer cancelAnswer()

	saw, done, err := question(answerCtx, way)
	if err != nil {
		return false, err.Error(), nil
	}

	return done, saw, nil
}
