package probe

import (
	"slices"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// GateEndpoints checks that something other than the node itself, and than an address that moves with it, leads to the
// cluster while the node is down (TM144).
func (n *Node) GateEndpoints() gate.Verdict {
	t, endpoints, vips := n.Target, n.Endpoints, n.VirtualIPs
	others, moving := 0, 0

	for _, e := range endpoints {
		switch {
		case n.ControlPlane && slices.Contains(vips, target.Host(e)):
			moving++
		case !t.Has(e):
			others++
		}
	}

	switch {
	case others > 0:
		return gate.New(gate.EndpointIsTarget, gate.Pass, t.Address, "%d endpoints stay up while the node is down", others)
	case moving > 0:
		return gate.New(gate.EndpointIsTarget, gate.Refuse, t.Address, "every endpoint is a virtual IP or the node itself: the connection would move or die with the node").
			WithRemedy("name the control planes' own addresses with --endpoints")
	default:
		return gate.New(gate.EndpointIsTarget, gate.Warn, t.Address, "the node is the only endpoint: nothing can be asked through it while it is down")
	}
}
