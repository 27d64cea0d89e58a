package configrollout

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// States of a node with respect to a rollout.
const (
	StateClean      = "clean"      // Nothing is left.
	StateTrying     = "trying"     // A configuration is on trial: Talos reverts it unless it is kept.
	StateStaged     = "staged"     // Another configuration waits for the next boot.
	StateUnverified = "unverified" // A run sent a configuration and was broken off before it had verified the node.
	StateUnknown    = "unknown"    // The node could not be asked.
)

// NodeStatus is what a rollout left on a node.
type NodeStatus struct {
	talos.NodeRef

	Role      string     `json:"role"`                 // controlplane or worker.
	State     string     `json:"state"`                // clean, trying, staged, unverified or unknown.
	RevertsAt *time.Time `json:"reverts_at,omitempty"` // When Talos reverts, where a run from this machine left a configuration on trial.
	AppliedAt *time.Time `json:"applied_at,omitempty"` // When a file was applied last from this machine.
	SHA256    string     `json:"sha256,omitempty"`     // Of that file.
	Drift     int        `json:"drift"`                // How many differences the node has from it.
	Message   string     `json:"message"`              // What that means, in one sentence.
	Error     string     `json:"error,omitempty"`      // Why it is unknown.
}

// StatusResult is what a running or broken-off rollout left.
type StatusResult struct {
	Clean   bool            `json:"clean"`    // Whether nothing is left and nobody is at work.
	Lock    kube.LockState  `json:"lock"`     // Who holds the cluster's lock.
	HasLock bool            `json:"has_lock"` // Whether there is a lock to look at: Kubernetes could be asked.
	Nodes   []NodeStatus    `json:"nodes"`    // Every member; never null.
	Journal []runbook.Entry `json:"journal"`  // The last lines of this machine's journal; never null.
}

// Status looks at what a rollout left. Nodes that do not answer are in the result and in the error.
func (p Planner) Status(ctx context.Context, journal []runbook.Entry) (StatusResult, error) {
	out := StatusResult{Clean: true, Nodes: make([]NodeStatus, len(p.Cluster.Members)), Journal: journal}

	if reader, err := clusterlock.Through(ctx, p.Cluster.Kube); err == nil {
		out.Lock, err = reader.ReadLock(ctx, p.Cluster.Now())
		out.HasLock = err == nil
	} else if errs.IsUntrusted(err) {
		return StatusResult{}, err
	}

	failed := &errs.Nodes{}
	errors := make([]error, len(p.Cluster.Members))

	var group errs.Group

	for i, m := range p.Cluster.Members {
		group.Go(func() {
			errors[i] = errs.Safely(func() (err error) {
				out.Nodes[i], err = p.status(ctx, m)

				return err
			})
		})
	}

	group.Wait()

	for i, err := range errors {
		if err != nil {
			failed.Errors = append(failed.Errors, errs.Typed(err, p.Cluster.Members[i].Node, p.Cluster.Members[i].Hostname))
		} else {
			failed.Succeeded++
		}

		out.Clean = out.Clean && out.Nodes[i].State == StateClean
	}

	out.Clean = out.Clean && !out.Lock.Held

	switch {
	case ctx.Err() != nil:
		return out, context.Cause(ctx)
	case len(failed.Errors) > 0:
		return out, failed
	default:
		return out, nil
	}
}

func (p Planner) status(ctx context.Context, m talos.Member) (NodeStatus, error) {
	out := NodeStatus{Role: m.Type, State: StateUnknown, Message: "the node does not answer"}
	out.SetNode(m.Target())

	var (
		rec  record
		last lastApplied
	)

	broken, err := p.Store.Read(m.Target(), recordName, &rec)
	if err != nil {
		return out, err
	}

	recorded, err := p.Store.Read(m.Target(), appliedName, &last)
	if err != nil {
		return out, err
	}

	if recorded {
		out.AppliedAt, out.SHA256 = &last.Time, last.SHA256
	}

	node := p.Cluster.Node(m.Target())

	text, err := node.Read.MachineConfig(ctx)

	next, known := text, false
	if err == nil {
		next, known, err = node.Read.PersistedConfig(ctx)
	}

	if err != nil {
		if broken {
			out.RevertsAt = rec.Reverts
		}

		out.Error = err.Error()

		return out, err
	}

	if have, err := machineconfig.Parse(text); recorded && err == nil {
		if cfg, err := machineconfig.Parse([]byte(last.Text)); err == nil {
			out.Drift = len(machineconfig.Diff(cfg, have, false))
		}
	}

	ours := broken && machineconfig.Same(text, []byte(rec.Sent))

	switch pending := known && !machineconfig.Same(text, next); {
	case pending && ours:
		out.State, out.RevertsAt, out.Message = StateTrying, rec.Reverts, "a configuration is on trial: run the rollout again to keep it"
	case pending:
		out.State, out.Message = StateStaged, "another configuration waits for the next boot, or the one that runs is on trial"
	case ours:
		out.State, out.Message = StateUnverified, "it was sent, and not verified: run the rollout again"
	default:
		out.State, out.Message = StateClean, "nothing is left of a rollout"
	}

	return out, nil
}
