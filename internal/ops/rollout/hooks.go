package rollout

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/talosmate/talosmate/internal/command"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// Hooks are the user's commands around the nodes of a run. A run that was killed, and is started again, runs them again: each is
// run at least once for a node that is not done, and at the end.
type Hooks struct {
	BeforeNode string        // Its failure ends the run before anything is done to the node.
	AfterNode  string        // Its failure ends the run; the node stays as it is.
	OnEnd      string        // Run once the run holds the lock, however it ends.
	Timeout    time.Duration // For each command.
	Warn       func(error)   // Receives the failure of OnEnd after a run that failed itself.
}

// The phases of hooks.
const (
	beforeNode = "before-node"
	afterNode  = "after-node"
	onEnd      = "on-end"
)

// HookSchema names the document that a hook reads.
const HookSchema = "talosmate/v1/UpgradeHook"

// HookInput is what a command of --before-node, --after-node and --on-end receives on its standard input.
type HookInput struct {
	Schema    string     `json:"schema"`             // talosmate/v1/UpgradeHook.
	Phase     string     `json:"phase"`              // before-node, after-node or on-end.
	Cluster   string     `json:"cluster"`            // The talosconfig context.
	PlanHash  string     `json:"plan_hash"`          // The plan's hash, the same in a run that continues another.
	StartedAt time.Time  `json:"started_at"`         // When the run began.
	Node      string     `json:"node,omitempty"`     // The node's address; empty at the end.
	Hostname  string     `json:"hostname,omitempty"` // Its hostname.
	Role      string     `json:"role,omitempty"`     // controlplane or worker.
	From      string     `json:"from,omitempty"`     // The version before.
	To        string     `json:"to"`                 // The version after; at the end that of the run.
	Outcome   string     `json:"outcome,omitempty"`  // How the node, or the run, ended: ok, drain_failed, halted, interrupted, …; empty before a node.
	Error     string     `json:"error,omitempty"`    // Why it failed.
	Upgraded  int        `json:"upgraded"`           // How many nodes are done.
	Remaining int        `json:"remaining"`          // How many are left.
	Failed    int        `json:"failed"`             // How many failed.
	Nodes     []GateNode `json:"nodes"`              // The nodes of the run.
}

// facts are the same for the environment. What a node said of itself is left out where it is not a plain word: a command may
// use its variables without quotes.
func (in HookInput) facts() []string {
	plain := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:+-]*$`)
	name := in.Hostname

	if !plain.MatchString(name) {
		name = in.Node
	}

	out := []string{
		"TALOSMATE_PHASE=" + in.Phase, "TALOSMATE_PLAN=" + in.PlanHash, "TALOSMATE_OUTCOME=" + in.Outcome, "TALOSMATE_ROLE=" + in.Role,
		fmt.Sprintf("TALOSMATE_UPGRADED=%d", in.Upgraded), fmt.Sprintf("TALOSMATE_REMAINING=%d", in.Remaining), fmt.Sprintf("TALOSMATE_FAILED=%d", in.Failed),
	}

	for variable, value := range map[string]string{"NODE": name, "ADDRESS": in.Node, "FROM": in.From, "TO": in.To} {
		if !plain.MatchString(value) {
			value = ""
		}

		out = append(out, "TALOSMATE_"+variable+"="+value)
	}

	return out
}

// around runs the work on a node between its two commands.
func (a *apply) around(ctx context.Context, n NodePlan, hop Hop, work func() (runbook.Status, error)) error {
	if hop.To == "" {
		hop.From, hop.To = n.From, n.To
	}

	in := HookInput{Node: n.Node, Hostname: n.Hostname, Role: n.Role, From: hop.From, To: hop.To}

	if err := a.hook(ctx, beforeNode, a.o.Hooks.BeforeNode, n, in); err != nil {
		a.set(n.Node, stateWaiting)

		return err
	}

	status, err := work()
	if ctx.Err() != nil {
		return err
	}

	in.Outcome = string(status)
	if err != nil {
		in.Error = err.Error()
	}

	if failed := a.hook(ctx, afterNode, a.o.Hooks.AfterNode, n, in); err == nil {
		err = failed
	}

	return err
}

// atEnd runs the last command, and returns its failure if the run had none.
func (a *apply) atEnd(ctx context.Context, err error) error {
	if a.o.Hooks.OnEnd == "" || !a.begun {
		return nil
	}

	in := HookInput{To: a.plan.To, Outcome: string(a.ends(ctx, err))}
	if err != nil {
		in.Error = err.Error()
	}

	limit := a.o.Hooks.Timeout
	if ctx.Err() != nil {
		limit = min(limit, runbook.UndoWithin)
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()

	failed := a.hook(ctx, onEnd, a.o.Hooks.OnEnd, NodePlan{NodeRef: talos.NodeRef{Hostname: "the end"}}, in)

	switch {
	case failed == nil:
		return nil
	case err != nil:
		a.o.Hooks.Warn(failed)

		return nil
	}

	if a.res.Status == runbook.Unfinished {
		a.res.Status = runbook.Partial
	}

	return errs.New(errs.Failed, "the nodes are done, but %v", failed)
}

// hook runs one command, and notes it among the checks.
func (a *apply) hook(ctx context.Context, phase, text string, n NodePlan, in HookInput) error {
	if text == "" {
		return nil
	}

	seen := a.input(n, nil)
	in.Schema, in.Phase, in.Cluster, in.PlanHash, in.StartedAt = HookSchema, phase, a.plan.Cluster, a.plan.Hash, a.res.StartedAt
	in.Upgraded, in.Remaining, in.Failed, in.Nodes = seen.Upgraded, seen.Remaining, seen.Failed, seen.Nodes

	return a.check(ctx, phase, n, "the command of --"+phase, func(ctx context.Context) error {
		limit, cancel := context.WithTimeoutCause(ctx, a.o.Hooks.Timeout, fmt.Errorf("it was still running after %s", a.o.Hooks.Timeout))
		defer cancel()

		last, err := command.Run(limit, text, in.facts(), in)
		if err != nil {
			return fmt.Errorf("the command of --%s failed: %w", phase, err)
		}

		if last != "" {
			a.tell("", phase, "%s", last)
		}

		return nil
	})
}
