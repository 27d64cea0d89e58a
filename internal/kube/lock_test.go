package kube_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/talosmate/talosmate/internal/kube"
)

func holder(name string, pid int, alive bool) kube.Holder {
	return kube.Holder{Name: name, Command: "talosmate upgrade apply", Process: kube.Process{PID: pid, Space: "here", Alive: func(int) bool { return alive }}}
}

func TestLock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &kube.Client{API: fake.NewClientset()}
		ctx := t.Context()

		first, err := c.TakeLock(ctx, holder("ann@host", 1, true), time.Now, nil)
		if err != nil {
			t.Fatal(err)
		}

		var held *kube.HeldError

		wanting := holder("bob@host", 2, true)
		wanting.Command = "talosmate machineconfig rollout apply"

		// Renewed, it outlives its duration.
		time.Sleep(3 * kube.LockDuration) //nolint:forbidigo // of the bubble's clock

		if _, err = c.TakeLock(ctx, wanting, time.Now, nil); !errors.As(err, &held) || held.State.Holder != "ann@host" ||
			!strings.Contains(err.Error(), "ann@host holds the cluster's lock for `talosmate upgrade apply` since") || !strings.Contains(err.Error(), "`talosmate machineconfig rollout apply` needs it") {
			t.Fatalf("the second one: %v", err)
		}

		if err = first.Release(ctx); err != nil {
			t.Fatal(err)
		}

		if err = first.Release(ctx); err != nil { // twice is as good as once
			t.Fatal(err)
		}

		second, err := c.TakeLock(ctx, holder("bob@host", 2, true), time.Now, nil)
		if err != nil {
			t.Fatal(err)
		}

		if second.Former() != nil {
			t.Errorf("a lock that was given back is taken over: %+v", second.Former())
		}

		if s, err := c.ReadLock(ctx, time.Now()); err != nil || !s.Held || s.Holder != "bob@host" {
			t.Errorf("%+v, %v", s, err)
		}

		if err = second.Release(ctx); err != nil {
			t.Fatal(err)
		}

		if s, err := c.ReadLock(ctx, time.Now()); err != nil || s.Held {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// abandon leaves a lock as a process that was killed does.
func abandon(t *testing.T, c *kube.Client, h kube.Holder) {
	t.Helper()

	l, err := c.TakeLock(t.Context(), h, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}

	lease, err := c.API.CoordinationV1().Leases(kube.LockNamespace).Get(t.Context(), kube.LockName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}

	if err = l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}

	if _, err = c.API.CoordinationV1().Leases(kube.LockNamespace).Update(t.Context(), lease, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestTakeover(t *testing.T) {
	t.Parallel()

	for name, tt := range map[string]struct {
		who  kube.Holder
		wait time.Duration
		took time.Duration // Negative when it is refused.
	}{
		"the same user, the process is dead":    {holder("ann@host", 2, false), 0, 0},
		"the same user, the process lives":      {holder("ann@host", 2, true), 0, -1},
		"another user, the process is dead":     {holder("bob@host", 2, false), 0, -1},
		"the same user, somewhere else":         {kube.Holder{Name: "ann@host", Process: kube.Process{PID: 2, Space: "there", Alive: func(int) bool { return false }}}, 0, -1},
		"expired: watched, and then taken over": {holder("bob@host", 2, true), kube.LockDuration + time.Second, kube.LockRenewal + 2*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &kube.Client{API: fake.NewClientset()}
				abandon(t, c, holder("ann@host", 1, true))
				time.Sleep(tt.wait) //nolint:forbidigo // of the bubble's clock

				began := time.Now()
				l, err := c.TakeLock(t.Context(), tt.who, time.Now, nil)

				var held *kube.HeldError

				if (tt.took < 0) != errors.As(err, &held) || (err == nil && time.Since(began) != tt.took) {
					t.Fatalf("after %s: %v", time.Since(began), err)
				}

				if err == nil {
					if former := l.Former(); former == nil || former.Holder != "ann@host" || former.Held != (tt.wait == 0) {
						t.Errorf("taken over from %+v", former)
					}

					if err = l.Release(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestLockOfAnotherClock meets a lock that was renewed by a clock an hour ahead of ours, or while ours was an hour ahead. A
// holder that lives keeps it, whatever the clocks say; a dead one does not keep it for an hour.
func TestLockOfAnotherClock(t *testing.T) {
	t.Parallel()

	shifted := func(by time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(by) } }

	for name, off := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		for _, alive := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, alive %t", name, alive), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					c := &kube.Client{API: fake.NewClientset()}

					first, err := c.TakeLock(t.Context(), holder("ann@host", 1, true), shifted(off), nil)
					if err != nil {
						t.Fatal(err)
					}

					defer first.Release(t.Context()) //nolint:errcheck // it may be lost

					lock := c
					if !alive { // nothing of what it writes arrives any more
						lock = &kube.Client{API: fake.NewClientset()}
						lease, err := c.API.CoordinationV1().Leases(kube.LockNamespace).Get(t.Context(), kube.LockName, metav1.GetOptions{})
						if err == nil {
							_, err = lock.API.CoordinationV1().Leases(kube.LockNamespace).Create(t.Context(), lease, metav1.CreateOptions{})
						}

						if err != nil {
							t.Fatal(err)
						}
					}

					var held *kube.HeldError

					began := time.Now()
					second, err := lock.TakeLock(t.Context(), holder("bob@host", 2, true), time.Now, nil)
					took := time.Since(began)

					switch {
					case alive && (!errors.As(err, &held) || took > 2*kube.LockRenewal || off > 0 != strings.Contains(err.Error(), "ahead of this machine's clock")):
						t.Errorf("after %s: %v", took, err)
					case !alive && (err != nil || off > 0 && took < kube.LockDuration || took > kube.LockDuration+20*time.Second):
						t.Errorf("after %s: %v", took, err)
					case err == nil:
						if err = second.Release(t.Context()); err != nil {
							t.Error(err)
						}
					}
				})
			})
		}
	}
}

func TestLockIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &kube.Client{API: fake.NewClientset()}
		leases := c.API.CoordinationV1().Leases(kube.LockNamespace)

		l, err := c.TakeLock(t.Context(), holder("ann@host", 1, true), time.Now, nil)
		if err != nil {
			t.Fatal(err)
		}

		lease, err := leases.Get(t.Context(), kube.LockName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}

		bob := "bob@host"
		lease.Spec.HolderIdentity = &bob

		if _, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}

		if err = <-l.Lost(); !errors.Is(err, kube.ErrLockLost) {
			t.Error(err)
		}

		if err = l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}

		if s, err := c.ReadLock(t.Context(), time.Now()); err != nil || s.Holder != bob {
			t.Errorf("somebody else's lock was released: %+v, %v", s, err)
		}
	})
}
