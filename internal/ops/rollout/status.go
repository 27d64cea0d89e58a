package rollout

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// NodeStatus is what an upgrade left on a node.
type NodeStatus struct {
	talos.NodeRef

	Role         string     `json:"role"`             // controlplane or worker.
	Version      string     `json:"version"`          // The version that runs, empty when the node does not answer.
	State        string     `json:"state"`            // clean, installed, installing, stale or unknown.
	Target       string     `json:"target,omitempty"` // The version that was installed or is being installed.
	Image        string     `json:"image,omitempty"`  // Its image.
	Since        *time.Time `json:"since,omitempty"`  // When the note was written.
	Cordoned     bool       `json:"cordoned"`         // Whether the node is cordoned, by whoever.
	OurCordon    bool       `json:"our_cordon"`       // Whether an upgrade of ours cordoned it.
	CordonReason string     `json:"cordon_reason"`    // Who cordoned it and for what, where talosmate did.
	K8sNodeName  string     `json:"k8s_node_name"`    // The Kubernetes node, empty when it is not a member or cannot be asked.
	Message      string     `json:"message"`          // What that means, in one sentence.
	Error        string     `json:"error,omitempty"`  // Why it is unknown.
}

// States of a node with respect to an upgrade.
const (
	StateClean      = "clean"      // Nothing is left.
	StateInstalled  = "installed"  // Installed, and waits for its reboot.
	StateInstalling = "installing" // An install began; its end was not seen.
	StateStale      = "stale"      // It has booted since, and the note is still there.
	StateUnknown    = "unknown"    // The node does not answer.
)

// StatusResult is what a running or broken-off upgrade left.
type StatusResult struct {
	Clean   bool            `json:"clean"`    // Whether nothing is left and nobody is at work.
	Lock    kube.LockState  `json:"lock"`     // Who holds the cluster's lock.
	HasLock bool            `json:"has_lock"` // Whether there is a lock to look at: Kubernetes could be asked.
	Nodes   []NodeStatus    `json:"nodes"`    // Every member; never null.
	Journal []runbook.Entry `json:"journal"`  // The last lines of this machine's journal; never null.
}

// ReadStatus looks at what an upgrade left on the cluster. Nodes that do not answer are in the result and in the
// error.
func ReadStatus(ctx context.Context, c *Cluster, notes probe.Notes, journal []runbook.Entry) (StatusResult, error) {
	out := StatusResult{Clean: true, Nodes: []NodeStatus{}, Journal: journal}

	k, _, kubeErr := c.Kube(ctx)
	if errs.IsUntrusted(kubeErr) {
		return out, kubeErr
	}

	var nodes []kube.Node

	if kubeErr == nil {
		nodes, kubeErr = k.Nodes(ctx)
	}

	if kubeErr == nil {
		out.Lock, out.HasLock, _ = clusterlock.Look(ctx, c.Kube, c.Now()) // it is trusted
	}

	var err error

	out.Nodes, err = EachMember(ctx, c, func(m talos.Member) (NodeStatus, error) {
		node, _ := probe.FindNode(nodes, m.Target(), m.KubernetesName)

		return statusOf(ctx, c, m, node, notes)
	})

	for _, n := range out.Nodes {
		out.Clean = out.Clean && n.State == StateClean && !n.OurCordon
	}

	out.Clean = out.Clean && !out.Lock.Held

	return out, err
}

func statusOf(ctx context.Context, c *Cluster, m talos.Member, node kube.Node, notes probe.Notes) (NodeStatus, error) {
	n := c.Node(m.Target())
	out := NodeStatus{
		Role: m.Type, State: StateClean, Cordoned: node.Unschedulable, OurCordon: node.CordonedFor(upgrade.Purpose()),
		CordonReason: node.Annotations[kube.CordonAnnotation], K8sNodeName: node.Name,
	}
	out.SetNode(m.Target())

	text := node.Annotations[upgrade.MarkerAnnotation]
	if text == "" && notes != nil {
		text = notes.Get(m.Node)
	}

	mark, marked := upgrade.ParseMarker(text)
	if marked {
		since := mark.Time.UTC()
		out.Target, out.Image, out.Since = mark.Target, mark.Image, &since
	}

	version, err := n.Read.Version(ctx)
	if err == nil {
		out.Version = version.Tag
	}

	var now talos.Boot

	if err == nil && marked {
		now, err = n.Read.Boot(ctx, "")
	}

	switch {
	case err != nil:
		out.State, out.Message, out.Error = StateUnknown, "the node does not answer", err.Error()
	case marked && mark.BootID != now.ID:
		out.State, out.Message = StateStale, "it has booted since "+mark.Target+" was installed; its verification was not seen to end"
	case marked && mark.Installed():
		out.State, out.Message = StateInstalled, mark.Target+" is installed and becomes active with the next reboot"
	case marked:
		out.State, out.Message = StateInstalling, "an install of "+mark.Target+" began; it runs, or it was broken off"
	case out.OurCordon:
		out.Message = "an upgrade of ours cordoned it"
	default:
		out.Message = "nothing is left of an upgrade"
	}

	return out, err
}
