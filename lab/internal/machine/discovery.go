package machine

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"

	"github.com/talosmate/talosmate/lab/internal/faults"
)

// view lists the peers that this node's discovery shows. It needs n.mu held.
func (n *Node) view(peers []Peer) []Peer {
	if f, ok := n.Faults.Get(faults.Discovery); ok {
		return slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool {
			switch {
			case f.Value == faults.DiscoveryOff:
				return true
			case p.Node == n:
				return false
			case f.Value == faults.DiscoveryAlone:
				return true
			default:
				return slices.Contains(f.Names, p.Name) || p.Node != nil && slices.Contains(f.Names, p.Node.Name)
			}
		})
	}

	if n.discoveryDisabled() {
		return nil
	}

	return peers
}

// discoveryDisabled reports whether the configuration names no discovery service, in either form.
func (n *Node) discoveryDisabled() bool {
	return n.config != nil && len(n.config.DiscoveryServiceConfigs()) == 0
}

// putPeers makes Affiliates, keyed by node ID, and Members, keyed by nodename, from discovery. Of two machines with one
// nodename the last one in the order of node IDs is the Member. With discovery disabled not even the node's own
// Affiliate exists.
func (n *Node) putPeers(peers []Peer) {
	peers = slices.Clone(n.view(peers))
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.NodeID, b.NodeID) })

	nodenames := map[string]Peer{}
	nodeIDs := map[string]bool{}

	for _, p := range peers {
		nodenames[nodenameOf(p.Name)], nodeIDs[p.NodeID] = p, true
		n.putAffiliate(p)
	}

	for name, p := range nodenames {
		member := cluster.NewMember(cluster.NamespaceName, name)
		spec := member.TypedSpec()
		spec.NodeID, spec.Addresses, spec.Hostname = p.NodeID, p.Addresses, p.Name
		spec.MachineType, spec.OperatingSystem, spec.ControlPlane = machineTypeOf(p.Type), operatingSystem(p), controlPlaneOf(p)
		n.put(member, "cluster.MemberController")
	}

	n.removeOthers(cluster.NewMember(cluster.NamespaceName, ""), func(id string) bool { _, ok := nodenames[id]; return ok })
	n.removeOthers(cluster.NewAffiliate(cluster.NamespaceName, ""), func(id string) bool { return nodeIDs[id] })
	n.putDiscoveryConfig()
}

func (n *Node) putAffiliate(p Peer) {
	affiliate := cluster.NewAffiliate(cluster.NamespaceName, p.NodeID)
	spec := affiliate.TypedSpec()
	spec.NodeID, spec.Addresses, spec.Hostname, spec.Nodename = p.NodeID, p.Addresses, p.Name, nodenameOf(p.Name)
	spec.OperatingSystem, spec.MachineType, spec.ControlPlane = operatingSystem(p), machineTypeOf(p.Type), controlPlaneOf(p)
	n.put(affiliate, "cluster.AffiliateMergeController")
}

func operatingSystem(p Peer) string { return "Talos (" + p.Version + ")" }

func controlPlaneOf(p Peer) *cluster.ControlPlane {
	if !p.ControlPlane {
		return nil
	}

	return &cluster.ControlPlane{APIServerPort: 6443}
}

// putDiscoveryConfig shows whether discovery is enabled.
func (n *Node) putDiscoveryConfig() {
	enabled := !n.discoveryDisabled()
	res := cluster.NewConfig("config", cluster.ConfigID)
	spec := res.TypedSpec()
	spec.DiscoveryEnabled = enabled

	if enabled {
		spec.RegistryServiceEnabled = true
		spec.ServiceEndpoint, spec.ServiceClusterID = "discovery.talos.dev:443", n.cluster.ID()
	}

	n.put(res, "cluster.ConfigController")
}

// nodenameOf is the name of a node in Kubernetes, which Talos makes from the hostname: lower case, without characters
// that Kubernetes does not allow.
func nodenameOf(hostname string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '.':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		case r == '_':
			return '-'
		default:
			return -1
		}
	}, hostname)

	return strings.Trim(name, "-.")
}

// discoveryFault brings Members up to date when the fault is armed or cleared.
func (n *Node) discoveryFault(event, detail string) {
	if event == "fault-armed" && strings.HasPrefix(detail, faults.Discovery+"=") ||
		event == "fault-cleared" && (detail == "" || detail == faults.Discovery) {
		n.cluster.Changed(n)
	}
}

// Peers lists the nodes that this node's discovery shows, by address.
func (n *Node) Peers() []Peer {
	peers := n.EveryPeer()

	n.mu.Lock()
	defer n.mu.Unlock()

	return n.view(peers)
}

// EveryPeer lists all nodes of the cluster, by address, whatever discovery shows.
func (n *Node) EveryPeer() []Peer {
	peers := n.cluster.Peers()
	slices.SortFunc(peers, func(a, b Peer) int { return a.Address.Compare(b.Address) })

	return peers
}

// PeersChanged brings Members up to date.
func (n *Node) PeersChanged(peers []Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()

	if n.state != nil && n.config != nil {
		n.putPeers(peers)
	}
}

// removeOthers removes the resources of a kind whose IDs are not kept.
func (n *Node) removeOthers(kind resource.Resource, keep func(id string) bool) {
	list, err := n.state.List(context.Background(), kind.Metadata())
	if err != nil {
		return
	}

	for _, res := range list {
		if !keep(res.Metadata().ID()) {
			n.remove(res.Metadata())
		}
	}
}
