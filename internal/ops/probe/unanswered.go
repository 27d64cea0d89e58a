package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos"
)

// ErrNotBegun is what a wait ends with when the node continues as before after a request whose answer was lost.
var ErrNotBegun = errors.New("nothing was begun")

// Busy reports whether a machine is doing something that ends with another boot, or with none.
func Busy(s talos.MachineStatus) bool {
	return slices.Contains([]string{"installing", "upgrading", "resetting", "rebooting", "shuttingDown"}, s.Stage)
}

// request is a request to reboot, shut down or reset whose answer was lost: it may never have reached the node.
type request struct {
	before talos.Boot    // The boot in which it was sent.
	shown  time.Duration // How long a node that took it may take to show it.

	begun  bool      // The node was observed to carry it out.
	idle   time.Time // Since when every probe found the node running in its boot of before; zero for not.
	silent time.Time // Since when no probe was answered; zero for not.
}

// Unanswered returns the prober of a node to which a request was sent in the boot before, and whose answer was lost.
// Its waits end with ErrNotBegun when every probe during shown finds the node as it was before. A probe that is not
// answered proves nothing: what took the answer may still be in the way.
func (p Prober) Unanswered(before talos.Boot, shown time.Duration) Prober {
	p.request = &request{before: before, shown: shown}

	return p
}

// Unclear reports whether it is still unknown that a request whose answer was lost reached the node.
func (p Prober) Unclear() bool { return p.request != nil && !p.request.begun }

// StillUnclear is Unclear after another probe that finds the node in its boot of before.
func (p Prober) StillUnclear(ctx context.Context) bool {
	return p.Unclear() && p.Still(ctx, p.request.before)
}

// AwaitBegun waits until the node is observed to carry out a request whose answer was lost, or is down for as long as
// it would have to be observed idle. It returns at once for a request that was answered.
func (p Prober) AwaitBegun(ctx context.Context) error {
	if p.request == nil {
		return nil
	}

	// A node that neither continues nor is down for half of this time is doing something else.
	return poll.Until(ctx, p.Name+" to begin", Poll, 2*p.request.shown, func(ctx context.Context) (bool, string, error) {
		err := p.Observe(ctx)

		return p.request.begun || p.request.down(p.Now()), "the node does not show that it was asked", err
	})
}

// Observe probes a node for what became of a request whose answer was lost. It returns ErrNotBegun when nothing did.
func (p Prober) Observe(ctx context.Context) error {
	if !p.Unclear() {
		return nil
	}

	now, err := p.Boot(ctx, "")

	return p.judge(ctx, now, err)
}

// judge draws the conclusion of one probe of the node's boot.
func (p Prober) judge(ctx context.Context, now talos.Boot, err error) error {
	r := p.request

	switch {
	case r == nil || r.begun || ctx.Err() != nil:
		return nil
	case err != nil:
		r.idle = time.Time{}

		if r.silent.IsZero() {
			r.silent = p.Now()
		}

		return nil
	case now.ID != r.before.ID && now.Proof == r.before.Proof:
		r.begun = true

		return nil
	}

	r.silent = time.Time{}

	var status talos.MachineStatus

	answered, _, _ := p.Ask(ctx, func(ctx context.Context, n API) (_ string, done bool, err error) { // its errors are observations
		status, err = n.MachineStatus(ctx)

		return "", err == nil, err
	})

	switch {
	case answered && Busy(status):
		r.begun = true
	case !answered || status.Stage != "running":
		// Only a running node would have begun at once.
		r.idle = time.Time{}
	case r.idle.IsZero():
		r.idle = p.Now()
	case p.Now().Sub(r.idle) >= r.shown:
		return fmt.Errorf("%w: for %s %s answered from its old boot, %s", ErrNotBegun, r.shown, p.Name, status)
	}

	return nil
}

// down reports whether the node has been silent for so long that it must be down.
func (r *request) down(now time.Time) bool {
	return !r.silent.IsZero() && now.Sub(r.silent) >= r.shown
}

// quiet is how long the node must be silent to count as off: longer while nothing else shows that it took the
// request.
func (r *request) quiet(usual time.Duration) time.Duration {
	if r == nil || r.begun {
		return usual
	}

	return max(usual, r.shown)
}
