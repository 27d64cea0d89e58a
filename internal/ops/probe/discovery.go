package probe

import (
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// GateDiscovery checks that discovery lists every control plane that etcd has, and every node that Kubernetes has; nil
// nodes are those of a cluster that was not asked (TM154). Where discovery lists nobody it is off, and no list is needed
// for a node that was named: etcd and the node itself tell the same.
func GateDiscovery(members []talos.Member, nodes []kube.Node, node string) gate.Verdict {
	var missing []string

	discovered := 0

	for _, m := range members {
		if m.Source == target.FromEtcd {
			missing = append(missing, m.NodeName()+" (an etcd member)")
		} else {
			discovered++
		}
	}

	for _, n := range nodes {
		if !slices.ContainsFunc(members, func(m talos.Member) bool { return isNode(m, n) }) {
			missing = append(missing, n.Name+" (a Kubernetes node)")
		}
	}

	switch {
	case len(missing) == 0:
		return gate.New(gate.DiscoveryPartial, gate.Pass, node, "discovery lists %d nodes, and nobody lists another", discovered)
	case discovered == 0 && node != "":
		return gate.New(gate.DiscoveryPartial, gate.Warn, node, "discovery lists no node; etcd or Kubernetes list %s", strings.Join(missing, ", "))
	default:
		return gate.New(gate.DiscoveryPartial, gate.Refuse, node, "discovery does not list %s", strings.Join(missing, ", ")).
			WithRemedy("discovery is disabled or cut off on those nodes, two machines have one hostname, or a node that is gone is still an etcd member or a Kubernetes node: compare `talosmate members`, `talosmate etcd members` and `kubectl get nodes`")
	}
}

// isNode reports whether a member is a node of Kubernetes: by an address, else by its name there, else by its hostname.
func isNode(m talos.Member, n kube.Node) bool {
	return slices.ContainsFunc(n.Addresses, m.Target().Has) || n.Name == m.KubernetesName || strings.EqualFold(n.Name, m.Hostname)
}
