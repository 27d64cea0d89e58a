package talos

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
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
			return nil, n.Fail("read the members", err)
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
	if conn.KindOf(err) == errs.KindNotFound {
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
		return "", n.Fail("read the Kubernetes node name", err)
	}

	return spec.Nodename, nil
}
