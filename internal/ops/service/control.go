// Package service starts, stops and restarts the services of a node and verifies the result.
package service

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// Node is one node; *talos.Node implements it.
type Node interface {
	Service(ctx context.Context, id string) (talos.Service, error)
	ControlService(ctx context.Context, act, id string) (string, error)
}

// Change is the result for one service of one node.
type Change struct {
	talos.NodeRef

	ID             string         `json:"id"`                    // The service.
	Action         string         `json:"action"`                // start, stop or restart.
	Status         runbook.Status `json:"status"`                // planned, ok, requested, unchanged, unhealthy, failed, unknown or interrupted.
	State          string         `json:"state"`                 // The service's state as last seen, in lower case.
	Health         string         `json:"health"`                // healthy, unhealthy, or unknown where there is no check.
	Message        string         `json:"message"`               // The last message of the node or the service.
	AnswerLost     bool           `json:"answer_lost,omitempty"` // Whether the answer was lost and the state read back.
	ElapsedSeconds float64        `json:"elapsed_seconds"`       // How long it took.

	sent, heard bool // The request was answered, or its effect was seen.
}

// Options are the user's settings.
type Options struct {
	Act      string        // start, stop or restart.
	Wait     bool          // Wait until it is healthy again, or stopped.
	Deadline time.Duration // For the wait.
	DryRun   bool
}

// Refused explains why a service cannot be controlled at all, nil when no reason is known: Talos refuses these on every
// version (they have no APIStopAllowed or APIRestartAllowed).
func Refused(act, id string) error {
	if act == talos.ServiceStart || !slices.Contains([]string{"apid", "etcd", "machined", "trustd"}, id) {
		return nil
	}

	return errs.Usagef("cannot %s %s: Talos does not allow it through its API", act, id).
		WithHint("a reboot restarts it: talosmate node reboot")
}

// Control changes the service and verifies the result. name is the node in messages. The change is valid even on error.
func Control(ctx context.Context, n Node, name, id string, o Options) (Change, error) {
	started := time.Now()
	res := Change{ID: id, Action: o.Act, Status: runbook.Failed}

	err := control(ctx, n, name, &res, o)
	res.ElapsedSeconds = time.Since(started).Seconds()

	if err != nil && errs.ByUser(ctx) {
		res.Status = runbook.Interrupted
		err = errs.BrokenOff(ctx, fmt.Sprintf("%s service %s on %s", o.Act, id, name), res.leftovers())
	}

	return res, err
}

// leftovers describes what an interruption leaves.
func (c *Change) leftovers() string {
	switch {
	case !c.sent:
		return "the service was left as it was"
	case !c.heard:
		return fmt.Sprintf("the %s was requested and not answered: run `talosmate service info %s` before you request it again", c.Action, c.ID)
	default:
		return fmt.Sprintf("the %s was requested and continues: run `talosmate service info %s`", c.Action, c.ID)
	}
}

func control(ctx context.Context, n Node, name string, res *Change, o Options) error {
	before, err := n.Service(ctx, res.ID)
	if err != nil {
		return err
	}

	res.see(before)

	switch {
	case already(before, o.Act):
		res.Status = runbook.Unchanged

		return nil
	case o.DryRun:
		res.Status = runbook.Planned

		return nil
	}

	// Talos answers a stop when the service has stopped, so the answer may take as long as the user waits.
	sent := runbook.Request{Limit: o.Deadline, Send: func(ctx context.Context) (err error) {
		res.Message, err = n.ControlService(ctx, o.Act, res.ID)

		return err
	}}.Once(ctx)

	res.sent, res.heard, res.AnswerLost = sent.Answer != runbook.NotSent, sent.Heard(), sent.Answer == runbook.Lost

	switch {
	case sent.Answer == runbook.NotSent || sent.Answer == runbook.Rejected || ctx.Err() != nil:
		return sent.Err
	case sent.Answer == runbook.Lost:
		return readBack(ctx, n, name, res, before, o, sent)
	case !o.Wait:
		res.Status = runbook.Requested

		return nil
	}

	return await(ctx, n, name, res, before, o)
}

// already reports whether there is nothing to do.
func already(s talos.Service, act string) bool {
	switch act {
	case talos.ServiceStart:
		return s.State == "running"
	case talos.ServiceStop:
		return s.State == "finished"
	default:
		return false
	}
}

// look reads the service. moved reports whether it has a new event.
func look(ctx context.Context, n Node, res *Change, before talos.Service) (now talos.Service, moved bool, saw string, err error) {
	if now, err = n.Service(ctx, res.ID); err != nil {
		return now, false, err.Error(), err
	}

	res.see(now)

	return now, last(now).After(last(before)), fmt.Sprintf("%s, health %s %s", now.State, now.Health, now.LastMessage), nil
}

// readBack waits until the service shows a request whose answer was lost, and then for the state that the user waits
// for.
func readBack(ctx context.Context, n Node, name string, res *Change, before talos.Service, o Options, sent runbook.Sent) error {
	res.Status = runbook.Unknown
	hint := fmt.Sprintf("whether the %s was carried out is not known: run `talosmate service info %s` before you try again", o.Act, res.ID)

	err := sent.ReadBack(ctx, "service "+res.ID, min(o.Deadline, runbook.ShownWithin), hint, func(ctx context.Context) (bool, string, error) {
		_, moved, saw, _ := look(ctx, n, res, before) // an observation that fails is repeated until the deadline

		return moved, saw, nil
	})
	if err != nil {
		return err
	}

	res.heard = true

	if !o.Wait {
		res.Status = runbook.Requested

		return nil
	}

	return await(ctx, n, name, res, before, o)
}

// await polls the service until it is in the wanted state.
func await(ctx context.Context, n Node, name string, res *Change, before talos.Service, o Options) error {
	err := poll.Until(ctx, "service "+res.ID, time.Second/2, o.Deadline, func(ctx context.Context) (bool, string, error) {
		now, moved, saw, err := look(ctx, n, res, before)

		return err == nil && moved && wanted(now, o.Act), saw, nil
	})

	switch {
	case err == nil:
		res.Status = runbook.OK

		return nil
	case ctx.Err() != nil:
		return err
	default:
		res.Status = runbook.Unhealthy

		return &errs.Error{Exit: errs.Lost, Err: fmt.Errorf("cannot %s service %s on %s: %w", o.Act, res.ID, name, err)}
	}
}

func (c *Change) see(s talos.Service) {
	c.State, c.Health = s.State, s.Health

	if len(s.Events) > 0 {
		c.Message = s.Events[len(s.Events)-1].Message
	}
}

// last is the time of the service's last event, by the node's clock.
func last(s talos.Service) time.Time {
	if len(s.Events) == 0 {
		return time.Time{}
	}

	return s.Events[len(s.Events)-1].Time
}

// wanted reports whether a service is in the state that the action leads to. A service that was ever checked must be
// healthy; one without a check only has to run.
func wanted(s talos.Service, act string) bool {
	if act == talos.ServiceStop {
		return s.State == "finished"
	}

	if s.State != "running" {
		return false
	}

	checked := slices.ContainsFunc(s.Events, func(e talos.ServiceEvent) bool { return strings.HasPrefix(e.Message, "Health check") })

	return s.Health == talos.Healthy || (!checked && s.Health == talos.HealthUnknown)
}
