package fleet

import (
	"slices"

	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/talos"
)

// Description describes a cluster on one page.
type Description struct {
	Fleet

	Versions    []string    `json:"versions"`    // The Talos versions that run, each once; never null.
	Certificate Certificate `json:"certificate"` // The client certificate in use.
}

// Describe adds what follows from all nodes together.
func Describe(f Fleet, cert Certificate) Description {
	out := Description{Fleet: f, Versions: []string{}, Certificate: cert}

	for _, n := range f.Nodes {
		if n.Version != "" {
			out.Versions = append(out.Versions, n.Version)
		}
	}

	slices.Sort(out.Versions)
	out.Versions = slices.Compact(out.Versions)

	return out
}

// NodeDescription describes a node on one page.
type NodeDescription struct {
	Node        Node          `json:"node"`             // The node; of one that does not answer what others know.
	Member      *talos.Member `json:"member,omitempty"` // What discovery or etcd lists about it.
	Etcd        *EtcdMember   `json:"etcd,omitempty"`   // Its etcd member, where it has one.
	Checks      []Finding     `json:"checks"`           // The health findings about it that are not ok; never null.
	Certificate Certificate   `json:"certificate"`      // The client certificate in use.
}

// DescribeNode selects a node from a fleet.
func DescribeNode(f Fleet, n Node, member *talos.Member, cert Certificate) NodeDescription {
	out := NodeDescription{Node: n, Member: member, Checks: []Finding{}, Certificate: cert}

	for i, m := range f.Etcd.Members {
		if m.Node == n.Node || (n.Hostname != "" && m.Name == n.Hostname) {
			out.Etcd = &f.Etcd.Members[i]
		}
	}

	out.Checks = append(out.Checks, lists.Filter(f.Health.Checks, func(finding Finding) bool { return finding.Node == n.Node })...)

	return out
}
