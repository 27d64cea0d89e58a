package drain_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/drain"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// scheduler is a Kubernetes API that the user interrupts in one of its calls.
type scheduler struct {
	cordoned bool
	acts     []string

	in   string // The call in which the interruption falls.
	done bool   // Whether that call was carried out all the same.
	dead bool   // Whether the API answers nothing after it.
	stop func()
}

func (s *scheduler) call(ctx context.Context, name string, do func()) error {
	if s.dead && ctx.Err() == nil && s.stop == nil {
		return context.DeadlineExceeded
	}

	if name != s.in || s.stop == nil {
		do()

		return ctx.Err()
	}

	if s.done {
		do()
	}

	s.stop()
	s.stop = nil

	return ctx.Err()
}

func (s *scheduler) Node(ctx context.Context, name string) (kube.Node, bool, error) {
	err := s.call(ctx, "node", func() {})

	return kube.Node{Name: name, Unschedulable: s.cordoned}, true, err
}

func (s *scheduler) Blockers(ctx context.Context, _ string) ([]kube.Blocker, error) {
	return nil, s.call(ctx, "blockers", func() {})
}

func (s *scheduler) SetSchedulable(ctx context.Context, _ string, schedulable bool) (bool, error) {
	name, changed := "cordon", s.cordoned == schedulable
	if schedulable {
		name = "uncordon"
	}

	err := s.call(ctx, name, func() {
		s.cordoned = !schedulable
		s.acts = append(s.acts, name)
	})

	return changed && err == nil, err
}

func (s *scheduler) Drain(ctx context.Context, _ string, _ kube.DrainOptions) (int, error) {
	return 2, s.call(ctx, "drain", func() {})
}

// TestInterrupted interrupts in every phase: a drain lifts the cordon that it made, or may have made, and nobody
// else's.
func TestInterrupted(t *testing.T) {
	t.Parallel()

	evict, cordon, uncordon := drain.Options{Evict: true, Timeout: time.Minute, Nodes: 3}, drain.Options{}, drain.Options{Schedulable: true}

	for _, c := range []struct {
		name     string
		s        scheduler
		o        drain.Options
		acts     []string
		cordoned bool
		hint     string
	}{
		{"a drain that looks", scheduler{in: "node"}, evict, nil, false, "was left as it was"},
		{"a drain that looks at budgets", scheduler{in: "blockers"}, evict, nil, false, "was left as it was"},
		{"a drain whose cordon did not arrive", scheduler{in: "cordon"}, evict, []string{"uncordon"}, false, "was lifted"},
		{"a drain whose cordon did", scheduler{in: "cordon", done: true}, evict, []string{"cordon", "uncordon"}, false, "was lifted"},
		{"a drain that evicts", scheduler{in: "drain"}, evict, []string{"cordon", "uncordon"}, false, "was lifted; 2 pods"},
		{"a drain of a cordoned node", scheduler{in: "drain", cordoned: true}, evict, []string{"cordon"}, true, "left as it was found"},
		{"a drain whose undo fails", scheduler{in: "drain", dead: true}, evict, []string{"cordon"}, true, "was not lifted"},
		{"a cordon that did not arrive", scheduler{in: "cordon"}, cordon, nil, false, "had not answered"},
		{"a cordon that did", scheduler{in: "cordon", done: true}, cordon, []string{"cordon"}, true, "had not answered"},
		{"an uncordon that looks", scheduler{in: "node", cordoned: true}, uncordon, nil, true, "was left as it was"},
		{"an uncordon that did not arrive", scheduler{in: "uncordon", cordoned: true}, uncordon, nil, true, "had not answered"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			ctx, cancel := context.WithCancelCause(t.Context())
			s := c.s
			s.stop = func() { cancel(errs.New(errs.Interrupted, "interrupted")) }

			res, err := drain.Schedule(ctx, &s, talos.Target{Address: "1.1.1.1"}, "n1", c.o, progress.Discard{})
			if errs.ExitCode(err) != errs.Interrupted || res.Status != runbook.Interrupted || !strings.Contains(strings.Join(errs.Hints(err), ""), c.hint) {
				t.Errorf("exit %d, status %s, hints %q, want %q: %v", errs.ExitCode(err), res.Status, errs.Hints(err), c.hint, err)
			}

			if !slices.Equal(s.acts, c.acts) || s.cordoned != c.cordoned {
				t.Errorf("acts %v, cordoned %t, want %v, %t", s.acts, s.cordoned, c.acts, c.cordoned)
			}
		})
	}
}

// lostError is what the adapter gives where the API server did not answer a change.
type lostError struct{ error }

func (lostError) AnswerLost() bool { return true }

// silent is a Kubernetes API that does not answer the change of a node.
type silent struct {
	*scheduler

	changes int
	ignores bool // The change did not arrive.
}

func (s *silent) SetSchedulable(ctx context.Context, name string, schedulable bool) (bool, error) {
	s.changes++

	if !s.ignores {
		if _, err := s.scheduler.SetSchedulable(ctx, name, schedulable); err != nil {
			return false, err
		}
	}

	return false, lostError{context.DeadlineExceeded}
}

// TestScheduleLost reads back a cordon, a drain and an uncordon that were not answered. None is sent again, and none
// ends as if nothing had been sent.
func TestScheduleLost(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name    string
		o       drain.Options
		before  bool // Cordoned.
		ignores bool
		status  runbook.Status
		code    errs.Code
	}{
		{"a cordon that arrived", drain.Options{}, false, false, runbook.Cordoned, errs.OK},
		{"a cordon that did not", drain.Options{}, false, true, runbook.Unknown, errs.Unknown},
		{"an uncordon that arrived", drain.Options{Schedulable: true}, true, false, runbook.Uncordoned, errs.OK},
		{"an uncordon that did not", drain.Options{Schedulable: true}, true, true, runbook.Unknown, errs.Unknown},
		{"a drain", drain.Options{Evict: true, Timeout: time.Minute, Nodes: 3}, false, false, runbook.Failed, errs.Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &silent{scheduler: &scheduler{cordoned: c.before}, ignores: c.ignores}

				res, err := drain.Schedule(t.Context(), s, talos.Target{Address: "1.1.1.1"}, "n1", c.o, progress.Discard{})
				if errs.ExitCode(err) != c.code || res.Status != c.status || s.changes != 1 {
					t.Errorf("exit %d, status %s, %d changes, want %d, %s: %v", errs.ExitCode(err), res.Status, s.changes, c.code, c.status, err)
				}
			})
		})
	}
}
