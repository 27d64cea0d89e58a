package talos

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Members are the discovered members, read once and kept for the run. Roles: reader, operator, admin.
func (c *Cluster) Members(ctx context.Context) ([]Member, error) {
	c.mu.Lock()
	if c.members == nil {
		c.members = sync.OnceValues(func() ([]Member, error) { return c.discover(ctx) })
	}

	ask := c.members
	c.mu.Unlock()

	members, err := ask()
	if err != nil {
		c.mu.Lock()
		c.members = nil
		c.mu.Unlock()
	}

	return slices.Clone(members), err
}

func (c *Cluster) discover(ctx context.Context) ([]Member, error) {
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()

	list, err := c.Endpoint().Members(ctx)
	if err != nil {
		return nil, err
	}

	if len(list) == 0 {
		return nil, errs.New(errs.Failed, "cluster discovery has no members").WithHint("name the nodes with -n")
	}

	return list, nil
}

// Members reads the Member resources of the node.
func (n *Node) Members(ctx context.Context) ([]Member, error) {
	list, err := n.Resources(ctx, "cluster", "Members.cluster.talos.dev")
	if err != nil {
		return nil, err
	}

	out := make([]Member, 0, len(list))

	for _, r := range list {
		spec, err := Decode[struct {
			Addresses       []string `json:"addresses"`
			Hostname        string   `json:"hostname"`
			MachineType     string   `json:"machineType"`
			OperatingSystem string   `json:"operatingSystem"`
			NodeID          string   `json:"nodeId"`
		}](r)
		if err != nil {
			return nil, n.fail("read the members", err)
		}

		if len(spec.Addresses) == 0 {
			continue
		}

		out = append(out, Member{
			NodeRef: NodeRef{Node: spec.Addresses[0], Hostname: spec.Hostname}, Addresses: spec.Addresses, Type: spec.MachineType,
			OperatingSystem: spec.OperatingSystem, TalosVersion: versionIn(spec.OperatingSystem), NodeID: spec.NodeID,
		})
	}

	slices.SortFunc(out, func(a, b Member) int { return target.CompareAddresses(a.Node, b.Node) })

	return out, nil
}

// versionIn extracts v1.13.9 from "Talos (v1.13.9)".
func versionIn(operatingSystem string) string {
	_, after, ok := strings.Cut(operatingSystem, "(")
	if !ok {
		return ""
	}

	return strings.TrimSuffix(after, ")")
}

// KubernetesName reads the node's Kubernetes node name, empty when the node is not a Kubernetes member: before it has
// joined, or with machine.kubelet.skipNodeRegistration.
func (n *Node) KubernetesName(ctx context.Context) (string, error) {
	r, err := n.Resource(ctx, "k8s", "Nodenames.kubernetes.talos.dev", "nodename")
	if KindOf(err) == errs.KindNotFound {
		return "", nil
	}

	if err != nil {
		return "", err
	}

	spec, err := Decode[struct {
		Nodename             string `json:"nodename"`
		SkipNodeRegistration bool   `json:"skipNodeRegistration"`
	}](r)
	if err != nil || spec.SkipNodeRegistration {
		return "", n.fail("read the Kubernetes node name", err)
	}

	return spec.Nodename, nil
}

// MachineStatus is the state that the node reports.
type MachineStatus struct {
	Stage   string           `json:"stage"`   // booting, installing, running, rebooting, upgrading, maintenance, …
	Ready   bool             `json:"ready"`   // Whether no condition is unmet.
	Unmet   []UnmetCondition `json:"unmet"`   // What is still missing.
	Created time.Time        `json:"created"` // When the status was created: at each boot.
}

// UnmetCondition is one reason why a node is not ready.
type UnmetCondition struct {
	Name   string `json:"name"`   // The condition, services or nodeReady.
	Reason string `json:"reason"` // What is missing.
}

// Settled reports whether the node is running without unmet conditions. Neither is enough alone: a node was seen
// running and not ready until its Kubernetes node was back, and booting and ready.
func (s MachineStatus) Settled() bool { return s.Stage == "running" && s.Ready && len(s.Unmet) == 0 }

// String formats the status on one line.
func (s MachineStatus) String() string {
	text := "stage " + s.Stage

	if !s.Ready {
		text += ", not ready"
	}

	for _, u := range s.Unmet {
		text += ", " + u.Name + ": " + u.Reason
	}

	return text
}

// MachineStatus reads the MachineStatus resource. Roles: reader, operator, admin.
func (n *Node) MachineStatus(ctx context.Context) (MachineStatus, error) {
	r, err := n.Resource(ctx, "runtime", "MachineStatuses.runtime.talos.dev", "machine")
	if err != nil {
		return MachineStatus{}, err
	}

	spec, err := Decode[struct {
		Stage  string `json:"stage"`
		Status struct {
			Ready           bool             `json:"ready"`
			UnmetConditions []UnmetCondition `json:"unmetConditions"`
		} `json:"status"`
	}](r)
	if err != nil {
		return MachineStatus{}, n.fail("read the machine status", err)
	}

	out := MachineStatus{Stage: spec.Stage, Ready: spec.Status.Ready, Unmet: spec.Status.UnmetConditions, Created: r.Metadata.Created}
	if out.Unmet == nil {
		out.Unmet = []UnmetCondition{}
	}

	return out, nil
}

// OneOf reports whether err is one of the kinds.
func OneOf(err error, kinds ...errs.Kind) bool {
	return err != nil && !errors.Is(err, context.Canceled) && slices.Contains(kinds, KindOf(err))
}
