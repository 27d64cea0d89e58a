package machine

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/nethelpers"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
)

// ownLink is the link that holds the node's own address, and a virtual IP.
const ownLink = "eth0"

// Extra is one more address of a node.
type Extra struct {
	Address netip.Addr
	// Link is the link that holds it, e.g. cilium_host.
	Link string
	// Reachable reports whether apid can be reached at it from other machines.
	Reachable bool
}

// prefix returns the address as the kernel shows it: an address for one host, or one in a /24.
func (e Extra) prefix() netip.Prefix {
	if e.Reachable {
		return netip.PrefixFrom(e.Address, 24)
	}

	return netip.PrefixFrom(e.Address, e.Address.BitLen())
}

// Extra lists the addresses that the node has in addition to its own, without a virtual IP.
func (n *Node) Extra() []Extra { return n.extra }

// HoldsVIP reports whether the node has the virtual IP.
func (n *Node) HoldsVIP() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.vipHeld
}

// SetVIP gives the node the virtual IP, or takes it away.
func (n *Node) SetVIP(held bool) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.vipHeld = held
	n.vipSeen = n.vipSeen || held

	if n.state != nil {
		n.putAddresses()
	}
}

// CanHoldVIP reports whether the node takes part in the election of the virtual IP's holder: a control plane with a
// healthy etcd member and a kubelet that is not being stopped.
func (n *Node) CanHoldVIP() bool {
	etcd := n.Etcd == nil || n.EtcdHealthy()

	n.mu.Lock()
	defer n.mu.Unlock()

	return etcd && n.up && n.config != nil && n.nodeType == ControlPlane && n.serviceRuns("kubelet")
}

// Addresses lists the addresses that the node announces to discovery, in Talos's order.
func (n *Node) Addresses() []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()

	prefixes := n.routed(n.vipHeld)
	out := make([]netip.Addr, 0, len(prefixes))

	for _, p := range prefixes {
		out = append(out, p.Addr())
	}

	return out
}

// routed lists the node's addresses in the order of its sort algorithm. It needs n.mu held.
func (n *Node) routed(vip bool) []netip.Prefix {
	out := []netip.Prefix{netip.PrefixFrom(n.Address, 24)}

	for _, e := range n.extra {
		out = append(out, e.prefix())
	}

	if vip && n.vip.IsValid() {
		out = append(out, netip.PrefixFrom(n.vip, n.vip.BitLen()))
	}

	slices.SortFunc(out, comparePrefixes(n.sortAlgorithm()))

	return out
}

// sortAlgorithm is the algorithm that the configuration chooses; v1 by default.
func (n *Node) sortAlgorithm() nethelpers.AddressSortAlgorithm {
	if n.config == nil || n.config.Machine() == nil {
		return nethelpers.AddressSortAlgorithmV1
	}

	return n.config.Machine().Features().NodeAddressSortAlgorithm()
}

// comparePrefixes is Talos's order of addresses: v1 by the address alone, v2 with an address inside the subnet of
// another one before it.
func comparePrefixes(algorithm nethelpers.AddressSortAlgorithm) func(a, b netip.Prefix) int {
	return func(a, b netip.Prefix) int {
		if algorithm == nethelpers.AddressSortAlgorithmV2 && a.Addr() != b.Addr() {
			switch within, contains := b.Contains(a.Addr()), a.Contains(b.Addr()); {
			case within && !contains:
				return -1
			case contains && !within:
				return 1
			}
		}

		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}

		return cmp.Compare(a.Bits(), b.Bits())
	}
}

// putAddresses shows addresses that the recorded node does not have. Nodes without any keep the recorded resources.
func (n *Node) putAddresses() {
	if !n.vip.IsValid() && len(n.extra) == 0 {
		return
	}

	algorithm := n.sortAlgorithm()

	for id, addresses := range map[string][]netip.Prefix{
		network.NodeAddressDefaultID:      {netip.PrefixFrom(n.Address, 24)}, // it is set at boot and kept while the node has it
		network.NodeAddressCurrentID:      n.routed(n.vipHeld),
		network.NodeAddressRoutedID:       n.routed(n.vipHeld),
		network.NodeAddressAccumulativeID: n.routed(n.vipSeen),
	} {
		ids := []string{id}
		if id != network.NodeAddressDefaultID {
			ids = append(ids, network.FilteredNodeAddressID(id, "no-k8s"))
		}

		for _, id := range ids {
			res := network.NewNodeAddress(network.NamespaceName, id)
			res.TypedSpec().Addresses, res.TypedSpec().SortAlgorithm = addresses, algorithm
			n.put(res, "network.NodeAddressController")
		}
	}

	for i, e := range n.extra {
		n.putAddressStatus(e.Link, e.prefix(), uint32(10+i), true)
	}

	if n.vip.IsValid() && n.nodeType == ControlPlane {
		n.putAddressStatus(ownLink, netip.PrefixFrom(n.vip, n.vip.BitLen()), 2, n.vipHeld)

		operator := network.NewOperatorSpec(network.NamespaceName, "vip/"+ownLink)
		*operator.TypedSpec() = network.OperatorSpecSpec{
			Operator: network.OperatorVIP, LinkName: ownLink, RequireUp: true,
			VIP: network.VIPOperatorSpec{IP: n.vip, GratuitousARP: true}, ConfigLayer: network.ConfigMachineConfiguration,
		}
		n.put(operator, "network.OperatorVIPConfigController")
	}
}

// putDHCP shows the DHCPv4 operators of the configuration.
func (n *Node) putDHCP() {
	var links []string

	for _, dhcp := range n.config.NetworkDHCPv4Configs() {
		links = append(links, dhcp.Name())
	}

	if v1alpha1 := n.config.RawV1Alpha1(); v1alpha1 != nil && v1alpha1.MachineConfig != nil {
		for _, device := range v1alpha1.MachineConfig.Network().Devices() {
			if device.DHCP() && device.DHCPOptions().IPv4() {
				links = append(links, device.Interface())
			}
		}
	}

	ids := []string{}

	for _, link := range links {
		spec := network.OperatorSpecSpec{
			Operator: network.OperatorDHCP4, LinkName: link, RequireUp: true,
			DHCP4: network.DHCP4OperatorSpec{RouteMetric: network.DefaultRouteMetric}, ConfigLayer: network.ConfigMachineConfiguration,
		}
		operator := network.NewOperatorSpec(network.NamespaceName, network.OperatorID(spec))
		*operator.TypedSpec() = spec
		ids = append(ids, operator.Metadata().ID())
		n.put(operator, "network.OperatorConfigController")
	}

	n.removeOthers(network.NewOperatorSpec(network.NamespaceName, ""), func(id string) bool {
		return slices.Contains(ids, id) || !strings.HasPrefix(id, "dhcp4/")
	})
}

func (n *Node) putAddressStatus(link string, prefix netip.Prefix, index uint32, present bool) {
	res := network.NewAddressStatus(network.NamespaceName, fmt.Sprintf("%s/%s", link, prefix))
	*res.TypedSpec() = network.AddressStatusSpec{
		Address: prefix, Local: prefix.Addr(), LinkIndex: index, LinkName: link, Family: nethelpers.FamilyInet4,
		Scope: nethelpers.ScopeGlobal, Flags: nethelpers.AddressFlags(nethelpers.AddressPermanent),
	}

	if present {
		n.put(res, "network.AddressStatusController")
	} else {
		n.remove(res.Metadata())
	}
}
