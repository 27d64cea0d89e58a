package probe_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

// node is a node over time: what it answers depends on how long the test has run.
func node(boots func(elapsed time.Duration) (talos.Boot, error)) *fake.Machine {
	m, start := fake.NewMachine("v1.13.9"), time.Now()
	m.BootAs = func(ctx context.Context) (talos.Boot, error) {
		b, err := boots(time.Since(start))
		if errors.Is(err, errHangs) {
			<-ctx.Done()

			return b, context.Cause(ctx)
		}

		return b, err
	}

	return m
}

var (
	errAway  = errors.New("connection refused")
	errHangs = errors.New("no answer")
)

// reboots answers boot a until downAt, nothing until upAt, then boot b.
func reboots(downAt, upAt time.Duration, away error) func(time.Duration) (talos.Boot, error) {
	return func(elapsed time.Duration) (talos.Boot, error) {
		switch {
		case elapsed < downAt:
			return talos.Boot{ID: "a", Proof: "boot_id"}, nil
		case elapsed < upAt:
			return talos.Boot{}, away
		default:
			return talos.Boot{ID: "b", Proof: "boot_id"}, nil
		}
	}
}

func prober(via, direct *fake.Machine) probe.Prober {
	return probe.Prober{
		Name: "cp-1", Via: via, Now: time.Now,
		Fresh: func() (probe.API, probe.Close) { return direct, func() error { return nil } },
	}
}

func TestAwaitNew(t *testing.T) {
	t.Parallel()

	before := talos.Boot{ID: "a", Proof: "boot_id"}

	for _, c := range []struct {
		name          string
		via, direct   func(time.Duration) (talos.Boot, error)
		minDown, most time.Duration
	}{
		{"directly first", reboots(time.Second, 20*time.Second, errAway), reboots(time.Second, 4*time.Second, errAway), 2500 * time.Millisecond, 4 * time.Second},
		{"by the endpoint only", reboots(time.Second, 6*time.Second, errAway), reboots(0, time.Hour, errHangs), 4 * time.Second, 9 * time.Second},
		{"a black hole meanwhile", reboots(time.Second, 6*time.Second, errHangs), reboots(time.Second, 6*time.Second, errHangs), 4 * time.Second, 9 * time.Second},
		{"never seen away", reboots(time.Second, time.Second, nil), reboots(time.Second, time.Second, nil), 0, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				now := time.Now()
				w := prober(node(c.via), node(c.direct))

				seen, err := w.AwaitNew(t.Context(), before, now, time.Minute)
				if err != nil || seen.Boot.ID != "b" {
					t.Fatalf("got %+v, %v", seen, err)
				}

				if seen.Downtime < c.minDown || seen.Downtime > c.most {
					t.Errorf("downtime %s, want %s to %s", seen.Downtime, c.minDown, c.most)
				}

				if seen.Lag <= 0 || seen.Lag > probe.Limit+probe.Poll {
					t.Errorf("lag %s, want at most %s", seen.Lag, probe.Limit+probe.Poll)
				}
			})
		})
	}
}

func TestAwaitNewEndsBadly(t *testing.T) {
	t.Parallel()

	before := talos.Boot{ID: "a", Proof: "boot_id"}

	t.Run("other proof", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n := node(func(time.Duration) (talos.Boot, error) {
				return talos.Boot{ID: "2026-01-01T00:00:00Z", Proof: "machine_status"}, nil
			})

			if _, err := prober(n, n).AwaitNew(t.Context(), before, time.Now(), 10*time.Second); !errors.Is(err, poll.ErrDeadline) {
				t.Errorf("another kind of proof counted as a new boot: %v", err)
			}
		})
	})

	t.Run("deadline", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n := node(reboots(time.Second, time.Hour, errAway))

			_, err := prober(n, n).AwaitNew(t.Context(), before, time.Now(), 10*time.Second)
			if !errors.Is(err, poll.ErrDeadline) || !strings.Contains(err.Error(), "the node does not answer") {
				t.Errorf("got %v", err)
			}
		})
	})

	t.Run("interrupt", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n := node(reboots(time.Second, time.Hour, errAway))
			ctx, cancel := context.WithCancelCause(t.Context())
			cause := errors.New("interrupted")

			time.AfterFunc(3*time.Second, func() { cancel(cause) })

			if _, err := prober(n, n).AwaitNew(ctx, before, time.Now(), time.Minute); !errors.Is(err, cause) {
				t.Errorf("a cancelled wait ended with %v", err)
			}
		})
	})
}

