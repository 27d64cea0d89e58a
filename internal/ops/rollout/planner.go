package rollout

import (
	"cmp"
	"context"
	"sync"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/release"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// observeConcurrency is how many nodes are observed at once.
const observeConcurrency = 8

// planner plans nodes side by side.
type planner struct {
	cluster   *Cluster
	request   Request
	to        string
	overrides gate.Overrides

	digests    memo[string]   // Of images.
	extensions memo[[]string] // Of schematics, by their factory.
	releases   memo[[]string]
}

// memo asks once for each key, whoever of the nodes comes first.
type memo[V any] struct {
	mu    sync.Mutex
	known map[string]answer[V]
}

type answer[V any] struct {
	value V
	err   error
}

func (m *memo[V]) get(key string, ask func() (V, error)) (V, error) {
	m.mu.Lock()
	defer m.mu.Unlock()

	a, known := m.known[key]
	if !known {
		a.value, a.err = ask()

		if m.known == nil {
			m.known = map[string]answer[V]{}
		}

		m.known[key] = a
	}

	return a.value, a.err
}

// nodes plans all nodes. One that cannot be asked has its error in its plan.
func (p *planner) nodes(ctx context.Context, targets []talos.Target) ([]NodePlan, error) {
	out := make([]NodePlan, len(targets))

	if p.cluster.AwaitUnderway > 0 {
		SideBySide(targets, func(_ int, t talos.Target) {
			upgrade.AwaitUnderway(ctx, p.cluster.Node(t), p.cluster.AwaitUnderway, p.cluster.Progress)
		})
	}

	SideBySide(targets, func(i int, t talos.Target) {
		err := errs.Safely(func() (err error) { out[i], err = p.node(ctx, t); return err })
		if err != nil {
			out[i] = p.unplanned(t, err)
		}
	})

	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}

	return out, nil
}

// empty is the plan of a node of which nothing is known yet.
func (p *planner) empty(t talos.Target) NodePlan {
	n := NodePlan{
		Role: "worker", To: p.to, Hops: []Hop{}, ExtensionsKept: []string{}, ExtensionsLost: []string{}, ExtensionsAdded: []string{}, ExtensionsUnknown: []string{},
		Gates: []gate.Verdict{}, Blockers: []kube.Blocker{},
	}
	n.SetNode(t)

	if p.cluster.isControlPlane(t) {
		n.Role = target.ControlPlane
	}

	return n
}

// unplanned is the plan of a node that could not be asked.
func (p *planner) unplanned(t talos.Target, err error) NodePlan {
	n := p.empty(t)
	n.failure = errs.Typed(err, t.Address, t.Hostname)
	n.Action, n.Reason, n.Error = ActUnknown, "it could not be asked", n.failure.Error()

	return n
}

// SideBySide asks nodes at once, a bounded number of them at a time.
func SideBySide(targets []talos.Target, do func(int, talos.Target)) {
	var group errs.Group

	group.SetLimit(observeConcurrency)

	for i, t := range targets {
		group.Go(func() { do(i, t) })
	}

	group.Wait()
}

// EachMember asks all members of the cluster at once. The errors of members are in the one error, and do not keep the others'
// answers from the result.
func EachMember[T any](ctx context.Context, c *Cluster, ask func(talos.Member) (T, error)) ([]T, error) {
	targets := lists.Map(c.Members, talos.Member.Target)
	out, failed := make([]T, len(targets)), make([]error, len(targets))

	var group errs.Group

	for i, m := range c.Members {
		group.Go(func() {
			failed[i] = errs.Safely(func() (err error) { out[i], err = ask(m); return err })
		})
	}

	group.Wait()

	return out, NodeErrors(ctx, targets, failed, true)
}

// NodeErrors joins what failed, node by node. Where partial is set, the nodes that did not fail make it a partial success.
func NodeErrors(ctx context.Context, targets []talos.Target, failed []error, partial bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	all := &errs.Nodes{}

	for i, err := range failed {
		if err != nil {
			all.Errors = append(all.Errors, errs.Typed(err, targets[i].Address, targets[i].Hostname))
		} else if partial {
			all.Succeeded++
		}
	}

	if len(all.Errors) == 0 {
		return nil
	}

	return all
}

// node plans one node.
func (p *planner) node(ctx context.Context, t talos.Target) (NodePlan, error) {
	node, n := p.cluster.Node(t), p.empty(t)

	version, err := node.Read.Version(ctx)
	if err != nil {
		return n, err
	}

	system, err := node.Read.System(ctx)
	if err != nil {
		return n, err
	}

	n.From, n.API, n.Platform, n.SecureBoot, n.Schematic = version.Tag, version.API, version.Platform, system.SecureBoot, system.Schematic

	// Without the configuration the registry that the node's image comes from is not known.
	config, err := node.Read.ConfigFacts(ctx)
	denied := conn.KindOf(err) == errs.KindPermissionDenied

	if err != nil && !denied {
		return n, err
	}

	n.ImageUnreadable = denied && p.request.Image == ""

	if err = p.way(ctx, &n, system, config); err != nil {
		n.Action, n.Reason = upgrade.Install(n.From, p.to), err.Error()
		n.Gates = append(n.Gates, gate.New(gate.VersionPath, gate.Refuse, t.Address, "%v", err).
			WithRemedy("name the releases to go by with --via, or the image with --image"))

		return n, nil
	}

	return n, p.inspect(ctx, node, &n, config.Mirrors)
}

