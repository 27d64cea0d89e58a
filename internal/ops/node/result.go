package node

import (
	"fmt"

	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/runbook"
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
	Remove   Action = "remove" // Out of the cluster permanently: drained, out of etcd, wiped, out of Kubernetes.
)

// Result is everything that was observed of one node, also on error. What was not, or does not apply to the action, is absent.
type Result struct {
	talos.NodeRef

	Action Action         `json:"action"`            // reboot, shutdown, rollback, reset or remove.
	Dead   bool           `json:"dead,omitempty"`    // Whether it was removed as a dead node, without being asked, drained or wiped.
	Status runbook.Status `json:"status"`            // planned, ok, requested, refused, cordon_failed, drain_failed, failed, did_not_return, verify_failed, unknown, interrupted or not_started.
	DryRun bool           `json:"dry_run,omitempty"` // Whether nothing was to be done.

	disruption.Observed

	DetectionLagSeconds float64                `json:"detection_lag_seconds,omitempty"` // How late at most the new boot was noticed.
	PoweredOff          bool                   `json:"powered_off,omitempty"`           // Whether the node was observed to be off.
	Maintenance         bool                   `json:"maintenance,omitempty"`           // Whether the node was observed in maintenance mode afterwards.
	Rejoined            bool                   `json:"rejoined,omitempty"`              // Whether the node came back with a configuration of its platform.
	K8sNodeName         string                 `json:"k8s_node_name,omitempty"`         // The Kubernetes node, where the node is a member.
	K8sNodeDeleted      bool                   `json:"k8s_node_deleted,omitempty"`      // Whether the Kubernetes node was deleted.
	Wipes               []string               `json:"wipes,omitempty"`                 // What a reset erases: partitions, disks, or the whole system disk.
	Plan                []string               `json:"plan,omitempty"`                  // What a dry run would do, in order.
	Etcd                *etcd.MembershipChange `json:"etcd,omitempty"`                  // What became of its etcd member; of remove, for a control plane that had one.

	runbook.Record
}

// wipes lists what a reset erases.
func wipes(o Options) []string {
	if !o.resets() || o.Dead {
		return nil
	}

	out := append([]string{}, o.Reset.SystemLabels...)

	if o.Reset.WholeDisk {
		out = []string{"the whole system disk"}
	}

	if o.Reset.Mode == talos.WipeUserDisks {
		out = nil
	}

	return append(out, o.Reset.UserDisks...)
}

// leftovers says what an interruption leaves on the node.
func (r *run) leftovers() string {
	const again = ": run `talosmate node remove` again"

	switch {
	case r.Obs.Rebooted:
		return "the node has rebooted; its verification was interrupted"
	case r.Sent && !r.Answered && (!r.Rec.AnswerLost || r.Prober.Unclear()):
		return fmt.Sprintf("the %s was requested and not answered: whether it was begun is not known; check the node before you try again", r.o.Action) + r.kubernetesLeft()
	case r.Sent && r.o.Action == Remove:
		return "the node continues to wipe itself" + r.kubernetesLeft()
	case r.Sent:
		return fmt.Sprintf("the %s was requested and continues; check the node with `talosmate health`", r.o.Action)
	case r.left && r.o.Dead:
		return "its etcd member has left, or is leaving: run `talosmate node remove --dead` again"
	case r.res.Etcd != nil && r.res.Etcd.Status == runbook.Done:
		return "its etcd member has left, and the node is not wiped" + again
	case r.left:
		return "its etcd member has left, or is leaving, and the node is not wiped" + again
	case r.Obs.DrainedPods > 0:
		return fmt.Sprintf("%d pods had left the node; nothing else was changed", r.Obs.DrainedPods)
	default:
		return "the node was left as it was"
	}
}

// cordonLeft names a cordon that stays: that of a node that goes off, or one that could not be lifted.
func (r *run) cordonLeft() string {
	if !r.Obs.Cordoned || r.Obs.Uncordoned || r.res.K8sNodeDeleted {
		return ""
	}

	return "; it stays cordoned: `talosmate node uncordon`"
}

// kubernetesLeft names the Kubernetes node that a removal did not reach.
func (r *run) kubernetesLeft() string {
	if r.Kube == nil || r.res.K8sNodeDeleted {
		return ""
	}

	return "; its Kubernetes node stays: `kubectl delete node " + r.K8sName + "`"
}
