package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// GateInput is what a gate of the user's sees between two nodes.
type GateInput struct {
	Nodes     []GateNode `json:"nodes"`     // The nodes of the upgrade.
	Healthy   bool       `json:"healthy"`   // Whether the health check finds nothing wrong.
	Problems  []string   `json:"problems"`  // What it finds.
	Upgraded  int        `json:"upgraded"`  // How many nodes are done.
	Remaining int        `json:"remaining"` // How many are left.
	Failed    int        `json:"failed"`    // How many failed.
	Next      string     `json:"next"`      // The node that is to be started.
	To        string     `json:"to"`        // The version wanted.
	Elapsed   float64    `json:"elapsed"`   // Seconds since the run began.
}

// GateNode is one node, as a gate sees it.
type GateNode struct {
	Node     string `json:"node"`     // The address.
	Hostname string `json:"hostname"` // The hostname.
	Role     string `json:"role"`     // controlplane or worker.
	Version  string `json:"version"`  // The version that runs, as far as this run has seen.
	State    string `json:"state"`    // waiting, running, done or failed.
}

// UserGate is a condition of the user's that must hold before a node is started.
type UserGate struct {
	Kind  string // cel or command.
	Text  string // As it was given.
	Check func(context.Context, GateInput) (ok bool, saw string, err error)
}

// Check is what was waited for between two nodes.
type Check struct {
	Time          time.Time `json:"time"`           // When it began.
	Kind          string    `json:"kind"`           // health, cel, command, pause, soak, leadership, before-node, after-node or on-end.
	Next          string    `json:"next"`           // The node that was to be started, or was done.
	OK            bool      `json:"ok"`             // Whether it held.
	Message       string    `json:"message"`        // What was asked, or seen last.
	WaitedSeconds float64   `json:"waited_seconds"` // How long it took.
}

// healthPoll is how often the cluster's health and the user's gates are asked.
const healthPoll = time.Second

// between waits for everything that must hold before the next node is started.
func (a *apply) between(ctx context.Context, next NodePlan) error {
	if a.started() == 0 && len(a.o.Gates) == 0 {
		return nil
	}

	if a.started() > 0 && a.o.Pause > 0 {
		if err := a.check(ctx, "pause", next, a.o.Pause.String(), func(ctx context.Context) error { return poll.Pause(ctx, a.o.Pause) }); err != nil {
			return err
		}
	}

	if a.started() > 0 {
		if err := a.healthy(ctx, next); err != nil {
			return err
		}
	}

	for _, g := range a.o.Gates {
		err := a.check(ctx, g.Kind, next, g.Text, func(ctx context.Context) error {
			return poll.Until(ctx, "the gate "+g.Text, healthPoll, a.o.GateTimeout, func(ctx context.Context) (bool, string, error) {
				problems, err := a.problems(ctx)
				if err != nil {
					problems = []string{err.Error()}
				}

				return g.Check(ctx, a.input(next, problems))
			})
		})
		if err != nil {
			return err
		}
	}

	return nil
}

// healthy waits until nothing is wrong that was healthy before.
func (a *apply) healthy(ctx context.Context, next NodePlan) error {
	if a.cluster.Health == nil {
		return nil
	}

	return a.check(ctx, "health", next, "nothing is wrong that was healthy before", func(ctx context.Context) error {
		return poll.Until(ctx, "the cluster's health", healthPoll, a.o.GateTimeout, func(ctx context.Context) (bool, string, error) {
			problems, err := a.problems(ctx)
			if err != nil {
				return false, err.Error(), nil
			}

			return len(problems) == 0, strings.Join(problems, "; "), nil
		})
	})
}

// check carries one wait out and notes it.
func (a *apply) check(ctx context.Context, kind string, next NodePlan, what string, wait func(context.Context) error) error {
	began := a.cluster.Now()
	name := next.NodeName()
	where := "before " + name

	if kind == afterNode {
		where = "after " + name
	}

	a.tell("", kind, "%s: %s", where, what)

	err := wait(ctx)

	c := Check{Time: began.UTC(), Kind: kind, Next: name, OK: err == nil, Message: what, WaitedSeconds: runbook.Seconds(a.cluster.Now().Sub(began))}
	if err != nil {
		c.Message = err.Error()
	}

	a.mu.Lock()
	a.res.Checks = append(a.res.Checks, c)
	a.mu.Unlock()

	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return fmt.Errorf("%w %s: %w", errHalted, where, err)
	}
}

var errHalted = errors.New("halted")

// problems are the findings that were not there when the run began.
func (a *apply) problems(ctx context.Context) ([]string, error) {
	if a.cluster.Health == nil {
		return nil, nil
	}

	found, err := a.cluster.Health(ctx, a.inFlight())

	return slices.DeleteFunc(found, func(p string) bool { return slices.Contains(a.baseline, p) }), err
}

func (a *apply) inFlight() []talos.Target {
	a.mu.Lock()
	defer a.mu.Unlock()

	begun := lists.Filter(a.plan.Nodes, func(n NodePlan) bool { return a.state[n.Node] == stateRunning || a.state[n.Node] == stateFailed })

	return lists.Map(begun, func(n NodePlan) talos.Target { return talos.Target{Address: n.Node, Hostname: n.Hostname} })
}

func (a *apply) input(next NodePlan, problems []string) GateInput {
	a.mu.Lock()
	defer a.mu.Unlock()

	in := GateInput{
		Nodes: []GateNode{}, Healthy: len(problems) == 0, Problems: append([]string{}, problems...),
		Next: next.NodeName(), To: a.plan.To, Elapsed: runbook.Seconds(a.cluster.Now().Sub(a.began)),
	}

	for _, n := range a.plan.Nodes {
		state, version := a.state[n.Node], n.From
		if state == stateDone || n.Action == upgrade.ActSkip {
			state, version = stateDone, n.To
		}

		switch state {
		case stateDone:
			in.Upgraded++
		case stateFailed:
			in.Failed++
		default:
			in.Remaining++
		}

		in.Nodes = append(in.Nodes, GateNode{Node: n.Node, Hostname: n.Hostname, Role: n.Role, Version: version, State: state})
	}

	return in
}

// States of a node in a run.
const (
	stateWaiting = "waiting"
	stateRunning = "running"
	stateDone    = "done"
	stateFailed  = "failed"
)
