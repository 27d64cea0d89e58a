package boot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos"
)

// ErrNotBegun is what a wait ends with when the node goes on as before after a request whose answer was lost.
var ErrNotBegun = errors.New("nothing was begun")

// Busy says whether a machine is at something that ends with another boot, or with none.
func Busy(s talos.MachineStatus) bool {
	return slices.Contains([]string{"installing", "upgrading", "resetting", "rebooting", "shuttingDown"}, s.Stage)
}

// Doubt is about a request to go whose answer was lost: it may never have reached the node. A nil Doubt is none.
type Doubt struct {
	name     string
	probe    func(context.Context) (talos.Boot, error)
	status   func(context.Context) (talos.MachineStatus, error)
	now      func() time.Time
	before   talos.Boot
	patience time.Duration

	begun  bool      // The node was seen to be at it.
	idle   time.Time // Since when every look found it running its boot of before; zero for not.
	silent time.Time // Since when no look was answered; zero for not.
}

// Doubting gives the witness of a node whose answer to a request was lost. Its waits end with ErrNotBegun when
// the node went on as before for patience, at every look: a look that it does not answer proves neither this
// nor that, since what took the answer may still be in the way.
func Doubting[N Machine](w Witness[N], before talos.Boot, patience time.Duration) Witness[N] {
	w.doubt = &Doubt{
		name: w.Name, now: w.Now, before: before, patience: patience,
		probe: func(ctx context.Context) (talos.Boot, error) { return w.Probe(ctx, "") },
		status: func(ctx context.Context) (status talos.MachineStatus, err error) {
			answered, saw, err := w.Ask(ctx, func(ctx context.Context, n N) (string, bool, error) {
				status, err = n.MachineStatus(ctx)

				return "", err == nil, err
			})
			if err == nil && !answered {
				err = errors.New(saw)
			}

			return status, err
		},
	}

	return w
}

// AwaitBegun waits until the node is seen to be at what it was asked for, or is away for as long as it would
// have to be seen idle. It does nothing where there is no doubt.
func (w Witness[N]) AwaitBegun(ctx context.Context) error {
	if w.doubt == nil {
		return nil
	}

	// Whoever neither goes on nor is away for half of this long is at something else.
	return poll.Until(ctx, w.Name+" to begin", Poll, 2*w.doubt.patience, func(ctx context.Context) (bool, string, error) {
		err := w.Look(ctx)

		return w.doubt.begun || w.doubt.away(), "the node does not show that it was asked", err
	})
}

// Doubted says whether it is still open that the node was reached by the request.
func (w Witness[N]) Doubted() bool { return w.doubt != nil && !w.doubt.begun }

// StillDoubted says the same behind a look that finds the node in its boot of before.
func (w Witness[N]) StillDoubted(ctx context.Context) bool {
	return w.Doubted() && w.Still(ctx, w.doubt.before)
}

// Look asks the node which boot it is in and what it is at, where there is a doubt.
func (w Witness[N]) Look(ctx context.Context) error {
	if !w.Doubted() {
		return nil
	}

	now, err := w.doubt.probe(ctx)

	return w.doubt.see(ctx, now, err)
}

// see judges a look at the node's boot.
func (d *Doubt) see(ctx context.Context, now talos.Boot, err error) error {
	switch {
	case d == nil || d.begun || ctx.Err() != nil:
		return nil
	case err != nil:
		d.idle = time.Time{}

		if d.silent.IsZero() {
			d.silent = d.now()
		}

		return nil
	case now.ID != d.before.ID && now.Proof == d.before.Proof:
		d.begun = true

		return nil
	}

	d.silent = time.Time{}

	status, err := d.status(ctx)

	switch {
	case err == nil && Busy(status):
		d.begun = true
	case err != nil || status.Stage != "running":
		// Only a node that runs would have begun at once.
		d.idle = time.Time{}
	case d.idle.IsZero():
		d.idle = d.now()
	case d.now().Sub(d.idle) >= d.patience:
		return fmt.Errorf("%w: for %s %s answered from its old boot, %s", ErrNotBegun, d.patience, d.name, status)
	}

	return nil
}

// away says whether the node has been silent for so long that it must have gone.
func (d *Doubt) away() bool { return !d.silent.IsZero() && d.now().Sub(d.silent) >= d.patience }

// quiet is how long the node must be silent to be taken for off: longer while nothing else shows that it was
// asked to be.
func (d *Doubt) quiet(usual time.Duration) time.Duration {
	if d == nil || d.begun {
		return usual
	}

	return max(usual, d.patience)
}
