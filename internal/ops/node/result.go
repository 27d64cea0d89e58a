package node

import (
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/talos"
)

// Action is what is done to a node.
type Action string

// The actions.
const (
	Reboot   Action = "reboot"
	Shutdown Action = "shutdown"
	Rollback Action = "rollback"
	Reset    Action = "reset"
	Remove   Action = "remove" // Out of the cluster for good: drained, out of etcd, wiped, out of Kubernetes.
)

// Status is how it ended.
type Status string

// The ends.
const (
	Planned      Status = "planned"        // Dry run: nothing was done.
	OK           Status = "ok"             // Done and proved.
	Requested    Status = "requested"      // Accepted by the node; not waited for.
	Refused      Status = "refused"        // A gate refused; nothing was changed.
	DrainFailed  Status = "drain_failed"   // Pods did not leave; nothing else was done.
	Failed       Status = "failed"         // The node refused, or could not be asked.
	DidNotReturn Status = "did_not_return" // It did not come back (or did not go off) within the deadline.
	VerifyFailed Status = "verify_failed"  // It came back and is not what it should be.
	Unknown      Status = "unknown"        // The answer was lost and the outcome could not be read back.
	Interrupted  Status = "interrupted"    // The user interrupted it.
	NotStarted   Status = "not_started"    // An earlier node failed, so that this one was left alone.
)

func (s Status) exit() errs.Code {
	switch s {
	case Planned, OK, Requested, NotStarted:
		return errs.OK
	case Refused:
		return errs.Refused
	case DidNotReturn, VerifyFailed:
		return errs.Lost
	case Unknown:
		return errs.Unknown
	case Interrupted:
		return errs.Interrupted
	case DrainFailed, Failed:
		return errs.Failed
	default:
		return errs.Failed
	}
}

// Stage is one thing that happened on the way.
type Stage struct {
	Time           time.Time `json:"time"`            // When it began.
	Stage          string    `json:"stage"`           // preflight, cordon, drain, etcd, the action, wait, verify, uncordon or kubernetes.
	Message        string    `json:"message"`         // What happened.
	ElapsedSeconds float64   `json:"elapsed_seconds"` // Since the work on this node began.
}

// Result is everything that was observed on one node, also before a failure.
type Result struct {
	talos.NodeRef

	Action              Action                 `json:"action"`                     // reboot, shutdown, rollback, reset or remove.
	Dead                bool                   `json:"dead,omitempty"`             // Whether it was taken out as a dead node, without being asked, drained or wiped.
	Status              Status                 `json:"status"`                     // planned, ok, requested, refused, drain_failed, failed, did_not_return, verify_failed, unknown, interrupted or not_started.
	DryRun              bool                   `json:"dry_run"`                    // Whether nothing was to be done.
	ServerTag           string                 `json:"server_tag"`                 // The Talos version before.
	RunningTag          string                 `json:"running_tag"`                // The Talos version after, where it was read.
	BootIDBefore        string                 `json:"boot_id_before"`             // The boot before.
	BootIDAfter         string                 `json:"boot_id_after"`              // The boot after; empty when there is none to be seen.
	BootProof           string                 `json:"boot_proof"`                 // What the boot was told by: boot_id, machine_status or boot_time.
	Rebooted            bool                   `json:"rebooted"`                   // Whether a new boot was proved.
	TalosBack           bool                   `json:"talos_back"`                 // Whether Talos answers again and is settled.
	PoweredOff          bool                   `json:"powered_off"`                // Whether the node was seen to be off.
	Maintenance         bool                   `json:"maintenance"`                // Whether the node was seen in maintenance mode afterwards.
	K8sNodeName         string                 `json:"k8s_node_name,omitempty"`    // The Kubernetes node, where the node is a member.
	Cordoned            bool                   `json:"cordoned"`                   // Whether we cordoned it.
	Uncordoned          bool                   `json:"uncordoned"`                 // Whether our cordon was lifted.
	DrainedPods         int                    `json:"drained_pods"`               // How many pods left.
	K8sNodeDeleted      bool                   `json:"k8s_node_deleted"`           // Whether the Kubernetes node was deleted.
	Wipes               []string               `json:"wipes,omitempty"`            // What a reset erases: partitions, disks, or the whole system disk.
	Etcd                *etcd.MembershipChange `json:"etcd,omitempty"`             // What became of its etcd member; of remove, for a control plane that had one.
	DowntimeSeconds     float64                `json:"downtime_seconds"`           // From the last answer of the old boot to the first of the new one.
	DetectionLagSeconds float64                `json:"detection_lag_seconds"`      // How late at most the new boot was noticed.
	Gates               []gate.Verdict         `json:"gates"`                      // What every gate said; never null.
	OverriddenGates     []string               `json:"overridden_gates,omitempty"` // The gates that were passed on purpose.
	Stages              []Stage                `json:"stages"`                     // What happened, in order; never null.
	AnswerLost          bool                   `json:"answer_lost,omitempty"`      // Whether the answer was lost and the state read back.
	UndoError           string                 `json:"undo_error,omitempty"`       // What could not be undone.
	Error               string                 `json:"error,omitempty"`            // What went wrong.
	Hint                string                 `json:"hint,omitempty"`             // What to do now.
	ElapsedSeconds      float64                `json:"elapsed_seconds"`            // How long all of it took.
}
