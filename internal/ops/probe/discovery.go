package probe

import (
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// GateDiscovery checks that discovery lists every control plane that etcd has, and every node that Kubernetes has; nil
// nodes are those of a cluster that was not asked (TM157). Where discovery lists nobody it is off, and no list is needed
// for a node that was named: etcd and the node itself tell the same.
func GateDiscovery(members []talos.Member, nodes []kube.Node, node string) gate.Verdict {
	missing := lists.Join(Undiscovered(members, nodes), ", ", Missing.String)
	discovered := len(lists.Filter(members, func(m talos.Member) bool { return m.Source != target.FromEtcd }))

	switch {
	case missing == "":
		return gate.New(gate.DiscoveryPartial, gate.Pass, node, "discovery lists %d nodes, and nobody lists another", discovered)
	case discovered == 0 && node != "":
		return gate.New(gate.DiscoveryPartial, gate.Warn, node, "discovery lists no node; etcd or Kubernetes list %s", missing)
	default:
		return gate.New(gate.DiscoveryPartial, gate.Refuse, node, "discovery does not list %s", missing).
			WithRemedy("discovery is disabled or cut off on those nodes, two machines have one hostname, or a node that is gone is still an etcd member or a Kubernetes node: compare `talosmate members`, `talosmate etcd members` and `kubectl get nodes`")
	}
}

// Missing is a node that discovery does not list.
type Missing struct {
	talos.Member

	What string // What it is: an etcd member or a Kubernetes node.
}

// String names the node and where it is listed.
func (m Missing) String() string { return m.NodeName() + " (" + m.What + ")" }

// Undiscovered lists the members that only etcd has, and the nodes of Kubernetes that are not members.
func Undiscovered(members []talos.Member, nodes []kube.Node) []Missing {
	var out []Missing

	for _, m := range members {
		if m.Source == target.FromEtcd {
			out = append(out, Missing{m, "an etcd member"})
		}
	}

	for _, n := range nodes {
		if slices.ContainsFunc(members, func(m talos.Member) bool { return IsNode(m, n) }) {
			continue
		}

		m := Missing{What: "a Kubernetes node"}
		m.Type = target.Worker

		if n.ControlPlane {
			m.Type = target.ControlPlane
		}

		m.Node, m.Hostname, m.Addresses = strings.Join(n.Addresses[:min(1, len(n.Addresses))], ""), n.Name, n.Addresses
		out = append(out, m)
	}

	return out
}

// IsNode reports whether a member is a node of Kubernetes.
func IsNode(m talos.Member, n kube.Node) bool {
	_, is := FindNode([]kube.Node{n}, m.Target(), m.KubernetesName)

	return is
}

// FindNode finds a machine among the nodes of Kubernetes: by its name there where the machine itself gave it, else by an
// address, else by its hostname.
func FindNode(nodes []kube.Node, t talos.Target, name string) (kube.Node, bool) {
	for _, is := range []func(kube.Node) bool{
		func(n kube.Node) bool { return name != "" && n.Name == name },
		func(n kube.Node) bool { return slices.ContainsFunc(n.Addresses, t.Has) },
		func(n kube.Node) bool { return t.Hostname != "" && strings.EqualFold(n.Name, t.Hostname) },
	} {
		if n, found := lists.Find(nodes, is); found {
			return n, true
		}
	}

	return kube.Node{}, false
}
