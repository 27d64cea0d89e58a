package kube

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/talosmate/talosmate/internal/poll"
)

// The cluster's lock: a Lease in kube-system, so that every operator sees it and `kubectl get lease` shows it.
const (
	LockNamespace = "kube-system"
	LockName      = "talosmate"

	// LockDuration is how long a lock lives without renewal. A holder that lost the API server for less than
	// this still holds it: nobody else could take it over meanwhile.
	LockDuration = 60 * time.Second
	// LockRenewal is how often the holder renews.
	LockRenewal = 5 * time.Second

	// lockWatch is how long an expired lock is watched before it is taken over: a holder that renews in that
	// time only has another clock than ours.
	lockWatch = LockRenewal + 2*time.Second

	lockCommand = "talosmate.dev/command"
	lockProcess = "talosmate.dev/process"
)

// Holder says who takes the lock.
type Holder struct {
	Name    string // user@host.
	Command string // What is being run, for the one who is refused.
	Process Process
}

// Process identifies a process on one machine, so that the same user on the same machine may take over from
// a process that is dead, at once.
type Process struct {
	PID int
	// Space tells apart machines and containers in which the same process ID means another process; empty
	// when the platform does not tell, and then only expiry frees the lock.
	Space string
	// Alive says whether a process of this space lives; nil means that nobody can tell.
	Alive func(pid int) bool
}

func (p Process) String() string { return fmt.Sprintf("%d %s", p.PID, p.Space) }

// LockState is what the Lease says.
type LockState struct {
	Held          bool      `json:"held"`              // Whether somebody holds it and it has not expired.
	Holder        string    `json:"holder"`            // Who held it last, user@host; empty when nobody did.
	Command       string    `json:"command,omitempty"` // What the holder runs.
	AcquiredAt    time.Time `json:"acquired_at"`       // Since when; the zero time when nobody holds it.
	RenewedAt     time.Time `json:"renewed_at"`        // When it was renewed last.
	ExpiresAt     time.Time `json:"expires_at"`        // When it ends without another renewal.
	LeaseDuration float64   `json:"duration_seconds"`  // How long it lives without renewal.

	process string
}

// HeldError is what Lock ends with when somebody else holds the lock.
type HeldError struct{ State LockState }

// Error implements error.
func (e *HeldError) Error() string {
	return fmt.Sprintf("%s holds the cluster's lock (%s) since %s; without renewal it ends at %s", e.State.Holder, e.State.Command,
		e.State.AcquiredAt.UTC().Format(time.RFC3339), e.State.ExpiresAt.UTC().Format(time.RFC3339))
}

// ErrLockLost is the cause of the end of a lock's context when the lock went to somebody else.
var ErrLockLost = errors.New("the cluster's lock was lost")

// Lock is the held lock. It is renewed until Release.
type Lock struct {
	client *Client
	holder Holder
	since  time.Time
	now    func() time.Time
	tell   func(error)
	former *LockState

	stop context.CancelFunc
	done chan struct{}
	once sync.Once
	lost chan error
}

// ReadLock reads the lock's state; a Lease that does not exist is nobody's.
func (c *Client) ReadLock(ctx context.Context, now time.Time) (LockState, error) {
	l, err := c.API.CoordinationV1().Leases(LockNamespace).Get(ctx, LockName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return LockState{}, nil
	}

	if err != nil {
		return LockState{}, fmt.Errorf("cannot read the cluster's lock: %w", err)
	}

	return lockState(l, now), nil
}

func lockState(l *coordinationv1.Lease, now time.Time) LockState {
	var s LockState

	if l.Spec.HolderIdentity != nil {
		s.Holder = *l.Spec.HolderIdentity
	}

	s.Command, s.process = l.Annotations[lockCommand], l.Annotations[lockProcess]

	if l.Spec.AcquireTime != nil {
		s.AcquiredAt = l.Spec.AcquireTime.UTC()
	}

	if l.Spec.LeaseDurationSeconds != nil {
		s.LeaseDuration = float64(*l.Spec.LeaseDurationSeconds)
	}

	if l.Spec.RenewTime != nil {
		s.RenewedAt = l.Spec.RenewTime.UTC()
		s.ExpiresAt = s.RenewedAt.Add(time.Duration(s.LeaseDuration * float64(time.Second)))
	}

	s.Held = s.Holder != "" && now.Before(s.ExpiresAt)

	return s
}

// Abandoned says whether the holder was a process of the same user on this machine that is dead: h may take
// the lock over at once.
func (s LockState) Abandoned(h Holder) bool {
	pid, space, ok := strings.Cut(s.process, " ")
	if !ok || space == "" || space != h.Process.Space || s.Holder != h.Name || h.Process.Alive == nil {
		return false
	}

	n, err := strconv.Atoi(pid)

	return err == nil && (n == h.Process.PID || !h.Process.Alive(n))
}