// way finds the hops and their images.
func (p *planner) way(ctx context.Context, n *NodePlan, system talos.System, config talos.ConfigFacts) (err error) {
	steps := []string{p.to}

	if p.to == "" {
		steps = []string{n.From} // the image names no version: TM130 says so
	} else if !release.Same(n.From, p.to) {
		if steps, err = hops(n.From, p.to, p.stops(ctx, n.From)); err != nil {
			steps = []string{p.to} // TM130 says why not
		}
	}

	from := n.From

	for _, to := range steps {
		var ref string

		switch {
		case n.ImageUnreadable:
		case p.request.Image != "" && to == steps[len(steps)-1]:
			ref = p.request.Image
		default:
			image, err := imageFor(cmp.Or(p.request.Image, config.InstallImage), system, n.Platform, to)
			if err != nil {
				return err
			}

			ref = image.String()
		}

		n.Hops = append(n.Hops, Hop{From: from, To: to, API: release.UpgradeAPI(from), Image: ref})
		n.Image, from = ref, to
	}

	return nil
}

// stops are the releases that the path may go by.
func (p *planner) stops(ctx context.Context, from string) []string {
	if len(p.request.Via) > 0 {
		return p.request.Via
	}

	if direct, err := release.UpgradePath(from, p.to); err != nil || direct.Supported || p.cluster.Releases == nil {
		return nil
	}

	// Without an answer the gate says that there is no way, and its remedy how to name one.
	releases, _ := p.releases.get("", func() ([]string, error) { return p.cluster.Releases(ctx) })

	return releases
}

// inspect runs the node's own preflight for the first hop.
func (p *planner) inspect(ctx context.Context, node *probe.Node, n *NodePlan, mirrors []string) error {
	o := upgrade.Options{
		Options: disruption.Options{Drain: !p.request.SkipDrain, Overrides: p.overrides},
		Image:   n.Hops[0].Image, Version: n.Hops[0].To, InstallOnly: p.request.InstallOnly, RebootOnly: p.request.RebootOnly,
	}

	// An image that follows from the version is not asked about where the version runs.
	if p.request.Image != "" && p.cluster.Image != nil {
		o.Digest = p.digest
	}

	preview, err := upgrade.Look(ctx, node, o)
	n.Gates = append(n.Gates, preview.Found()...)
	n.K8sNodeName = preview.KubernetesName()

	last, _ := registry.ParseInstaller(n.Hops[len(n.Hops)-1].Image) // it was checked when it was composed; one that is not known is empty
	p.compareExtensions(ctx, n, preview.System(), last)

	switch {
	case err != nil && preview.KubernetesAway():
		n.Action, n.Reason = upgrade.Install(n.From, p.to), "the Kubernetes API cannot be reached"

		return nil // its gate is in the plan
	case err != nil:
		return err
	}

	n.Action, n.Reason = preview.Action(ctx, n.To)
	if n.Action == upgrade.ActSkip || n.Action == upgrade.ActRelease {
		n.Gates = append(n.Gates, preview.Same(ctx)...)
		n.Image, n.Hops = n.Hops[0].Image, []Hop{}

		return nil
	}

	verdicts, err := preview.Gates(ctx)
	if err != nil {
		return err
	}

	n.Gates = append(n.Gates, verdicts...)

	for _, hop := range n.Hops[1:] {
		n.Gates = append(n.Gates, preview.Later(hop.Image, hop.To)...)
	}

	if upgrade.Installs(n.Action) {
		n.Gates = append(n.Gates, p.gateImages(ctx, n, mirrors)...)
	}

	n.Blockers, err = preview.Blockers(ctx)

	return err
}

// gateImages asks the registries, once an image.
func (p *planner) gateImages(ctx context.Context, n *NodePlan, mirrors []string) []gate.Verdict {
	if p.cluster.Image == nil || n.ImageUnreadable {
		return nil
	}

	var out []gate.Verdict

	for i := range n.Hops {
		h := &n.Hops[i]

		var err error

		h.Digest, err = p.digest(ctx, h.Image)
		out = append(out, upgrade.GateImage(n.Node, h.Image, err, mirrors))
	}

	return out
}

func (p *planner) digest(ctx context.Context, image string) (string, error) {
	return p.digests.get(image, func() (string, error) { return p.cluster.Image(ctx, image) })
}
