package talos

import (
	"context"
	"slices"

	"github.com/talosmate/talosmate/internal/talos/target"
)

// Affiliates reads the machines that the node's discovery knows. Talos makes a member of each, but of machines with one
// hostname only one. Roles: reader, operator, admin.
func (n *Node) Affiliates(ctx context.Context) ([]Member, error) {
	out, err := View[affiliateSpec, Member]{
		Namespace: "cluster", Type: "Affiliates.cluster.talos.dev", Row: func(_ string, s affiliateSpec) Member {
			return Member{
				NodeRef: NodeRef{Hostname: s.Hostname}, Addresses: s.Addresses, Type: s.MachineType, NodeID: s.NodeID,
				OperatingSystem: s.OperatingSystem, TalosVersion: versionIn(s.OperatingSystem), Source: target.FromDiscovery,
			}
		},
	}.List(ctx, n)

	return slices.DeleteFunc(out, func(m Member) bool { return len(m.Addresses) == 0 || m.NodeID == "" }), err
}

type affiliateSpec struct {
	NodeID          string   `json:"nodeId"`
	Hostname        string   `json:"hostname"`
	Addresses       []string `json:"addresses"`
	MachineType     string   `json:"machineType"`
	OperatingSystem string   `json:"operatingSystem"`
}
