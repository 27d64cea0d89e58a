// Package disruption is the runbook of every operation that takes a node out of service: cordon and drain, another
// look at quorum, one request, the proof of a new boot, uncordon, verification. What was done is undone when it is
// interrupted or fails. Reboot, shutdown, rollback, reset, removal and upgrade are lists of these steps.
package disruption

import (
	"context"
	"errors"
	"time"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// Options are what the user decides about every disruption.
type Options struct {
	Drain         bool            // Cordon and drain before, uncordon after.
	DrainTimeout  time.Duration   // For all evictions together.
	Volumes       kube.VolumeWait // For the volumes after the evictions.
	Wait          bool            // Prove what became of the node.
	Silence       time.Duration   // How long a node must not answer until it counts as off.
	RebootTimeout time.Duration   // From the request to a new boot, or to the node being off.
	ReadyTimeout  time.Duration   // From the new boot to everything being healthy.
	Overrides     gate.Overrides
	DryRun        bool
	Reason        string // Who and why, for the cordon's annotation.
	BeforeChange  func() // Called once, right before the first request that changes something.
}

// Observed is what was observed of the node; the documents embed it.
type Observed struct {
	ServerTag       string        `json:"server_tag"`                 // The Talos version before.
	RunningTag      string        `json:"running_tag"`                // The Talos version after, as last observed.
	BootIDBefore    string        `json:"boot_id_before"`             // The boot before.
	BootIDAfter     string        `json:"boot_id_after"`              // The boot after; empty when none was observed.
	BootProof       string        `json:"boot_proof"`                 // What identifies a boot: boot_id, machine_status or boot_time.
	Rebooted        bool          `json:"rebooted"`                   // Whether a new boot was proved.
	TalosBack       bool          `json:"talos_back"`                 // Whether Talos answers again and is settled.
	Cordoned        bool          `json:"cordoned"`                   // Whether this run cordoned it.
	Uncordoned      bool          `json:"uncordoned"`                 // Whether this run's cordon was lifted.
	DrainedPods     int           `json:"drained_pods"`               // How many pods left.
	AttachedVolumes []kube.Volume `json:"attached_volumes,omitempty"` // The volumes that stayed attached, where that ended the drain.
	DowntimeSeconds float64       `json:"downtime_seconds"`           // From the last answer of the old boot to the first of the new one.
	SequenceError   string        `json:"sequence_error,omitempty"`   // Why Talos's own sequence failed, in the node's words: it reverted the boot loader and rebooted, or powered off where it was to shut down.
	UncordonError   string        `json:"uncordon_error,omitempty"`   // Why the cordon could not be lifted.
}

// Run is one disruption of one node.
type Run struct {
	runbook.Run

	Node    *probe.Node
	Options Options
	Obs     *Observed

	Prober  probe.Prober
	Before  talos.Boot // The boot that is to end.
	Ended   talos.Boot // The same, once a new boot was proved; zero before.
	Kube    probe.Kube // Nil where Kubernetes is not involved.
	K8sName string     // The Kubernetes node; empty when the node is not a member.
	Retries int        // How many requests to Kubernetes were repeated.

	Known []string // The problems of the node before (talos.MachineStatus.Problems): they are not waited for afterwards.

	Answered bool // The request that takes the node down was accepted.

	events func() string // Ends the event stream, and returns the first error of a sequence in it.

	keep func() // Removes the uncordon from the undo stack.
	kept bool   // The cordon stays.
}

// New begins a disruption. verb names it in errors.
func New(n *probe.Node, verb string, o Options, obs *Observed, rec *runbook.Record, sink progress.Sink) *Run {
	r := &Run{Node: n, Options: o, Obs: obs, Prober: n.Prober()}
	r.Verb, r.Target, r.Now, r.Locks, r.Rec, r.Sink = verb, n.Target, n.Now, n.Locks, rec, sink
	r.Overrides, r.Begin = o.Overrides, o.BeforeChange
	r.Start()

	return r
}

// Finish undoes what has to be undone, and settles the record.
func (r *Run) Finish(ctx context.Context, err error) error {
	r.SequenceError()

	if undoErr := r.Undo.Run(ctx, runbook.UndoWithin); undoErr != nil {
		r.Obs.UncordonError = undoErr.Error()
		err = errors.Join(err, undoErr)
	}

	return r.Run.Finish(ctx, err)
}

// Unverified is the failure of a node that rebooted and is not what it should be.
func (r *Run) Unverified(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}

	return r.Fail(runbook.VerifyFailed, "%w", err)
}
