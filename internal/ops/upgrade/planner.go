package upgrade

import (
	"cmp"
	"context"
	"errors"
	"sync"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// lookConcurrency is how many nodes are looked at at once.
const lookConcurrency = 8

// planner plans nodes side by side.
type planner struct {
	fleet     *Fleet
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

func (p *planner) nodes(ctx context.Context, targets []talos.Target) ([]NodePlan, error) {
	out := make([]NodePlan, len(targets))
	failed := make([]error, len(targets))

	if p.fleet.AwaitUnderway > 0 {
		sideBySide(targets, func(_ int, t talos.Target) { p.arrive(ctx, t) })
	}

	sideBySide(targets, func(i int, t talos.Target) {
		failed[i] = errs.Safely(func() (err error) { out[i], err = p.node(ctx, t); return err })
	})

	return out, nodeErrors(ctx, targets, failed)
}

func sideBySide(targets []talos.Target, do func(int, talos.Target)) {
	slots := make(chan struct{}, lookConcurrency)

	var wg errs.Group

	for i, t := range targets {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()

			do(i, t)
		})
	}

	wg.Wait()
}

// nodeErrors joins what failed, node by node.
func nodeErrors(ctx context.Context, targets []talos.Target, failed []error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	all := &errs.Nodes{}

	for i, err := range failed {
		if err == nil {
			continue
		}

		var typed *errs.Error
		if !errors.As(err, &typed) {
			typed = &errs.Error{Exit: errs.ExitCode(err), Node: targets[i].Address, Hostname: targets[i].Hostname, Err: err}
		}

		all.Errors = append(all.Errors, typed)
	}

	if len(all.Errors) == 0 {
		return nil
	}

	return all
}

// node plans one node.
func (p *planner) node(ctx context.Context, t talos.Target) (NodePlan, error) {
	w := p.fleet.World(t)

	n := NodePlan{
		Role: "worker", To: p.to, Hops: []Hop{}, ExtensionsKept: []string{}, ExtensionsLost: []string{}, ExtensionsAdded: []string{}, ExtensionsUnknown: []string{},
		Gates: []gate.Verdict{}, Blockers: []kube.Blocker{},
	}
	n.SetNode(t)

	if w.ControlPlane {
		n.Role = target.ControlPlane
	}

	version, err := w.Read.Version(ctx)
	if err != nil {
		return n, err
	}

	system, err := w.Read.System(ctx)
	if err != nil {
		return n, err
	}

	n.From, n.API, n.Platform, n.SecureBoot, n.Schematic = version.Tag, version.API, version.Platform, system.SecureBoot, system.Schematic

	if err = p.way(ctx, w, &n, system); err != nil {
		n.Action, n.Reason = ActUpgrade, err.Error()
		n.Gates = append(n.Gates, gate.New(gate.VersionPath, gate.Refuse, t.Address, "%v", err).
			WithRemedy("name the releases to go by with --via, or the image with --image"))

		return n, nil
	}

	return n, p.inspect(ctx, w, &n)
}

// arrive waits for a node that an earlier run left on its way to a new boot: what the gates say of the others
// rests on it. What it is then is for the gates to say.
func (p *planner) arrive(ctx context.Context, t talos.Target) {
	r := newRun(p.fleet.World(t), Options{Reason: purpose, ReadyTimeout: p.fleet.AwaitUnderway}, progress.Discard{})
	patience := underwayTimeout

	// A node that is well may still have its etcd member on the way; Kubernetes is asked in passing.
	if status, err := r.w.Read.MachineStatus(ctx); err == nil && status.Settled() {
		patience = insistEvery
	}

	if !r.isUnderway(ctx, patience) {
		return
	}

	if _, err := r.readVersion(ctx); err != nil {
		return
	}

	if _, err := r.awaitSettled(ctx); err != nil {
		return
	}

	_, _ = r.awaitEtcd(ctx), r.reachable(ctx) // the gates look again, and say what is wrong
}

