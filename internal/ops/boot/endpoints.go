package boot

import (
	"net"
	"slices"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/talos"
)

// GateEndpoints guards the way to a node's neighbours, and to its own return, while it is away (TM144). vips are
// addresses that move between nodes.
func GateEndpoints(t talos.Target, endpoints, vips []string) gate.Verdict {
	others, moving := 0, 0

	for _, e := range endpoints {
		host := e
		if h, _, err := net.SplitHostPort(e); err == nil {
			host = h
		}

		switch {
		case slices.Contains(vips, host):
			moving++
		case host != t.Address && !slices.Contains(t.Addresses, host):
			others++
		}
	}

	switch {
	case others > 0:
		return gate.New(gate.EndpointIsTarget, gate.Pass, t.Address, "%d endpoints stay while the node is away", others)
	case moving > 0:
		return gate.New(gate.EndpointIsTarget, gate.Refuse, t.Address, "every endpoint is a virtual IP or the node itself: the connection would move or die with the node").
			WithRemedy("name the control planes' own addresses with --endpoints")
	default:
		return gate.New(gate.EndpointIsTarget, gate.Warn, t.Address, "the node is the only endpoint: nothing can be asked through it while it is away")
	}
}
