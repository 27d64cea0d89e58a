// Package target says which nodes a command is about: how they are named, what discovery knows of them, and which of them
// a selection means. It asks no node.
package target

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/lists"
)

// NodeRef names the node a row is about. Every row embeds it.
type NodeRef struct {
	Node     string `json:"node"`               // The address that was asked.
	Hostname string `json:"hostname,omitempty"` // The Talos hostname, where known.
}

// SetNode fills in the reference.
func (r *NodeRef) SetNode(t Target) { r.Node, r.Hostname = t.Address, t.Hostname }

// NodeName is the hostname where known, else the address.
func (r NodeRef) NodeName() string {
	if r.Hostname != "" {
		return r.Hostname
	}

	return r.Node
}

// Ref returns the target's reference.
func (r NodeRef) Ref() NodeRef { return r }

// Machine types, as Talos names them.
const (
	ControlPlane = "controlplane"
	Worker       = "worker"
)

// Target is a node that a command reads or changes.
type Target struct {
	Address   string        // The address to ask.
	Hostname  string        // The Talos hostname, if known.
	ID        string        // The node's identity in discovery, if known.
	Type      string        // controlplane, worker, or empty when unknown.
	Addresses []string      // All known addresses.
	Sure      bool          // Whether Address is known to be the node's own, and not the first of several.
	Silent    time.Duration // How long it was asked in vain who it is.
	AnyOf     []string      // Endpoints of which any may answer for itself; Address is set afterwards.
	Later     func() Target // Waits for what is known of the node, where only Address is known yet; nil otherwise.
}

// Whole is the target with what is known of it. It waits where that is still asked for.
func (t Target) Whole() Target {
	if t.Later == nil {
		return t
	}

	return t.Later()
}

// Name is the hostname if known, else the address.
func (t Target) Name() string {
	t = t.Whole()

	if t.Hostname != "" {
		return t.Hostname
	}

	return t.Address
}

// EachOnce sorts targets and keeps the first of those that are one node under several of its addresses: it must not be
// changed twice.
func EachOnce(all []Target) []Target {
	var out []Target

	alike := map[string][]int{} // Those that may be the same node: two nodes that are one have a key in common.

	for _, t := range all {
		keys := append([]string{t.ID, t.Hostname, t.Address, Host(t.Address)}, t.Addresses...)

		if !slices.ContainsFunc(keys, func(key string) bool {
			return slices.ContainsFunc(alike[key], func(i int) bool { return t.Is(out[i]) })
		}) {
			add(alike, len(out), keys...)
			out = append(out, t)
		}
	}

	return Sort(out)
}

// Is reports whether two targets are one node: by their identities where both are known, else by the address that one of
// them is asked at, else by their hostnames. Addresses that neither is asked at prove nothing, since a virtual IP moves.
func (t Target) Is(o Target) bool {
	if t.ID != "" && o.ID != "" {
		return t.ID == o.ID
	}

	return t.Has(o.Address) || o.Has(t.Address) || (t.Hostname != "" && t.Hostname == o.Hostname)
}

// Has reports whether the address, or the host of the endpoint, is one of the node's.
func (t Target) Has(endpoint string) bool {
	host := Host(endpoint)

	return host != "" && (host == t.Address || slices.Contains(t.Addresses, host))
}

// Sort orders targets by address, numerically, and drops duplicates.
func Sort(all []Target) []Target {
	lists.Sort(all, func(a, b Target) int { return CompareAddresses(a.Address, b.Address) })

	return slices.CompactFunc(all, func(a, b Target) bool { return a.Address == b.Address })
}

// CompareAddresses orders addresses by number and other names by text.
func CompareAddresses(a, b string) int {
	x, xerr := netip.ParseAddr(a)
	y, yerr := netip.ParseAddr(b)

	if xerr == nil && yerr == nil {
		return x.Compare(y)
	}

	return strings.Compare(a, b)
}

// Host is the host of an endpoint: HOST, HOST:PORT, ADDRESS, [ADDRESS] or [ADDRESS]:PORT. An address is spelt as Go spells
// it.
func Host(endpoint string) string {
	host := strings.TrimPrefix(endpoint, "https://")
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}

	host = strings.Trim(host, "[]")

	if address, err := netip.ParseAddr(host); err == nil {
		return address.Unmap().String()
	}

	return host
}
