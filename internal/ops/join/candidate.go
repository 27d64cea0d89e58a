// Package join adds machines to a cluster, and replaces a lost control plane with a new one. A machine in maintenance
// mode is given a full configuration once, after everything that can be checked beforehand. That it has joined is
// observed: a node that answers with the cluster's certificate, a voting etcd member, a Ready Kubernetes node.
package join

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// Candidate is a machine that is to join, and what of its cluster concerns that. Its ways by the endpoints and to the
// node itself work once it has joined.
type Candidate struct {
	*probe.Node

	// Reference is the machine configuration of a control plane that runs: what makes a configuration this cluster's.
	Reference func(context.Context) ([]byte, error)
	Alive     func(context.Context, talos.Target) bool      // Whether a node's Talos API answers.
	Relist    func(context.Context) ([]talos.Member, error) // The cluster's members now.
	At        func(talos.Target) *probe.Node                // The machine where it has another address.
	Sink      progress.Sink
}

// Options are what the user decides.
type Options struct {
	Wait          bool          // Until the machine has joined.
	RebootTimeout time.Duration // From the request to the installed machine answering with the cluster's certificate.
	ReadyTimeout  time.Duration // From there to everything being well.
	Overrides     gate.Overrides
	DryRun        bool
	BeforeChange  func() // Called right before a request that changes something.
}

// Voters is etcd's membership at one step.
type Voters struct {
	Step     string   `json:"step"`     // before, removed, joining (it changed meanwhile) or joined.
	Voters   int      `json:"voters"`   // Members that vote.
	Healthy  int      `json:"healthy"`  // Those of them that answer and know a leader.
	Quorum   int      `json:"quorum"`   // How many of them must agree.
	Learners int      `json:"learners"` // Members that do not vote yet.
	Members  []string `json:"members"`  // The names of all, or their IDs where they have none yet; never null.
}

// Result is everything that was observed of one machine, also on error.
type Result struct {
	talos.NodeRef

	Status      runbook.Status `json:"status"`                  // planned, ok, requested, refused, failed, not_joined, unknown or interrupted.
	DryRun      bool           `json:"dry_run"`                 // Whether nothing was to be done.
	MovedFrom   string         `json:"moved_from,omitempty"`    // The address in maintenance mode, where the machine's configuration gave it another one.
	MachineType string         `json:"machine_type"`            // controlplane or worker, by the configuration.
	ServerTag   string         `json:"server_tag"`              // The Talos version in maintenance mode.
	RunningTag  string         `json:"running_tag"`             // The Talos version once it had joined.
	Warnings    []string       `json:"warnings"`                // The warnings of the validator or the machine; never null.
	Applied     bool           `json:"applied"`                 // Whether the configuration was sent.
	Configured  bool           `json:"configured"`              // Whether the machine was observed with its configuration: it answers with the cluster's certificate.
	Settled     bool           `json:"settled"`                 // Whether the machine was observed to run with nothing unmet.
	MemberID    string         `json:"member_id,omitempty"`     // Its etcd member in hex; of a control plane.
	Voters      []Voters       `json:"voters"`                  // etcd's membership at every step; never null. Empty for a worker.
	K8sNodeName string         `json:"k8s_node_name,omitempty"` // Its Kubernetes node, where it is a member.
	K8sReady    bool           `json:"k8s_ready"`               // Whether Kubernetes was observed to report it as Ready.

	runbook.Record
}
