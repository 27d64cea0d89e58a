// Package join takes machines into a cluster, and exchanges a control plane that is lost for a new one. A
// machine in maintenance mode is given a full configuration once, after everything that can be known of it
// beforehand was looked at, and that it has joined is what the cluster shows: a node that answers with the
// cluster's certificate, a voting etcd member, a Ready Kubernetes node.
package join

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/talos"
)

// Bare is a machine in maintenance mode; *talos.Node is one.
type Bare interface {
	Version(ctx context.Context) (talos.Version, error)
	MachineStatus(ctx context.Context) (talos.MachineStatus, error)
	ApplyConfig(ctx context.Context, text []byte, mode string, tryTimeout time.Duration, dryRun bool) (talos.Applied, error)
}

// Machine is the same machine once it is one of the cluster; *talos.Node is one.
type Machine interface {
	boot.Machine
	Version(ctx context.Context) (talos.Version, error)
	KubernetesName(ctx context.Context) (string, error)
}

// Kube is what is asked of Kubernetes; *kube.Client is one.
type Kube interface {
	Node(ctx context.Context, name string) (kube.Node, bool, error)
	Nodes(ctx context.Context) ([]kube.Node, error)
	DeleteNode(ctx context.Context, name string) error
}

// World is the machine and the cluster that it is to join.
type World struct {
	Target talos.Target

	Bare  func() (Bare, func() error)    // In maintenance mode, over a connection of its own.
	Via   Machine                        // Once it has joined, by way of the endpoints.
	Fresh func() (Machine, func() error) // Once it has joined, over a connection of its own.

	// Reference is the machine configuration of a control plane that runs: what makes a configuration this
	// cluster's.
	Reference func(context.Context) ([]byte, error)
	Etcd      func(context.Context) (etcd.View, error) // All control planes' etcd.
	Kube      func(context.Context) (Kube, error)      // Kubernetes, where it can be reached.
	Members   []talos.Member                           // The cluster's members as discovery knows them, for a while also those that are gone.
	Alive     func(context.Context, talos.Target) bool // Whether a node's Talos API answers.

	Now  func() time.Time
	Sink progress.Sink
}

func (w *World) witness() boot.Witness[Machine] {
	return boot.Witness[Machine]{Name: w.Target.Name(), Via: w.Via, Fresh: w.Fresh, Now: w.Now}
}

// Options are what the user decides.
type Options struct {
	Wait         bool          // Until the machine has joined.
	BootTimeout  time.Duration // From the request to the installed machine answering with the cluster's certificate.
	ReadyTimeout time.Duration // From there to everything being well.
	Overrides    gate.Overrides
	DryRun       bool
	BeforeChange func() // Called right before a request that changes something.
}

// Status is how it ended.
type Status string

// The ends.
const (
	Planned     Status = "planned"      // Dry run: nothing was done.
	OK          Status = "ok"           // Joined, and proved.
	Requested   Status = "requested"    // The machine took its configuration; not waited for.
	Refused     Status = "refused"      // A gate refused; nothing was changed.
	Failed      Status = "failed"       // The machine refused, or could not be asked.
	NotJoined   Status = "not_joined"   // It took its configuration and has not joined within the deadline.
	NotReplaced Status = "not_replaced" // The old one is out, and the new one is not in.
	Unknown     Status = "unknown"      // An answer was lost and the outcome could not be read back.
	Interrupted Status = "interrupted"  // The user interrupted it.
)

func (s Status) exit() errs.Code {
	switch s {
	case Planned, OK, Requested:
		return errs.OK
	case Refused:
		return errs.Refused
	case NotJoined, NotReplaced:
		return errs.Lost
	case Unknown:
		return errs.Unknown
	case Interrupted:
		return errs.Interrupted
	case Failed:
		return errs.Failed
	default:
		return errs.Failed
	}
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

// Result is everything that was observed of one machine, also before a failure.
type Result struct {
	talos.NodeRef

	Status          Status         `json:"status"`                     // planned, ok, requested, refused, failed, not_joined, unknown or interrupted.
	DryRun          bool           `json:"dry_run"`                    // Whether nothing was to be done.
	MachineType     string         `json:"machine_type"`               // controlplane or worker, by the configuration.
	ServerTag       string         `json:"server_tag"`                 // The Talos version in maintenance mode.
	RunningTag      string         `json:"running_tag"`                // The Talos version once it had joined.
	Warnings        []string       `json:"warnings"`                   // What the validator or the machine found doubtful; never null.
	Applied         bool           `json:"applied"`                    // Whether the configuration was sent.
	Configured      bool           `json:"configured"`                 // Whether the machine was seen with its configuration: it answers with the cluster's certificate.
	Settled         bool           `json:"settled"`                    // Whether the machine was seen to run with nothing unmet.
	MemberID        string         `json:"member_id,omitempty"`        // Its etcd member in hex; of a control plane.
	Voters          []Voters       `json:"voters"`                     // etcd's membership at every step; never null. Empty for a worker.
	K8sNodeName     string         `json:"k8s_node_name,omitempty"`    // Its Kubernetes node, where it is a member.
	K8sReady        bool           `json:"k8s_ready"`                  // Whether Kubernetes was seen to call it Ready.
	Gates           []gate.Verdict `json:"gates"`                      // What every gate said; never null.
	OverriddenGates []string       `json:"overridden_gates,omitempty"` // The gates that were passed on purpose.
	Stages          []node.Stage   `json:"stages"`                     // What happened, in order; never null.
	AnswerLost      bool           `json:"answer_lost,omitempty"`      // Whether the answer was lost and the state read back.
	Error           string         `json:"error,omitempty"`            // What went wrong.
	Hint            string         `json:"hint,omitempty"`             // What to do now.
	ElapsedSeconds  float64        `json:"elapsed_seconds"`            // How long all of it took.
}