func TestStill(t *testing.T) {
	t.Parallel()

	n := node(reboots(time.Hour, time.Hour, nil))
	if !prober(n, n).Still(t.Context(), talos.Boot{ID: "a", Proof: "boot_id"}) || prober(n, n).Still(t.Context(), talos.Boot{ID: "z", Proof: "boot_id"}) {
		t.Error("the boot is not told apart")
	}
}

func TestAwaitGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// A hiccup at 1 s is not the end, the silence from 5 s on is.
		n := node(func(elapsed time.Duration) (talos.Boot, error) {
			if (elapsed > time.Second && elapsed < 2*time.Second) || elapsed > 5*time.Second {
				return talos.Boot{}, errAway
			}

			return talos.Boot{ID: "a"}, nil
		})

		up, err := prober(n, n).AwaitGone(t.Context(), talos.Boot{ID: "a"}, time.Now(), 3*time.Second, time.Minute)
		if err != nil || up < 4*time.Second || up > 6*time.Second {
			t.Errorf("got %s, %v", up, err)
		}
	})
}

func TestAwaitSettled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		n := fake.NewMachine("v1.13.9")
		n.StatusAs = func(context.Context) (talos.MachineStatus, error) {
			switch elapsed := time.Since(start); {
			case elapsed < time.Second:
				return talos.MachineStatus{}, errAway
			case elapsed < 2*time.Second:
				return talos.MachineStatus{Stage: "booting", Ready: true}, nil // seen in passing
			case elapsed < 3*time.Second:
				return talos.MachineStatus{Stage: "running"}, nil
			default:
				return talos.MachineStatus{Stage: "running", Ready: true}, nil
			}
		}
		n.BootAs = func(ctx context.Context) (talos.Boot, error) { // it answers when it shows its state
			_, err := n.StatusAs(ctx)

			return talos.Boot{}, err
		}

		if err := prober(n, n).AwaitSettled(t.Context(), time.Minute); err != nil || time.Since(start) < 3*time.Second {
			t.Errorf("settled after %s, %v", time.Since(start), err)
		}
	})
}

func TestAwaitEtcd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		member := etcd.Member{ID: "1", Node: "10.0.0.1"}
		look := func(context.Context) (etcd.View, error) {
			m := member
			m.Learner, m.Healthy = time.Since(start) < 2*time.Second, time.Since(start) > time.Second

			return etcd.View{Known: true, Members: []etcd.Member{m}}, nil
		}

		err := probe.AwaitEtcd(t.Context(), talos.Target{Address: "10.0.0.1"}, look, time.Second)
		if err != nil || time.Since(start) < 2*time.Second {
			t.Errorf("etcd after %s, %v", time.Since(start), err)
		}
	})
}

func TestAwaitKubernetes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		k, m := fake.NewKubernetes("cp-1"), fake.NewMachine("v1.13.9")
		m.Name, m.Kube = "cp-1", k // Ready until it is down, and again a second after its boot

		time.AfterFunc(time.Second, m.GoDown)

		err := probe.AwaitKubernetes(t.Context(), k, "cp-1", talos.Boot{ID: "boot-1", Proof: "boot_id"}, time.Minute)
		if err != nil || time.Since(start) < 3*time.Second {
			t.Errorf("Ready after %s, %v", time.Since(start), err)
		}
	})
}
