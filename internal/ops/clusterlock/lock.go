// Package clusterlock takes the lock of a cluster: one run at a time, on whatever machine.
package clusterlock

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/probe"
)

// Held is the lock while this run holds it; *kube.Lock is one.
type Held interface {
	Lost() <-chan error
	Former() *kube.LockState
	Answers(ctx context.Context) error
	Release(ctx context.Context) error
}

// Locker takes the cluster's lock.
type Locker func(ctx context.Context) (Held, error)

// ByKubernetes returns a Locker that takes the lock through Kubernetes. tell receives the errors of renewals.
func ByKubernetes(connect func(context.Context) (*kube.Client, error), h kube.Holder, tell func(error)) Locker {
	return func(ctx context.Context) (Held, error) {
		k, err := connect(ctx)
		if err != nil {
			return nil, errors.Join(errNoKubernetes, err)
		}

		return k.TakeLock(ctx, h, time.Now, tell)
	}
}

var errNoKubernetes = errors.New("the Kubernetes API cannot be reached")

// Take takes the lock for a command and returns the verdict of TM143. Without Kubernetes there is no lock, and the verdict says so.
func Take(ctx context.Context, lock Locker, command string) (Held, gate.Verdict) {
	if lock == nil {
		return nil, Without(command)
	}

	held, err := lock(ctx)

	var other *kube.HeldError

	switch {
	case err == nil && held.Former() != nil:
		return held, takenOver(*held.Former())
	case err == nil:
		return held, gate.New(gate.LockHeld, gate.Pass, "", "the cluster's lock is ours")
	case errors.Is(err, errNoKubernetes):
		return nil, gate.New(gate.LockHeld, gate.Warn, "", "there is no lock: %v", err)
	case errors.As(err, &other):
		return nil, gate.New(gate.LockHeld, gate.Refuse, "", "%v", other).
			WithRemedy("wait for %s, or until the lock expires; see `%s`", other.State.Holder, statusOf(other.State.Command))
	default:
		return nil, gate.New(gate.LockHeld, gate.Refuse, "", "the cluster's lock cannot be taken: %v", err).
			WithRemedy("it is the Lease %s/%s: may these credentials write it?", kube.LockNamespace, kube.LockName)
	}
}

// takenOver warns that somebody did not release the lock.
func takenOver(former kube.LockState) gate.Verdict {
	how := "was not renewed and ended at " + former.ExpiresAt.UTC().Format(time.RFC3339)
	if former.Held {
		how = "was held by a run of yours on this machine that is dead"
	}

	return gate.New(gate.LockHeld, gate.Warn, "", "the cluster's lock was taken over from %s (%s, since %s): it %s",
		former.Holder, former.Command, former.AcquiredAt.UTC().Format(time.RFC3339), how)
}

// Reader reads the cluster's lock; *kube.Client is one.
type Reader interface {
	ReadLock(ctx context.Context, now time.Time) (kube.LockState, error)
}

// Through returns the reader of an access to Kubernetes, as far as it can read the lock.
func Through(ctx context.Context, connect probe.Connect) (Reader, error) {
	k, _, err := connect(ctx)
	if err != nil {
		return nil, err
	}

	reader, ok := k.(Reader)
	if !ok {
		return nil, errNoKubernetes
	}

	return reader, nil
}

// Look reads who holds the lock. known is false where Kubernetes cannot be asked; an access that is not trusted is an error.
func Look(ctx context.Context, connect probe.Connect, now time.Time) (state kube.LockState, known bool, err error) {
	reader, err := Through(ctx, connect)
	if errs.IsUntrusted(err) {
		return state, false, err
	}

	if err == nil {
		state, err = reader.ReadLock(ctx, now)
	}

	return state, err == nil, nil
}

// Gate checks whether somebody else is at work (TM143).
func Gate(ctx context.Context, connect probe.Connect, me kube.Holder, now time.Time) gate.Verdict {
	reader, err := Through(ctx, connect)
	if err != nil {
		return gate.New(gate.LockHeld, gate.Skip, "", "there is no lock to read: the Kubernetes API cannot be reached")
	}

	state, err := reader.ReadLock(ctx, now)

	switch {
	case err != nil:
		return gate.New(gate.LockHeld, gate.Warn, "", "%v", err)
	case state.Abandoned(me):
		return gate.New(gate.LockHeld, gate.Pass, "", "a run of yours on this machine was killed and left the cluster's lock: it is free")
	case state.Held && state.ClockOff() != "":
		return gate.New(gate.LockHeld, gate.Warn, "", "%s has the cluster's lock, and %s", state.Holder, state.ClockOff()).
			WithRemedy("correct the clock; a run watches the lock for a minute and takes it over only if nobody renews it")
	case state.Held:
		return gate.New(gate.LockHeld, gate.Refuse, "", "%v", &kube.HeldError{State: state, Wanted: me.Command}).WithRemedy("wait for %s", state.Holder)
	default:
		return gate.New(gate.LockHeld, gate.Pass, "", "nobody holds the cluster's lock")
	}
}

// Without is the verdict on a cluster without Kubernetes, which has no lock.
func Without(command string) gate.Verdict {
	return gate.New(gate.LockHeld, gate.Skip, "", "the cluster has no Kubernetes, and without it there is no lock: start nothing else that changes the cluster while `%s` runs", command)
}

// statusOf is the command that shows what the holder of the lock has done.
func statusOf(command string) string {
	if strings.Contains(command, " machineconfig rollout ") {
		return "talosmate machineconfig rollout status"
	}

	return "talosmate upgrade status"
}
