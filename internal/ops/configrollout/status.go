package configrollout

import (
	"context"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/ops/rollout"
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

// How a node compares with its file.
const (
	SyncIn      = "in_sync" // It runs what the file holds.
	SyncDrifted = "drifted" // The file is what was applied last, and the node was changed since.
	SyncDiffers = "differs" // The file is another one than what was applied last.
	SyncNoFile  = "no_file" // The directory has no file for it.
	SyncUnknown = "unknown" // It could not be asked.
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

	File        string   `json:"file,omitempty"`        // Its file in the directory that was given.
	Sync        string   `json:"sync,omitempty"`        // With a directory: in_sync, drifted (the file is what was applied last, and the node was changed since), differs, no_file or unknown.
	FromHere    *bool    `json:"from_here,omitempty"`   // With a directory: whether the last run on the node, finished or not, sent that file.
	Differences []Change `json:"differences,omitempty"` // What leads from the node's configuration to the file.
}

// StatusResult is what a running or broken-off rollout left.
type StatusResult struct {
	Directory string `json:"directory,omitempty"` // The directory that the nodes are compared with.
	InSync    *bool  `json:"in_sync,omitempty"`   // With a directory: whether every node that has a file runs what it holds.

	Clean   bool            `json:"clean"`    // Whether nothing is left and nobody is at work.
	Lock    kube.LockState  `json:"lock"`     // Who holds the cluster's lock.
	HasLock bool            `json:"has_lock"` // Whether there is a lock to look at: Kubernetes could be asked.
	Nodes   []NodeStatus    `json:"nodes"`    // Every member; never null.
	Journal []runbook.Entry `json:"journal"`  // The last lines of this machine's journal; never null.
}

// Status looks at what a rollout left, and compares the nodes with the files of a directory where one is named. Nodes that do
// not answer are in the result and in the error.
func (p Planner) Status(ctx context.Context, directory string, journal []runbook.Entry) (StatusResult, error) {
	out := StatusResult{Directory: directory, Journal: journal}

	var (
		sources map[string]source
		err     error
	)

	if directory != "" {
		if sources, _, err = p.Files.match(p.Cluster.Members); err != nil {
			return out, err
		}
	}

	if out.Lock, out.HasLock, err = clusterlock.Look(ctx, p.Cluster.Kube, p.Cluster.Now()); err != nil {
		return out, err
	}

	out.Nodes, err = rollout.EachMember(ctx, p.Cluster, func(m talos.Member) (NodeStatus, error) { return p.status(ctx, m, sources) })
	out.Clean = !slices.ContainsFunc(out.Nodes, func(n NodeStatus) bool { return n.State != StateClean }) && !out.Lock.Held

	if directory != "" {
		in := !slices.ContainsFunc(out.Nodes, func(n NodeStatus) bool { return n.Sync != SyncIn && n.Sync != SyncNoFile })
		out.InSync = &in
	}

	return out, err
}

func (p Planner) status(ctx context.Context, m talos.Member, sources map[string]source) (NodeStatus, error) {
	out := NodeStatus{Role: m.Type, State: StateUnknown, Message: "the node does not answer"}
	out.SetNode(m.Target())

	from, has := sources[m.Node]
	if out.File = from.file; has {
		out.Sync = SyncUnknown
	} else if sources != nil {
		out.Sync = SyncNoFile
	}

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

	if has && (broken || recorded) {
		sent := last.Text
		if broken {
			sent = rec.Sent
		}

		here := sent == string(from.text)
		out.FromHere = &here
	}

	node := p.Cluster.Node(m.Target())

	text, have, err := machineconfig.Running(ctx, node.Read, m.Target())

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

	compared := NodePlan{source: from}
	if err = p.compare(m.Target(), have, machineconfig.Diff(have, from.config, false), &compared); err != nil {
		return out, err
	}

	out.Drift = len(compared.Drift)

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

	if has {
		out.judge(compared, recorded && last.Text == string(from.text))
	}

	return out, nil
}

// judge says how a node compares with its file. applied is whether the file is what was applied last.
func (n *NodeStatus) judge(compared NodePlan, applied bool) {
	n.Differences = compared.Changes

	var message string

	switch {
	case len(n.Differences) == 0:
		n.Sync, message = SyncIn, "the node runs what "+n.File+" holds"
	case applied:
		n.Sync, message = SyncDrifted, n.File+" was applied last, and the node was changed since"
	default:
		n.Sync, message = SyncDiffers, "the node does not run what "+n.File+" holds: see machineconfig rollout plan"
	}

	if n.State == StateClean {
		n.Message = message
	}
}
