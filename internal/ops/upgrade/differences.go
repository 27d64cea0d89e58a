package upgrade

import (
	"fmt"
	"slices"

	"github.com/talosmate/talosmate/internal/talos"
)

// Differences says what of the cluster is not as the plan has it. A node that has come along the planned way
// is none: a plan may be run again.
func (p *Plan) Differences(now Plan) []string {
	var out []string

	if p.Cluster != now.Cluster {
		out = append(out, fmt.Sprintf("the plan is for the cluster %s, this is %s", p.Cluster, now.Cluster))
	}

	seen := map[string]NodePlan{}
	for _, n := range now.Nodes {
		seen[n.Node] = n
	}

	for _, planned := range p.Nodes {
		n, there := seen[planned.Node]
		name := talos.Target{Address: planned.Node, Hostname: planned.Hostname}.Name()

		switch {
		case !there:
			out = append(out, name+" is no member any more")
		case n.Hostname != planned.Hostname:
			out = append(out, fmt.Sprintf("%s is %q now, it was %q", planned.Node, n.Hostname, planned.Hostname))
		case n.Role != planned.Role:
			out = append(out, fmt.Sprintf("%s is a %s now, it was a %s", name, n.Role, planned.Role))
		case !planned.onTheWay(n.From):
			out = append(out, fmt.Sprintf("%s runs %s now, it ran %s", name, n.From, planned.From))
		case n.Schematic != planned.Schematic && n.Schematic != planned.SchematicTo:
			out = append(out, fmt.Sprintf("%s has the schematic %.12s now, it had %.12s", name, n.Schematic, planned.Schematic))
		case n.Platform != planned.Platform:
			out = append(out, fmt.Sprintf("%s runs on %s now, it ran on %s", name, n.Platform, planned.Platform))
		}
	}

	return out
}

func (n NodePlan) onTheWay(version string) bool {
	if talos.SameVersion(version, n.From) || talos.SameVersion(version, n.To) {
		return true
	}

	return slices.ContainsFunc(n.Hops, func(h Hop) bool { return talos.SameVersion(version, h.To) })
}
