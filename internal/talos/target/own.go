package target

import (
	"net/netip"
	"slices"
)

// Evidence tells which of the addresses that a node announces is its own. A node announces every routed address but the
// pod and service ranges: virtual IPs, which move to another node when its kubelet stops, and those of a network plugin or
// a storage network among them, in an order that says nothing (Talos,
// internal/app/machined/pkg/controllers/cluster/local_affiliate.go).
type Evidence struct {
	Endpoints []string // What the talosconfig uses to reach the cluster, with or without ports, best first.
	Virtual   []string // Addresses that move between nodes.
	Moves     bool     // Whether Virtual is known. Without it an endpoint may be one that moves.
	Kubelet   []string // The kubelet's node IPs.
	Etcd      string   // What the node's etcd member advertises, empty for none.
	Others    []string // Addresses that other nodes announce too.
}

// Own picks the address to ask a node at: one that the talosconfig uses, else the kubelet's, else etcd's, else the first in
// the family of the endpoints that is neither virtual nor another node's. sure is false when the last rule had to choose
// among several.
func (e Evidence) Own(addresses []string) (address string, sure bool) {
	own := slices.DeleteFunc(slices.Clone(addresses), func(a string) bool {
		return slices.Contains(e.Virtual, a) || slices.Contains(e.Others, a)
	})

	rules := [][]string{hosts(e.Endpoints), e.Kubelet, {e.Etcd}}
	if !e.Moves { // etcd and the kubelet never use an address that moves
		rules = [][]string{e.Kubelet, {e.Etcd}, hosts(e.Endpoints)}
	}

	for _, rule := range rules {
		for _, a := range rule {
			if slices.Contains(own, a) {
				return a, true
			}
		}
	}

	family := slices.DeleteFunc(slices.Clone(own), func(a string) bool { return !e.sameFamily(a) })

	switch {
	case len(family) > 0:
		return family[0], len(family) == 1
	case len(own) > 0:
		return own[0], len(own) == 1
	case len(addresses) > 0:
		return addresses[0], false
	default:
		return "", false
	}
}

// sameFamily reports whether an address is of a family in which the endpoints are reached.
func (e Evidence) sameFamily(address string) bool {
	a, err := netip.ParseAddr(address)

	return err == nil && slices.ContainsFunc(hosts(e.Endpoints), func(host string) bool {
		h, err := netip.ParseAddr(host)

		return err == nil && h.Is4() == a.Is4()
	})
}

func hosts(endpoints []string) []string {
	out := make([]string, len(endpoints))
	for i, e := range endpoints {
		out[i] = Host(e)
	}

	return out
}
