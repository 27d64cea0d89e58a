package probe_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// TestDoubt watches nodes after an answer was lost, by every wait that there is.
func TestDoubt(t *testing.T) {
	t.Parallel()

	before := talos.Boot{ID: "a", Proof: "boot_id"}
	never := time.Hour

	// stage gives a node another stage than running between two times.
	stage := func(name string, from, to time.Duration) func(time.Duration) (talos.MachineStatus, error) {
		return func(elapsed time.Duration) (talos.MachineStatus, error) {
			if elapsed >= from && elapsed < to {
				return talos.MachineStatus{Stage: name}, nil
			}

			return talos.MachineStatus{Stage: "running", Ready: true}, nil
		}
	}
	running := stage("", 0, 0)

	// hiccup answers the old boot, but for a moment.
	hiccup := func(from, to time.Duration) func(time.Duration) (talos.Boot, error) {
		return func(elapsed time.Duration) (talos.Boot, error) {
			if elapsed >= from && elapsed < to {
				return talos.Boot{}, errAway
			}

			return before, nil
		}
	}

	// demoted answers another kind of proof, which proves no other boot.
	demoted := func(time.Duration) (talos.Boot, error) {
		return talos.Boot{ID: "2026-01-01T00:00:00Z", Proof: "machine_status"}, nil
	}

	for _, c := range []struct {
		name              string
		boots             func(time.Duration) (talos.Boot, error)
		state             func(time.Duration) (talos.MachineStatus, error)
		back, gone, begun error
		least, most       time.Duration // For the new boot, or the end of the wait for it.
	}{
		{"it goes on as before", reboots(never, never, nil), running, probe.ErrNotBegun, probe.ErrNotBegun, probe.ErrNotBegun, 30 * time.Second, 31 * time.Second},
		{"behind an outage", hiccup(0, 10*time.Second), running, probe.ErrNotBegun, probe.ErrNotBegun, probe.ErrNotBegun, 40 * time.Second, 41 * time.Second},
		{"with an outage", hiccup(20*time.Second, 25*time.Second), running, probe.ErrNotBegun, probe.ErrNotBegun, probe.ErrNotBegun, 55 * time.Second, 56 * time.Second},
		{"it reboots", reboots(time.Second, 50*time.Second, errAway), running, nil, nil, nil, 50 * time.Second, 51 * time.Second},
		{"it reboots in no time", reboots(time.Second, time.Second, nil), running, nil, probe.ErrBooted, nil, time.Second, 2 * time.Second},
		{
			"it takes long to go", reboots(90*time.Second, 100*time.Second, errAway), stage("rebooting", time.Second, 90*time.Second), nil, nil, nil,
			100 * time.Second, 101 * time.Second,
		},
		{"it boots all the time", reboots(never, never, nil), stage("booting", 0, never), poll.ErrDeadline, poll.ErrDeadline, poll.ErrDeadline, 5 * time.Minute, 6 * time.Minute},
		{"it lost its proof", demoted, running, poll.ErrDeadline, probe.ErrNotBegun, probe.ErrNotBegun, 5 * time.Minute, 6 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			wait := func(name string, want error, wait func(*testing.T, probe.Prober) error) {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						n, start := node(c.boots), time.Now()
						n.StatusAs = func(context.Context) (talos.MachineStatus, error) { return c.state(time.Since(start)) }

						if err := wait(t, prober(n, n).Unanswered(before, runbook.ShownWithin)); !errors.Is(err, want) {
							t.Errorf("got %v, want %v", err, want)
						}
					})
				})
			}

			wait("back", c.back, func(t *testing.T, w probe.Prober) error {
				now := time.Now()
				_, err := w.AwaitNew(t.Context(), before, now, 5*time.Minute)

				if took := time.Since(now); took < c.least || took > c.most {
					t.Errorf("took %s, want %s to %s", took, c.least, c.most)
				}

				return err
			})
			wait("gone", c.gone, func(t *testing.T, w probe.Prober) error {
				_, err := w.AwaitGone(t.Context(), before, time.Now(), 2*time.Second, 5*time.Minute)

				return err
			})
			wait("begun", c.begun, func(t *testing.T, w probe.Prober) error { return w.AwaitBegun(t.Context()) })
		})
	}
}
