package target

import (
	"slices"
	"sort"
	"strings"
)

// Sources of a member.
const (
	FromDiscovery = "discovery"
	FromEtcd      = "etcd"
)

// Member is a node of the cluster, as discovery lists it, or a control plane that only etcd lists.
type Member struct {
	NodeRef

	Addresses       []string `json:"addresses"`                 // Every address it announced.
	Type            string   `json:"type"`                      // controlplane or worker.
	OperatingSystem string   `json:"operating_system"`          // As announced, Talos (v1.13.9).
	TalosVersion    string   `json:"talos_version"`             // The version in it.
	KubernetesName  string   `json:"kubernetes_name,omitempty"` // Its Kubernetes node name, read from the node itself.
	NodeID          string   `json:"node_id"`                   // Its discovery identity.
	Source          string   `json:"source"`                    // What lists it: discovery, or etcd for a control plane that discovery does not know.
	APIReachable    *bool    `json:"api_reachable,omitempty"`   // Whether its API answered; with --probe only.
	ProbeSeconds    float64  `json:"probe_seconds,omitempty"`   // How long the answer took; with --probe only.

	Sure bool `json:"-"` // Whether Node is known to be its own address, and not the first of several.
}

// Target is the member as a target.
func (m Member) Target() Target {
	return Target{Address: m.Node, Hostname: m.Hostname, ID: m.NodeID, Type: m.Type, Addresses: m.Addresses, Sure: m.Sure}
}

// Known is the members of a cluster, which are found by their addresses without a search through all of them.
type Known struct {
	Members []Member

	at map[string][]int
}

// NewKnown indexes members.
func NewKnown(members []Member) Known {
	k := Known{Members: members, at: make(map[string][]int, len(members))}

	for i, m := range members {
		add(k.at, i, append([]string{m.Node}, m.Addresses...)...)
	}

	return k
}

// At returns the positions of the members that have an address, or the host of an endpoint, in order.
func (k Known) At(endpoint string) []int { return k.at[Host(endpoint)] }

// add notes a position under each of the keys, once.
func add(at map[string][]int, position int, keys ...string) {
	for _, key := range keys {
		if key != "" && !slices.Contains(at[key], position) {
			at[key] = append(at[key], position)
		}
	}
}

// Is reports whether the member is the node in question.
func (m Member) Is(t Target) bool { return m.Target().Is(t) }

// IsControlPlane reports whether one of the members is the node in question and a control plane.
func IsControlPlane(members []Member, t Target) bool {
	return slices.ContainsFunc(members, func(m Member) bool { return m.Type == ControlPlane && m.Is(t) })
}

// ByAddress returns the member that announced an address, nil when none did.
func ByAddress(members []Member, addr string) *Member {
	for i, m := range members {
		if slices.ContainsFunc(m.Addresses, func(a string) bool { return CompareAddresses(a, addr) == 0 }) {
			return &members[i]
		}
	}

	return nil
}

// Names lists the members for a message.
func Names(members []Member) string {
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.Hostname + " (" + m.Target().Address + ")"
	}

	sort.Strings(names)

	return strings.Join(names, ", ")
}

// ByName returns the members whose hostname, with or without its domain, is the name, in any case.
func ByName(members []Member, name string) []Member {
	var found []Member

	for _, m := range members {
		short, _, _ := strings.Cut(m.Hostname, ".")
		if strings.EqualFold(m.Hostname, name) || strings.EqualFold(short, name) {
			found = append(found, m)
		}
	}

	return found
}
