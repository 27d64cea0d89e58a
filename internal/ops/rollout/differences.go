package rollout

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// Differences lists what would be done now and is not in the plan, and the other way round. A node that has come
// along the planned way is none: a plan may be run again.
func (p *Plan) Differences(now Plan) []string {
	var out []string

	differ := func(what string, planned, is any) {
		if !reflect.DeepEqual(planned, is) {
			out = append(out, fmt.Sprintf("%s is %v now, it was %v", what, is, planned))
		}
	}

	differ("the cluster", p.Cluster, now.Cluster)
	differ("the target", p.To, now.To)
	differ("the number of workers at once", p.Workers, now.Workers)

	planned, current := p.Request, now.Request
	planned.Nodes, current.Nodes = nil, nil

	if !reflect.DeepEqual(planned, current) {
		out = append(out, "the options differ")
	}

	if nameless := p.unreadable(); len(nameless) > 0 {
		out = append(out, fmt.Sprintf("the plan does not name the image of %s: the certificate that it was made with may not read the machine configuration",
			strings.Join(nameless, ", ")))
	}

	seen := map[string]NodePlan{}
	for _, n := range now.Nodes {
		seen[n.Node] = n
	}

	for _, planned := range p.Nodes {
		if n, there := seen[planned.Node]; !there {
			out = append(out, planned.NodeName()+" is not a member any more")
		} else if what := planned.difference(n); what != "" {
			out = append(out, what)
		}

		delete(seen, planned.Node)
	}

	for _, n := range now.Nodes {
		if _, extra := seen[n.Node]; extra {
			out = append(out, n.NodeName()+" is not in the plan")
		}
	}

	if len(out) == 0 && !sameNodes(p.Request.Nodes, now.Request.Nodes) {
		out = append(out, fmt.Sprintf("the nodes asked for are %s now, they were %s",
			strings.Join(now.Request.Nodes, ", "), strings.Join(p.Request.Nodes, ", ")))
	}

	return out
}

// unreadable names the nodes whose images the plan does not know.
func (p *Plan) unreadable() []string {
	names := lists.Map(lists.Filter(p.Nodes, func(n NodePlan) bool { return n.ImageUnreadable }), NodePlan.NodeName)
	slices.Sort(names)

	return names
}

func sameNodes(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// difference says what differs between a node as planned and now, empty for nothing.
func (n NodePlan) difference(now NodePlan) string {
	switch {
	case now.Hostname != n.Hostname:
		return fmt.Sprintf("%s is %q now, it was %q", n.Node, now.Hostname, n.Hostname)
	case now.Role != n.Role:
		return fmt.Sprintf("%s is a %s now, it was a %s", n.NodeName(), now.Role, n.Role)
	case n.Action == ActUnknown && now.Action != ActUnknown:
		return n.NodeName() + " answers now, and the plan leaves it out because it did not"
	case n.Action == ActUnknown:
		return ""
	case !n.onTheWay(now.From):
		return fmt.Sprintf("%s runs %s now, it ran %s", n.NodeName(), now.From, n.From)
	case release.Same(now.From, n.From) && now.API != n.API:
		return fmt.Sprintf("%s has the %s upgrade API now, it had %s", n.NodeName(), now.API, n.API)
	case now.Schematic != n.Schematic && (now.Schematic != n.SchematicTo || !release.Same(now.From, n.To)):
		return fmt.Sprintf("%s has the schematic %.12s now, it had %.12s", n.NodeName(), now.Schematic, n.Schematic)
	case now.Platform != n.Platform:
		return fmt.Sprintf("%s runs on %s now, it ran on %s", n.NodeName(), now.Platform, n.Platform)
	case now.SecureBoot != n.SecureBoot:
		return fmt.Sprintf("%s has secure boot %t now, it had %t", n.NodeName(), now.SecureBoot, n.SecureBoot)
	case now.K8sNodeName != n.K8sNodeName && now.K8sNodeName != "" && n.K8sNodeName != "":
		return fmt.Sprintf("%s is the Kubernetes node %q now, it was %q", n.NodeName(), now.K8sNodeName, n.K8sNodeName)
	case now.To != n.To:
		return fmt.Sprintf("%s is to run %s now, it was to run %s", n.NodeName(), now.To, n.To)
	case n.ImageUnreadable:
		return "" // said once, of all such nodes
	case now.Image != n.Image:
		return fmt.Sprintf("%s gets the image %s now, planned is %s", n.NodeName(), now.Image, n.Image)
	case !n.leadsTo(now):
		return fmt.Sprintf("%s now needs %s by %s, planned is %s by %s", n.NodeName(), now.Action, way(now.Hops), n.Action, way(n.Hops))
	default:
		return ""
	}
}

func (n NodePlan) onTheWay(version string) bool {
	if release.Same(version, n.From) || release.Same(version, n.To) {
		return true
	}

	return slices.ContainsFunc(n.Hops, func(h Hop) bool { return release.Same(version, h.To) })
}

// leadsTo reports whether what is to be done now is the plan, or the rest of it.
func (n NodePlan) leadsTo(now NodePlan) bool {
	stages := []string{upgrade.ActUpgrade, upgrade.ActSettle, upgrade.ActReboot, upgrade.ActRelease, upgrade.ActSkip}
	stage := func(action string) int {
		if upgrade.Installs(action) {
			return 0
		}

		return slices.Index(stages, action)
	}

	planned, current := stage(n.Action), stage(now.Action)

	if n.Action == upgrade.ActSettle {
		planned = 0 // its install may have to be done after all
	}

	switch {
	case planned < 0 || current < planned || len(now.Hops) > len(n.Hops):
		return false
	case len(now.Hops) == 0:
		return now.Action == upgrade.ActSkip || now.Action == upgrade.ActRelease || len(n.Hops) == 0
	case release.Same(now.From, n.From) && len(now.Hops) < len(n.Hops):
		return false
	}

	return slices.EqualFunc(n.Hops[len(n.Hops)-len(now.Hops):], now.Hops, Hop.same)
}

// same compares two hops. A digest counts where both times a registry told one.
func (h Hop) same(o Hop) bool {
	if h.Digest == "" || o.Digest == "" {
		h.Digest, o.Digest = "", ""
	}

	return h == o
}

// way is a way in one line.
func way(hops []Hop) string {
	if len(hops) == 0 {
		return "no hop"
	}

	var out []string
	for _, h := range hops {
		text := h.To + " (" + h.API + ", " + h.Image
		if h.Digest != "" {
			text += "@" + h.Digest
		}

		out = append(out, text+")")
	}

	return strings.Join(out, ", ")
}
