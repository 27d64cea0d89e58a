package rollout

import "github.com/talosmate/talosmate/internal/talos/target"

// turns is how many turns the plan takes, one after another: those of the control planes, and those of the workers, of which
// some go together.
func (p *Plan) turns() int {
	controlPlanes, workers := 0, 0

	for _, n := range p.Nodes {
		hops := max(1, len(n.Hops))

		switch {
		case !n.works():
		case n.Role == target.ControlPlane:
			controlPlanes += hops
		default:
			workers += hops
		}
	}

	return controlPlanes + (workers+p.Workers-1)/max(1, p.Workers)
}
