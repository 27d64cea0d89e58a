package machineconfig

import (
	"context"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// awaitInstalled waits until a node that was in maintenance mode runs with its configuration. cause is the
// lost answer's error, nil when there was one: that the configuration arrived is read back, by the node
// leaving maintenance mode, and never sent again.
func (a *application) awaitInstalled(ctx context.Context, cause error) error {
	if cause != nil {
		if err := a.await(ctx, "to leave maintenance mode", runbook.ShownWithin, leftMaintenance()); err != nil {
			if ctx.Err() != nil {
				return err
			}

			return a.unknown(cause)
		}
	}

	if !a.o.Wait {
		a.Status = runbook.Installing

		return nil
	}

	a.Stage("wait", "waiting until the node runs with its configuration, for at most %s", a.o.RebootTimeout)

	// A configured node asks for a client certificate, which is the proof.
	if err := a.await(ctx, "to run with its configuration", a.o.RebootTimeout, func(_ string, err error) bool {
		return conn.KindOf(err) == errs.KindUnauthenticated
	}); err != nil {
		switch {
		case ctx.Err() != nil:
			return err
		case cause != nil:
			return a.unknown(cause)
		default:
			return a.lost(ctx, err)
		}
	}

	a.Status, a.runs = runbook.Configured, true

	if a.o.Joined == nil {
		a.Stage("wait", "the node runs with its configuration; the talosconfig is not that of its cluster, so that no more can be verified")

		return nil
	}

	a.Stage("verify", "the node runs with its configuration; verifying that it is healthy, for at most %s", a.o.ReadyTimeout)

	joined, why, err := a.o.Joined(ctx, a.o.ReadyTimeout)

	switch {
	case err != nil:
		return a.lost(ctx, err)
	case joined:
		a.Status = runbook.Joined
	default:
		a.Stage("wait", "%s", why)
	}

	return nil
}

// gone is how long a node must be silent to have left maintenance mode: one probe that fails proves nothing.
const gone = 10 * time.Second

// leftMaintenance judges one probe after the other.
func leftMaintenance() func(stage string, err error) bool {
	var silent time.Time // Since when no probe was answered; zero for not.

	return func(stage string, err error) bool {
		switch {
		case err == nil:
			silent = time.Time{}

			return stage != "maintenance"
		case conn.KindOf(err) == errs.KindUnauthenticated:
			return true
		case silent.IsZero():
			silent = time.Now()
		}

		return time.Since(silent) >= gone
	}
}

// await probes the node, each time over a new connection and without a certificate.
func (a *application) await(ctx context.Context, what string, deadline time.Duration, done func(stage string, err error) bool) error {
	return poll.Until(ctx, a.Target.Name()+" "+what, probe.VerifyPoll, deadline, func(ctx context.Context) (bool, string, error) {
		status, err := a.n.InMaintenance(ctx)
		saw := status.String()

		if err != nil {
			saw = fmt.Sprint(err)
		}

		return done(status.Stage, err), saw, nil
	})
}
