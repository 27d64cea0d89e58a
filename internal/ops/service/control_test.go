package service_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/service"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// node runs one service that follows a script after an action.
type node struct {
	service talos.Service
	after   []talos.Service // The states after the action, one for each read; the last one stays.
	err     error           // The answer to the action.
	asked   int
}

func (n *node) Service(context.Context, string) (talos.Service, error) {
	if n.asked > 0 && len(n.after) > 0 {
		n.service = n.after[0]
		n.after = n.after[1:]
	}

	return n.service, nil
}

func (n *node) ControlService(context.Context, string, string) (string, error) {
	n.asked++

	return "done", n.err
}

func at(state, health string, second int, message string) talos.Service {
	return talos.Service{ID: "kubelet", State: state, Health: health, Events: []talos.ServiceEvent{
		{Time: time.Unix(0, 0), State: "running", Message: "Health check successful"},
		{Time: time.Unix(int64(second), 0), State: state, Message: message},
	}}
}

func TestControl(t *testing.T) {
	t.Parallel()

	away := &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Err: errors.New("connection reset")}
	well := at("running", talos.Healthy, 1, "Health check successful")

	for _, c := range []struct {
		name  string
		act   string
		after []talos.Service
		err   error
		want  runbook.Status
		code  errs.Code
	}{
		{
			"healthy only counts after the restart", talos.ServiceRestart,
			[]talos.Service{well, at("stopping", talos.HealthUnknown, 2, "x"), at("running", talos.HealthUnknown, 3, "Started"), at("running", talos.Healthy, 4, "Health check successful")},
			nil, runbook.OK, errs.OK,
		},
		{"a service that was checked must be healthy", talos.ServiceRestart, []talos.Service{at("running", talos.HealthUnknown, 3, "Started")}, nil, runbook.Unhealthy, errs.Lost},
		{"the answer is lost and it was done", talos.ServiceRestart, []talos.Service{at("running", talos.Healthy, 4, "ok")}, away, runbook.OK, errs.OK},
		{"the answer is lost and nothing is seen", talos.ServiceRestart, []talos.Service{well}, away, runbook.Unknown, errs.Unknown},
		{"refused", talos.ServiceStop, nil, errs.New(errs.Failed, "no"), runbook.Failed, errs.Failed},
		{"nothing to do", talos.ServiceStart, nil, nil, runbook.Unchanged, errs.OK},
		{"stopped", talos.ServiceStop, []talos.Service{at("finished", talos.HealthUnknown, 3, "done")}, nil, runbook.OK, errs.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &node{service: well, after: c.after, err: c.err}

				res, err := service.Control(t.Context(), n, "cp-1", "kubelet", service.Options{Act: c.act, Wait: true, Deadline: time.Minute})
				if res.Status != c.want || errs.ExitCode(err) != c.code {
					t.Errorf("status %s, exit %d, want %s, %d: %v", res.Status, errs.ExitCode(err), c.want, c.code, err)
				}

				if n.asked > 1 {
					t.Errorf("sent %d times", n.asked)
				}
			})
		})
	}
}

func TestControlInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errs.New(errs.Interrupted, "interrupted")

		time.AfterFunc(3*time.Second, func() { cancel(cause) })

		n := &node{service: at("running", talos.Healthy, 1, "ok"), after: []talos.Service{at("stopping", talos.HealthUnknown, 2, "x")}}
		if _, err := service.Control(ctx, n, "cp-1", "kubelet", service.Options{Act: talos.ServiceRestart, Wait: true, Deadline: time.Minute}); errs.ExitCode(err) != errs.Interrupted {
			t.Errorf("a cancelled wait ended with %v", err)
		}
	})
}
