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

	// LockDuration is how long a lock lives without renewal. A holder that cannot reach the API server for less than
	// this still holds it: nobody else could take it over meanwhile.
	LockDuration = 60 * time.Second
	// LockRenewal is the interval at which the holder renews.
	LockRenewal = 5 * time.Second

	// lockWatch is how long an expired lock is watched before it is taken over. A holder that renews in this time is
	// alive, and its clock differs from ours.
	lockWatch = LockRenewal + 2*time.Second

	// lockAhead is how far a renewal may be ahead of our clock. Beyond it, our clock does not show when the lock ends.
	lockAhead = 10 * time.Second

	lockCommand = "talosmate.dev/command"
	lockProcess = "talosmate.dev/process"
)

// Holder identifies who takes the lock.
type Holder struct {
	Name    string // user@host.
	Command string // What is being run, for the error that others get.
	Process Process
}

// Process identifies a process on one machine, so that the same user on the same machine can take over from a dead
// process immediately.
type Process struct {
	PID int
	// Space distinguishes machines and containers in which the same process ID means another process. It is empty when
	// the platform does not provide it; then a lock is freed only by expiry.
	Space string
	// Alive reports whether a process of this space lives; nil means that this cannot be checked.
	Alive func(pid int) bool
}

func (p Process) String() string { return fmt.Sprintf("%d %s", p.PID, p.Space) }

// LockState is the content of the Lease.
type LockState struct {
	Held          bool      `json:"held"`              // Whether somebody holds it and it has not expired.
	Holder        string    `json:"holder"`            // The last holder, user@host; empty when nobody held it.
	Command       string    `json:"command,omitempty"` // What the holder runs.
	AcquiredAt    time.Time `json:"acquired_at"`       // Since when; the zero time when nobody holds it.
	RenewedAt     time.Time `json:"renewed_at"`        // When it was renewed last.
	ExpiresAt     time.Time `json:"expires_at"`        // When it ends without another renewal.
	LeaseDuration float64   `json:"duration_seconds"`  // How long it lives without renewal.

	process string
	ahead   time.Duration // How far the renewal is ahead of our clock, 0 within lockAhead.
}

// ClockOff says how far the last renewal is ahead of our clock, empty if it is not.
func (s LockState) ClockOff() string {
	if s.ahead == 0 {
		return ""
	}

	return fmt.Sprintf("the last renewal is %s (±%s) ahead of this machine's clock: one of the two clocks is off", s.ahead.Round(time.Second), lockAhead)
}

// HeldError is returned by TakeLock when somebody else holds the lock.
type HeldError struct {
	State  LockState
	Wanted string // The command that wants it.
}

// Error implements error.
func (e *HeldError) Error() string {
	ends := "without renewal it ends at " + e.State.ExpiresAt.UTC().Format(time.RFC3339)
	if off := e.State.ClockOff(); off != "" {
		ends = off
	}

	return fmt.Sprintf("%s holds the cluster's lock for `%s` since %s, and `%s` needs it; %s", e.State.Holder, e.State.Command,
		e.State.AcquiredAt.UTC().Format(time.RFC3339), e.Wanted, ends)
}

// ErrLockLost is the cause of the end of a lock's context when somebody else has taken the lock.
var ErrLockLost = errors.New("the cluster's lock was lost")

// Lock is the held lock. It is renewed until Release.
type Lock struct {
	client *Client
	holder Holder
	since  time.Time
	now    func() time.Time // What it shows is counted from since: a clock that is set does not shorten the lock.
	tell   func(error)
	former *LockState

	stop context.CancelFunc
	done chan struct{}
	once sync.Once
	lost chan error
}

