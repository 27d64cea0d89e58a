package upgrade

import (
	"context"
	"errors"
	"time"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
)

// Held is the cluster's lock in our hands; *kube.Lock is one.
type Held interface {
	Lost() <-chan error
	Former() *kube.LockState
	Release(ctx context.Context) error
}

// Locker takes the cluster's lock.
type Locker func(ctx context.Context) (Held, error)

// KubeLocker makes a Locker of access to Kubernetes. tell hears of renewals that fail.
func KubeLocker(connect func(context.Context) (*kube.Client, error), h kube.Holder, tell func(error)) Locker {
	return func(ctx context.Context) (Held, error) {
		k, err := connect(ctx)
		if err != nil {
			return nil, errors.Join(errNoKubernetes, err)
		}

		return k.TakeLock(ctx, h, time.Now, tell)
	}
}

var errNoKubernetes = errors.New("the Kubernetes API cannot be reached")

// takeLock takes the lock with TM143's verdict. Without Kubernetes there is no lock, and the verdict says so.
func takeLock(ctx context.Context, lock Locker) (Held, gate.Verdict) {
	if lock == nil {
		return nil, gate.New(gate.LockHeld, gate.Skip, "", "the cluster has no Kubernetes, and without it there is no lock: run one upgrade at a time")
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
			WithRemedy("wait for %s, or until the lock ends by itself; see `talosmate upgrade status`", other.State.Holder)
	default:
		return nil, gate.New(gate.LockHeld, gate.Refuse, "", "the cluster's lock cannot be taken: %v", err).
			WithRemedy("it is the Lease %s/%s: may these credentials write it?", kube.LockNamespace, kube.LockName)
	}
}

// takenOver warns that somebody did not give the lock back.
func takenOver(former kube.LockState) gate.Verdict {
	how := "was not renewed and ended at " + former.ExpiresAt.UTC().Format(time.RFC3339)
	if former.Held {
		how = "was held by a run of yours on this machine that is dead"
	}

	return gate.New(gate.LockHeld, gate.Warn, "", "the cluster's lock was taken over from %s (%s, since %s): it %s",
		former.Holder, former.Command, former.AcquiredAt.UTC().Format(time.RFC3339), how)
}

// LockReader reads the cluster's lock; *kube.Client is one.
type LockReader interface {
	ReadLock(ctx context.Context, now time.Time) (kube.LockState, error)
}

// lockReader is the Kubernetes access, where it can also read the lock.
func (f *Fleet) lockReader(ctx context.Context) (LockReader, error) {
	k, _, err := f.Kube(ctx)
	if err != nil {
		return nil, err
	}

	reader, ok := k.(LockReader)
	if !ok {
		return nil, errNoKubernetes
	}

	return reader, nil
}