// TakeLock takes the cluster's lock and keeps renewing it. Held by somebody else it fails at once with a
// *HeldError. An expired one is watched for a moment, against clocks that differ, and taken over; one of a
// dead process of the same user on the same machine is taken over at once. tell hears of renewals that fail.
func (c *Client) TakeLock(ctx context.Context, h Holder, now func() time.Time, tell func(error)) (*Lock, error) {
	l := &Lock{client: c, holder: h, since: now().UTC(), now: now, tell: tell, done: make(chan struct{}), lost: make(chan error, 1)}

	if err := l.take(ctx); err != nil {
		return nil, err
	}

	renewCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop

	go l.keep(renewCtx)

	return l, nil
}

func (l *Lock) take(ctx context.Context) error {
	leases := l.client.API.CoordinationV1().Leases(LockNamespace)

	old, err := leases.Get(ctx, LockName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		fresh := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: LockName, Namespace: LockNamespace}}
		l.write(fresh)

		if _, err = leases.Create(ctx, fresh, metav1.CreateOptions{}); err == nil {
			return nil
		}

		if !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("cannot take the cluster's lock: %w", err)
		}

		old, err = leases.Get(ctx, LockName, metav1.GetOptions{})
	}

	if err != nil {
		return fmt.Errorf("cannot take the cluster's lock: %w", err)
	}

	if old, err = l.mayTake(ctx, old); err != nil {
		return err
	}

	if state := lockState(old, l.now()); state.Holder != "" {
		l.former = &state
	}

	l.write(old)

	_, err = leases.Update(ctx, old, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) { // somebody was faster
		if winner, readErr := l.client.ReadLock(ctx, l.now()); readErr == nil {
			return &HeldError{winner}
		}
	}

	if err != nil {
		return fmt.Errorf("cannot take the cluster's lock: %w", err)
	}

	return nil
}

// mayTake says whether the lock is free, and gives its latest version.
func (l *Lock) mayTake(ctx context.Context, old *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	state := lockState(old, l.now())

	switch {
	case state.Holder == "", state.Abandoned(l.holder):
		return old, nil
	case state.Held:
		return nil, &HeldError{state}
	}

	if err := poll.Pause(ctx, lockWatch); err != nil {
		return nil, err
	}

	again, err := l.client.API.CoordinationV1().Leases(LockNamespace).Get(ctx, LockName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot take the cluster's lock: %w", err)
	}

	if again.ResourceVersion != old.ResourceVersion {
		return nil, &HeldError{lockState(again, l.now())}
	}

	return again, nil
}

func (l *Lock) write(lease *coordinationv1.Lease) {
	seconds := int32(LockDuration / time.Second)
	now := metav1.NewMicroTime(l.now())
	since := metav1.NewMicroTime(l.since)

	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = &l.holder.Name, &seconds
	lease.Spec.RenewTime, lease.Spec.AcquireTime = &now, &since

	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}

	lease.Annotations[lockCommand], lease.Annotations[lockProcess] = l.holder.Command, l.holder.Process.String()
}

func (l *Lock) mine(lease *coordinationv1.Lease) bool {
	return lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity == l.holder.Name &&
		lease.Annotations[lockProcess] == l.holder.Process.String()
}

// keep renews until the lock is given back or lost.
func (l *Lock) keep(ctx context.Context) {
	defer close(l.done)

	for poll.Pause(ctx, LockRenewal) == nil {
		if err := l.renew(ctx); errors.Is(err, ErrLockLost) {
			l.lost <- err

			return
		} else if err != nil && ctx.Err() == nil && l.tell != nil {
			l.tell(err)
		}
	}
}

func (l *Lock) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, LockRenewal)
	defer cancel()

	leases := l.client.API.CoordinationV1().Leases(LockNamespace)

	lease, err := leases.Get(ctx, LockName, metav1.GetOptions{})

	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%w: somebody deleted it", ErrLockLost)
	case err != nil:
		return fmt.Errorf("cannot renew the cluster's lock: %w", err)
	case !l.mine(lease):
		return fmt.Errorf("%w to %s", ErrLockLost, lockState(lease, l.now()).Holder)
	}

	l.write(lease)

	if _, err = leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("cannot renew the cluster's lock: %w", err)
	}

	return nil
}

// Former is the state of a lock that was taken over from somebody who did not give it back: it had run out, or,
// while it is Held, its holder was a process of the same user on this machine that is dead. Nil for a free one.
func (l *Lock) Former() *LockState { return l.former }

// Lost says why the lock is gone, when somebody else has it.
func (l *Lock) Lost() <-chan error { return l.lost }

// Release gives the lock back. The Lease stays, with nobody as its holder; somebody else's is left alone.
func (l *Lock) Release(ctx context.Context) error {
	l.once.Do(l.stop)
	<-l.done

	leases := l.client.API.CoordinationV1().Leases(LockNamespace)

	lease, err := leases.Get(ctx, LockName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && !l.mine(lease) {
		return nil
	}

	if err == nil {
		nobody := ""
		lease.Spec.HolderIdentity = &nobody
		delete(lease.Annotations, lockProcess)

		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}

	if err != nil {
		return fmt.Errorf("cannot release the cluster's lock: %w", err)
	}

	return nil
}
