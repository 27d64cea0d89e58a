package machine

import (
	"net/netip"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/config"
)

// cutAfter is how long a configuration that cuts the node off takes to do so: the controllers of the network act after
// the request was answered.
const cutAfter = 300 * time.Millisecond

// cutsOff reports whether nothing reaches a node with a configuration: its link is down, has addresses and none of them
// is the node's own, or its default route goes through a gateway that none of its addresses' subnets has.
func cutsOff(c config.Provider, own netip.Addr) bool {
	if c == nil || c.Machine() == nil {
		return false
	}

	l := collectLinks(c)
	subnets, has := []netip.Prefix{}, l.dhcp[ownLink]

	if spec := l.specs[ownLink]; spec == nil || !spec.TypedSpec().Up {
		return spec != nil
	}

	for _, a := range l.addresses {
		if s := a.TypedSpec(); s.LinkName == ownLink {
			subnets, has = append(subnets, s.Address), has || s.Address.Addr() == own
		}
	}

	if len(subnets) > 0 && !has {
		return true
	}

	subnets = append(subnets, netip.PrefixFrom(own, 24))

	for _, r := range l.routes {
		if s := r.TypedSpec(); s.OutLinkName == ownLink && s.Gateway.IsValid() && !s.Destination.IsValid() && !contained(subnets, s.Gateway) {
			return true
		}
	}

	return false
}

func contained(subnets []netip.Prefix, a netip.Addr) bool {
	for _, p := range subnets {
		if p.Contains(a) {
			return true
		}
	}

	return false
}

// connect cuts the node off its network, or ends that, as the configuration in force says. It needs n.mu held.
func (n *Node) connect(generation int, after time.Duration) {
	cut := cutsOff(n.config, n.Address)
	if cut == n.cut {
		return
	}

	act := func() {
		n.mu.Lock()
		stale := n.generation != generation || n.cut == cut || cutsOff(n.config, n.Address) != cut

		if !stale {
			n.cut = cut
		}
		n.mu.Unlock()

		if !stale {
			n.setNetwork(cut)
		}
	}

	if after == 0 {
		go act()
	} else {
		time.AfterFunc(after, act)
	}
}

// setNetwork holds all of the node's data, and ends its etcd member and the reports of its kubelet, or starts them again.
func (n *Node) setNetwork(cut bool) {
	n.api.Hang(cut)

	if n.Etcd != nil {
		_ = n.SetEtcdDown(cut) //nolint:errcheck // it has a member
	}

	if n.registers() {
		if cut {
			n.kubelet.Stop(n)
		} else {
			n.kubelet.Start(n)
		}
	}

	if cut {
		n.note("network-cut", "")
	} else {
		n.note("network-back", "")
	}
}

// bootNetwork is connect for a node that boots. It needs n.mu held.
func (n *Node) bootNetwork() {
	if cut := cutsOff(n.config, n.Address); cut != n.cut {
		n.cut = cut
		n.api.Hang(cut)
	}
}

// registers reports whether the node is one of Kubernetes.
func (n *Node) registers() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.kubernetes
}

// CutOff reports whether the configuration in force cuts the node off its network.
func (n *Node) CutOff() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.cut
}