// ReadLock reads the lock's state. A missing Lease is a free lock.
func (c *Client) ReadLock(ctx context.Context, now time.Time) (LockState, error) {
	l, err := c.API.CoordinationV1().Leases(LockNamespace).Get(ctx, LockName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return LockState{}, nil
	}

	if err != nil {
		return LockState{}, fmt.Errorf("cannot read the cluster's lock: %w", causeOf(err))
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
	if ahead := s.RenewedAt.Sub(now); s.Held && ahead > lockAhead {
		s.ahead = ahead
	}

	return s
}

// Abandoned reports whether the holder was a process of the same user on this machine that is dead: h may then take the
// lock over immediately.
func (s LockState) Abandoned(h Holder) bool {
	pid, space, ok := strings.Cut(s.process, " ")
	if !ok || space == "" || space != h.Process.Space || s.Holder != h.Name || h.Process.Alive == nil {
		return false
	}

	n, err := strconv.Atoi(pid)

	return err == nil && (n == h.Process.PID || !h.Process.Alive(n))
}

// TakeLock takes the cluster's lock and renews it until Release. If somebody else holds it, TakeLock fails immediately
// with a *HeldError. An expired lock is watched for a moment, in case the clocks differ, and taken over. The lock of a
// dead process of the same user on the same machine is taken over immediately. tell receives the errors of renewals.
func (c *Client) TakeLock(ctx context.Context, h Holder, now func() time.Time, tell func(error)) (*Lock, error) {
	l := &Lock{client: c, holder: h, since: now(), now: now, tell: tell, done: make(chan struct{}), lost: make(chan error, 1)}

	if err := l.take(ctx); err != nil {
		return nil, err
	}

	renewCtx, stop := context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // G118: Release calls stop, and a lock is always released
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
			return fmt.Errorf("cannot take the cluster's lock: %w", causeOf(err))
		}

		old, err = leases.Get(ctx, LockName, metav1.GetOptions{})
	}

	if err != nil {
		return fmt.Errorf("cannot take the cluster's lock: %w", causeOf(err))
	}

	if old, err = l.mayTake(ctx, old); err != nil {
		return err
	}

	if state := lockState(old, l.now()); state.Holder != "" {
		l.former = &state
	}

	l.write(old)

	_, err = leases.Update(ctx, old, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) { // somebody else took it first
		if winner, readErr := l.client.ReadLock(ctx, l.now()); readErr == nil {
			return &HeldError{winner, l.holder.Command}
		}
	}

	if err != nil {
		return fmt.Errorf("cannot take the cluster's lock: %w", causeOf(err))
	}

	return nil
}

// mayTake reports whether the lock is free, and returns its latest version.
func (l *Lock) mayTake(ctx context.Context, old *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	state := lockState(old, l.now())

	switch {
	case state.Holder == "", state.Abandoned(l.holder):
		return old, nil
	case state.Held && state.ahead == 0:
		return nil, &HeldError{state, l.holder.Command}
	}

	// A holder that does not reach the API server still has the lock for its duration, which only its clock can tell.
	watch := lockWatch
	if state.Held {
		watch = LockDuration + lockWatch
	}

	for watched := time.Duration(0); watched < watch; watched += lockWatch {
		if err := poll.Pause(ctx, lockWatch); err != nil {
			return nil, err
		}

		again, err := l.client.API.CoordinationV1().Leases(LockNamespace).Get(ctx, LockName, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("cannot take the cluster's lock: %w", causeOf(err))
		}

		if again.ResourceVersion != old.ResourceVersion || !again.Spec.RenewTime.Equal(old.Spec.RenewTime) {
			return nil, &HeldError{lockState(again, l.now()), l.holder.Command}
		}
	}

	return old, nil
}

func (l *Lock) write(lease *coordinationv1.Lease) {
	seconds := int32(LockDuration / time.Second)
	now := metav1.NewMicroTime(l.since.Add(l.now().Sub(l.since)).UTC())
	since := metav1.NewMicroTime(l.since.UTC())

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

// keep renews until the lock is released or lost.
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
		return fmt.Errorf("cannot renew the cluster's lock: %w", causeOf(err))
	case !l.mine(lease):
		return fmt.Errorf("%w to %s", ErrLockLost, lockState(lease, l.now()).Holder)
	}

	l.write(lease)

	if _, err = leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("cannot renew the cluster's lock: %w", causeOf(err))
	}

	return nil
}

// Former is the state of a lock that was taken over from a holder that did not release it: it had expired or, while it
// is Held, its holder was a dead process of the same user on this machine. It is nil for a free lock.
func (l *Lock) Former() *LockState { return l.former }

// Answers returns an error while the API server does not answer.
func (l *Lock) Answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, LockRenewal)
	defer cancel()

	_, err := l.client.ReadLock(ctx, l.now())

	return err
}

// Lost returns why the lock is gone, when somebody else has it.
func (l *Lock) Lost() <-chan error { return l.lost }

// Release releases the lock. The Lease stays without a holder; a lock of somebody else is left alone.
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
		return fmt.Errorf("cannot release the cluster's lock: %w", causeOf(err))
	}

	return nil
}
