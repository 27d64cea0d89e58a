package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// Intervals and limits.
const (
	Poll       = 250 * time.Millisecond // Between two probes for a new boot.
	VerifyPoll = 500 * time.Millisecond // Between two probes of a node that is back.
	Limit      = 3 * time.Second        // For the answer to one question.

	headStart = 500 * time.Millisecond // How long the direct way may still answer after the endpoints did.
)

// Prober asks one node by two ways. A node that was down answers directly sooner than through an endpoint, which
// backs off towards it; where the network does not let us reach the node, only the endpoint answers.
type Prober struct {
	Name  string              // The node in messages.
	Via   API                 // Through the endpoints, never the node itself if that can be avoided.
	Fresh func() (API, Close) // The node itself, over a new connection.
	Now   func() time.Time

	request *request // A request whose answer was lost; nil for none.
}

// Return is a node that was observed in another boot.
type Return struct {
	Boot talos.Boot // The new boot.
	// Downtime is from the last answer of the old boot to the first of the new one.
	Downtime time.Duration
	// Lag bounds how late the new boot was noticed: it had not answered the probe that began this long before.
	Lag time.Duration
}

// AwaitNew waits until the node proves another boot than before; only the same kind of proof counts. asked is when the
// reboot was requested. The error wraps poll.ErrDeadline, or ErrNotBegun where the answer to the request was lost, or
// is the cause of ctx's end.
func (p Prober) AwaitNew(ctx context.Context, before talos.Boot, asked time.Time, deadline time.Duration) (Return, error) {
	var seen Return

	lastUp, lastProbe := asked, asked

	err := poll.Until(ctx, "a new boot of "+p.Name, Poll, deadline, func(ctx context.Context) (bool, string, error) {
		began := p.Now()
		now, err := p.Boot(ctx, before.Proof)

		if notBegun := p.judge(ctx, now, err); notBegun != nil {
			return false, "", notBegun
		}

		switch {
		case err != nil:
			lastProbe = began

			return false, silence(err), nil
		case now.ID == before.ID:
			lastUp, lastProbe = p.Now(), began

			return false, "the node still runs its old boot", nil
		default:
			seen = Return{Boot: now, Downtime: p.Now().Sub(lastUp), Lag: p.Now().Sub(lastProbe)}

			return true, "", nil
		}
	})

	return seen, err
}

// silence says why a probe has no boot to report.
func silence(err error) string {
	if conn.KindOf(err) == errs.KindAnotherMachine {
		return err.Error()
	}

	return "the node does not answer"
}

// ErrBooted is what a wait for a node to be off ends with when the node runs another boot.
var ErrBooted = errors.New("the node booted again")

// AwaitGone waits until the node has answered by neither way for so long that it must be off: longer than it needs to boot,
// since Talos reboots a node whose shutdown or reset fails. A new boot, or another machine at its address, ends it with
// ErrBooted. It returns how long after asked the node answered last.
func (p Prober) AwaitGone(ctx context.Context, before talos.Boot, asked time.Time, quiet, deadline time.Duration) (time.Duration, error) {
	lastUp := asked

	err := poll.Until(ctx, p.Name+" to be off", Poll, deadline, func(ctx context.Context) (bool, string, error) {
		began := p.Now()

		now, err := p.Boot(ctx, "")
		if notBegun := p.judge(ctx, now, err); notBegun != nil {
			return false, "", notBegun
		}

		switch {
		case err == nil && now.Proof == before.Proof && now.ID != before.ID:
			return false, "", ErrBooted
		case conn.KindOf(err) == errs.KindAnotherMachine:
			return false, "", fmt.Errorf("%w: %w", ErrBooted, err)
		case err == nil:
			lastUp = p.Now()

			return false, "the node still answers", nil
		}

		return began.Sub(lastUp) >= p.request.quiet(quiet), fmt.Sprintf("the node stopped answering %.0f s ago", began.Sub(lastUp).Seconds()), nil
	})

	return lastUp.Sub(asked), err
}

// Boot reads the boot by both ways at once and returns the first answer with the wanted kind of proof, any kind when
// it is empty.
func (p Prober) Boot(ctx context.Context, proof string) (talos.Boot, error) {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()

	type answer struct {
		boot talos.Boot
		err  error
	}

	fresh, closeFresh := p.Fresh()
	answers := make(chan answer, 2)

	for _, n := range []API{fresh, p.Via} {
		go func() {
			var boot talos.Boot

			err := errs.Safely(func() (err error) {
				boot, err = n.Boot(ctx, proof)

				return err
			})
			if err == nil && proof != "" && boot.Proof != proof {
				err = fmt.Errorf("the boot is only known by its %s", boot.Proof)
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

	return first.boot, errors.Join(first.err, closeFresh())
}

// Still reports whether the node still runs a boot.
func (p Prober) Still(ctx context.Context, before talos.Boot) bool {
	boot, err := p.Boot(ctx, before.Proof)

	return err == nil && boot.ID == before.ID
}

// Ask asks the node one question by a way that is open, directly if the network allows it: each endpoint backs off
// towards a node that was down, and delays calls to it. A missing answer is an observation, not a failure: the result
// has the form of a poll.Probe.
func (p Prober) Ask(ctx context.Context, question func(context.Context, API) (saw string, done bool, err error)) (bool, string, error) {
	askCtx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()

	fresh, closeFresh := p.Fresh()
	defer func() { _ = closeFresh() }() // the connection served its one question

	try := func(n API) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := n.Boot(ctx, "")
			if kind := conn.KindOf(err); kind != "" && kind != errs.KindAnotherMachine && !conn.Transient(err) {
				return nil // a refusal is an answer: the way is open
			}

			return err
		}
	}

	way := fresh

	switch poll.Prefer(askCtx, headStart, try(fresh), try(p.Via)) {
	case 0:
	case 1:
		way = p.Via
	default:
		return false, "the node does not answer", nil
	}

	answerCtx, cancelAnswer := context.WithTimeout(ctx, Limit)
	defer cancelAnswer()

	saw, done, err := question(answerCtx, way)
	if err != nil {
		return false, err.Error(), nil
	}

	return done, saw, nil
}