// way finds the hops and their images.
func (p *planner) way(ctx context.Context, w *World, n *NodePlan, system talos.System) error {
	config, err := w.Read.ConfigFacts(ctx)
	if err != nil {
		config = talos.ConfigFacts{} // only the image's registry is not known then; the gates hold what the image is against the node
	}

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

		if p.request.Image != "" && to == steps[len(steps)-1] {
			ref = p.request.Image
		} else {
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

	if direct, err := release.UpgradePath(from, p.to); err != nil || direct.Supported || p.fleet.Releases == nil {
		return nil
	}

	// Without an answer the gate says that there is no way, and its remedy how to name one.
	releases, _ := p.releases.get("", func() ([]string, error) { return p.fleet.Releases(ctx) })

	return releases
}

// inspect runs the node's own preflight for the first hop.
func (p *planner) inspect(ctx context.Context, w *World, n *NodePlan) error {
	r := newRun(w, Options{
		Image: n.Hops[0].Image, AutoReboot: !p.request.InstallOnly, RebootOnly: p.request.RebootOnly, SkipDrain: p.request.SkipDrain,
		Overrides: p.overrides, DryRun: true, Reason: purpose,
	}, progress.Discard{})

	f, err := r.look(ctx)
	n.Gates = append(n.Gates, r.res.Gates...)
	n.K8sNodeName = f.k8sName

	last := f
	last.image, _ = registry.ParseInstaller(n.Hops[len(n.Hops)-1].Image) // it was looked at when it was composed
	p.compareExtensions(ctx, n, last)

	if err != nil {
		if r.res.Status == DiscoveryFailed {
			n.Action, n.Reason = ActUpgrade, "the Kubernetes API cannot be reached"

			return nil // its gate is in the plan
		}

		return err
	}

	n.Action, n.Reason = r.action(ctx, f, n.To)
	if n.Action == ActSkip || n.Action == ActRelease {
		n.Hops, n.Image = []Hop{}, r.o.Image

		return nil
	}

	r.res.Gates = []gate.Verdict{}

	if err = r.gates(ctx, f); err != nil && r.res.Status != RefusedStatus {
		return err
	}

	n.Gates = append(n.Gates, r.res.Gates...)

	for _, hop := range n.Hops[1:] {
		later := f
		later.image, _ = registry.ParseInstaller(hop.Image)
		n.Gates = append(n.Gates, r.gateKubernetesRange(later), r.gateSystem(later), r.gatePlatform(later))
	}

	if n.Action == ActUpgrade {
		n.Gates = append(n.Gates, p.gateImages(ctx, n)...)
	}

	if r.kube != nil && !p.request.SkipDrain && w.Nodes > 1 {
		if n.Blockers, err = r.kube.Blockers(ctx, f.k8sName); err != nil {
			return err
		}
	}

	return nil
}

// action says what a run would do to the node.
func (r *run) action(ctx context.Context, f facts, to string) (action, why string) {
	switch m := f.marker; {
	case f.current() && m == nil:
		if f.left {
			return ActRelease, "an earlier run upgraded it and did not see the end"
		}

		if r.kube != nil {
			if node, found, err := r.kube.Node(ctx, f.k8sName); err == nil && found && node.CordonedFor(r.o.Reason) {
				return ActRelease, "an earlier run left it cordoned"
			}
		}

		return ActSkip, "it runs " + f.version.Tag + " already"
	case m != nil && m.Phase == markerInstalled && m.Target == f.target():
		return ActReboot, m.Target + " is installed and waits for its reboot"
	case m != nil && m.Phase == markerInstalling:
		return ActSettle, "an install of " + m.Target + " began and its end was not seen"
	default:
		return ActUpgrade, "it runs " + f.version.Tag + ", " + to + " is wanted"
	}
}

// gateImages asks the registries, once an image. One that does not answer us may answer the node, which has
// credentials, mirrors and a network of its own.
func (p *planner) gateImages(ctx context.Context, n *NodePlan) []gate.Verdict {
	if p.fleet.Image == nil {
		return nil
	}

	var out []gate.Verdict

	for i := range n.Hops {
		h := &n.Hops[i]

		var err error

		h.Digest, err = p.digests.get(h.Image, func() (string, error) { return p.fleet.Image(ctx, h.Image) })

		switch {
		case err == nil:
			out = append(out, gate.New(gate.ImageMissing, gate.Pass, n.Node, "%s exists", h.Image))
		case errors.Is(err, registry.ErrNotFound):
			out = append(out, gate.New(gate.ImageMissing, gate.Refuse, n.Node, "%s does not exist", h.Image).
				WithRemedy("is the version published? name another image with --image"))
		case errors.Is(err, registry.ErrUnauthorised):
			out = append(out, gate.New(gate.ImageMissing, gate.Warn, n.Node, "the registry of %s does not let us look; the node may have credentials of its own", h.Image))
		default:
			out = append(out, gate.New(gate.ImageMissing, gate.Warn, n.Node, "the registry of %s cannot be reached from here; the node's own pull will tell", h.Image))
		}
	}

	return out
}
