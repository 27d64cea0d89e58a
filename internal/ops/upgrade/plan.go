package upgrade

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos"
)

// Request is what is wanted of a cluster's upgrade: what a plan is made of, besides the cluster.
type Request struct {
	To          string   `json:"to,omitempty"`     // The version, when each node keeps its own image.
	Image       string   `json:"image,omitempty"`  // The image, when all nodes get the same.
	Via         []string `json:"via,omitempty"`    // The versions to go by, where the path needs some.
	MaxParallel string   `json:"max_parallel"`     // How many workers at once: a number or a percentage.
	Canary      string   `json:"canary,omitempty"` // The node that goes first.
	SkipDrain   bool     `json:"skip_drain"`       // Neither cordon nor drain.
	InstallOnly bool     `json:"install_only"`     // Install and do not reboot.
	RebootOnly  bool     `json:"reboot_only"`      // Only reboot what was installed before.
	Nodes       []string `json:"nodes"`            // The addresses of the nodes; never null.
}

// Actions of a plan.
const (
	ActUpgrade = "upgrade" // Everything.
	ActReboot  = "reboot"  // An earlier run installed it: only the reboot is left.
	ActSettle  = "settle"  // The end of an install was not seen: reboot, look, and install if need be.
	ActRelease = "release" // It runs the target, and something of an earlier run is left on it.
	ActSkip    = "skip"    // There is nothing to do.
)

// Hop is one step of a node.
type Hop struct {
	From   string `json:"from"`             // The version before.
	To     string `json:"to"`               // And after.
	API    string `json:"api"`              // The upgrade API: lifecycle or legacy.
	Image  string `json:"image"`            // The installer.
	Digest string `json:"digest,omitempty"` // Its digest, where the registry was asked and answered.
}

// NodePlan is what will be done to one node.
type NodePlan struct {
	talos.NodeRef

	Order             int            `json:"order"`               // Its place, from 1; 0 when it is skipped.
	Role              string         `json:"role"`                // controlplane or worker.
	EtcdLeader        bool           `json:"etcd_leader"`         // Whether its etcd member leads now: it goes last of the control planes.
	Action            string         `json:"action"`              // upgrade, reboot, settle, release or skip.
	Reason            string         `json:"reason"`              // Why that.
	From              string         `json:"from"`                // The version that runs.
	To                string         `json:"to"`                  // The version wanted.
	API               string         `json:"api"`                 // Its upgrade API now: lifecycle or legacy.
	Image             string         `json:"image"`               // The installer of the last hop.
	Hops              []Hop          `json:"hops"`                // The way there; never null.
	Platform          string         `json:"platform"`            // The Talos platform.
	SecureBoot        bool           `json:"secure_boot"`         // Whether it boots with secure boot.
	Schematic         string         `json:"schematic"`           // The schematic that runs.
	SchematicTo       string         `json:"schematic_to"`        // The schematic of the image, empty when the image tells none.
	ExtensionsKept    []string       `json:"extensions_kept"`     // Extensions that stay; never null.
	ExtensionsLost    []string       `json:"extensions_lost"`     // Extensions that go; never null.
	ExtensionsUnknown []string       `json:"extensions_unknown"`  // Extensions of which the image does not tell; never null.
	K8sNodeName       string         `json:"k8s_node_name"`       // The Kubernetes node, empty when it is no member.
	Gates             []gate.Verdict `json:"gates"`               // What the gates said of it; never null.
	Blockers          []kube.Blocker `json:"disruption_blockers"` // The disruption budgets that hold its pods now; never null.
}

// Plan is what an upgrade of the cluster would do.
type Plan struct {
	Hash    string         `json:"hash"`    // Of the request and of the nodes as they were; the same cluster gives the same.
	Cluster string         `json:"cluster"` // The talosconfig context.
	Request Request        `json:"request"` // What was asked for.
	To      string         `json:"to"`      // The version wanted.
	Refused bool           `json:"refused"` // Whether a gate refuses.
	Work    int            `json:"work"`    // How many nodes have something to be done.
	Workers int            `json:"workers"` // How many workers at once.
	Nodes   []NodePlan     `json:"nodes"`   // In the order of the work, those to skip at the end; never null.
	Gates   []gate.Verdict `json:"gates"`   // What the gates said of the cluster; never null.
}

// lookConcurrency is how many nodes are looked at at once.
const lookConcurrency = 8

// MakePlan looks at everything and changes nothing. A gate that refuses is in the plan and in the error; the
// plan is whole all the same. A node that cannot be looked at is an error, and then the plan has no nodes. One that is
// about to be run (f.AwaitUnderway) is refused without nodes when somebody else holds the lock.
func MakePlan(ctx context.Context, f *Fleet, r Request, overrides gate.Overrides) (Plan, error) {
	p := Plan{Cluster: f.Name, Request: r, To: r.To, Nodes: []NodePlan{}, Gates: []gate.Verdict{}}
	targets, err := f.targets(r)
	if err != nil {
		return p, err
	}

	if p.Request.Nodes, p.To, err = named(targets, r); err != nil {
		return p, err
	}

	workers := 0

	for _, t := range targets {
		if !f.isControlPlane(t) {
			workers++
		}
	}

	if p.Workers, err = parallel(r.MaxParallel, workers); err != nil {
		return p, err
	}

	if f.AwaitUnderway > 0 {
		// Whoever is at work takes nodes away under our eyes: nothing else would explain what we see.
		if v := f.gateHeldNow(ctx); v.Verdict == gate.Refuse && !overrides.Has(gate.LockHeld) {
			p.Gates = append(p.Gates, v)

			return p, p.settle(overrides)
		}
	}

	leader, err := f.leader(ctx)
	if err != nil {
		return p, err
	}

	planner := &planner{fleet: f, request: r, to: p.To, overrides: overrides, images: map[string]imageAnswer{}}

	nodes, err := planner.nodes(ctx, targets)
	if err != nil {
		return p, err // without its nodes: half a plan must never pass for a whole one
	}

	p.Nodes = nodes

	for i := range p.Nodes {
		p.Nodes[i].EtcdLeader = leader != "" && p.Nodes[i].Node == leader
	}

	if err = p.order(f, r.Canary); err != nil {
		p.Nodes = nil

		return p, err
	}

	p.Gates = append(p.Gates, f.gateHeld(ctx, p.Nodes))
	p.Hash = p.hash()

	return p, p.settle(overrides)
}

// settle applies the overrides and says whether the plan may be run.
func (p *Plan) settle(overrides gate.Overrides) error {
	refused := gate.Apply(p.Gates, overrides)

	for i := range p.Nodes {
		if err := gate.Apply(p.Nodes[i].Gates, overrides); err != nil {
			refused = errors.Join(refused, err)
		}
	}

	p.Refused = refused != nil

	return refused
}

func (f *Fleet) targets(r Request) ([]talos.Target, error) {
	var out []talos.Target

	if len(r.Nodes) == 0 {
		for _, m := range f.Members {
			out = append(out, m.Target())
		}
	}

	for _, name := range r.Nodes {
		m, err := f.member(name)
		if err != nil {
			return nil, err
		}

		out = append(out, m.Target())
	}

	slices.SortFunc(out, func(a, b talos.Target) int { return talos.CompareAddresses(a.Address, b.Address) })

	return slices.CompactFunc(out, func(a, b talos.Target) bool { return a.Address == b.Address }), nil
}

// named gives the addresses and the version wanted.
func named(targets []talos.Target, r Request) ([]string, string, error) {
	nodes := []string{}
	for _, t := range targets {
		nodes = append(nodes, t.Address)
	}

	switch {
	case (r.To == "") == (r.Image == ""):
		return nil, "", errs.Usagef("say where to: either --to VERSION or --image REFERENCE")
	case r.To != "":
		if !talos.SameVersion(r.To, r.To) {
			return nil, "", errs.Usagef("%q is no version", r.To).WithHint("for example --to v1.13.9")
		}

		return nodes, "v" + strings.TrimPrefix(r.To, "v"), nil
	}

	image, err := registry.ParseInstaller(r.Image)
	if err != nil {
		return nil, "", err
	}

	return nodes, facts{image: image}.target(), nil
}

// leader is the address of the node whose etcd member leads, empty when nobody knows.
func (f *Fleet) leader(ctx context.Context) (string, error) {
	view, err := f.Etcd(ctx)
	if err != nil {
		return "", err
	}

	return leaderOf(view), nil
}

func leaderOf(view etcd.View) string {
	for _, m := range view.Members {
		if m.ID == view.Leader && view.Leader != "" {
			return m.Node
		}
	}

	return ""
}

// gateHeld looks whether somebody else is at work.
func (f *Fleet) gateHeld(ctx context.Context, nodes []NodePlan) gate.Verdict {
	if !slices.ContainsFunc(nodes, func(n NodePlan) bool { return n.K8sNodeName != "" }) {
		return gate.New(gate.LockHeld, gate.Skip, "", "the cluster has no Kubernetes, and without it there is no lock: run one upgrade at a time")
	}

	return f.gateHeldNow(ctx)
}

func (f *Fleet) gateHeldNow(ctx context.Context) gate.Verdict {
	reader, err := f.lockReader(ctx)
	if err != nil {
		return gate.New(gate.LockHeld, gate.Skip, "", "there is no lock to look at: the Kubernetes API cannot be reached")
	}

	state, err := reader.ReadLock(ctx, f.Now())

	switch {
	case err != nil:
		return gate.New(gate.LockHeld, gate.Warn, "", "%v", err)
	case state.Abandoned(f.Holder):
		return gate.New(gate.LockHeld, gate.Pass, "", "a run of yours on this machine was killed and left the cluster's lock: it is free")
	case state.Held:
		return gate.New(gate.LockHeld, gate.Refuse, "", "%v", &kube.HeldError{State: state}).WithRemedy("wait for %s", state.Holder)
	default:
		return gate.New(gate.LockHeld, gate.Pass, "", "nobody holds the cluster's lock")
	}
}

// order puts the canary first, then the control planes with the leader last, then the workers, and what is
// to be skipped at the end.
func (p *Plan) order(f *Fleet, canary string) error {
	first := ""

	if canary != "" {
		m, err := f.member(canary)
		if err != nil {
			return err
		}

		first = m.Node

		if !slices.Contains(p.Request.Nodes, first) {
			return errs.Usagef("the canary %s is not among the nodes to upgrade", canary)
		}
	}

	rank := func(n NodePlan) int {
		switch {
		case n.Action == ActSkip:
			return 4
		case n.Node == first:
			return 0
		case n.Role == talos.ControlPlane && !n.EtcdLeader:
			return 1
		case n.Role == talos.ControlPlane:
			return 2
		default:
			return 3
		}
	}

	slices.SortStableFunc(p.Nodes, func(a, b NodePlan) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), talos.CompareAddresses(a.Node, b.Node))
	})

	for i := range p.Nodes {
		if p.Nodes[i].Action != ActSkip {
			p.Work++
			p.Nodes[i].Order = p.Work
		}
	}

	return nil
}

// hash is over what the plan rests on. Who leads etcd, what the gates say and which budgets hold are of the
// moment and looked at again when it is run.
func (p *Plan) hash() string {
	type node struct{ Address, Hostname, Role, From, To, Image, Schematic, Platform string }

	type core struct {
		Cluster string
		Request Request
		Nodes   []node
	}

	c := core{Cluster: p.Cluster, Request: p.Request}

	for _, n := range p.Nodes {
		c.Nodes = append(c.Nodes, node{n.Node, n.Hostname, n.Role, n.From, n.To, n.Image, n.Schematic, n.Platform})
	}

	slices.SortFunc(c.Nodes, func(a, b node) int { return talos.CompareAddresses(a.Address, b.Address) })

	raw, err := json.Marshal(c)
	if err != nil {
		return "" // strings only: it does not fail
	}

	sum := sha256.Sum256(raw)

	return hex.EncodeToString(sum[:])
}

// planner plans nodes side by side.
type planner struct {
	fleet     *Fleet
	request   Request
	to        string
	overrides gate.Overrides

	mu       sync.Mutex
	images   map[string]imageAnswer
	releases []string
	asked    bool
}

type imageAnswer struct {
	digest string
	err    error
}

func (p *planner) nodes(ctx context.Context, targets []talos.Target) ([]NodePlan, error) {
	out := make([]NodePlan, len(targets))
	failed := make([]error, len(targets))

	if p.fleet.AwaitUnderway > 0 {
		sideBySide(targets, func(_ int, t talos.Target) { p.arrive(ctx, t) })
	}

	sideBySide(targets, func(i int, t talos.Target) { out[i], failed[i] = p.node(ctx, t) })

	return out, nodeErrors(ctx, targets, failed)
}

func sideBySide(targets []talos.Target, do func(int, talos.Target)) {
	slots := make(chan struct{}, lookConcurrency)

	var wg sync.WaitGroup

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
		Role: "worker", To: p.to, Hops: []Hop{}, ExtensionsKept: []string{}, ExtensionsLost: []string{}, ExtensionsUnknown: []string{},
		Gates: []gate.Verdict{}, Blockers: []kube.Blocker{},
	}
	n.SetNode(t)

	if w.ControlPlane {
		n.Role = talos.ControlPlane
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
	installed, err := w.Read.InstallImage(ctx)
	if err != nil {
		installed = "" // only its registry is not known then; the gates hold what the image is against the node
	}

	steps := []string{p.to}

	if p.to == "" {
		steps = []string{n.From} // the image names no version: TM130 says so
	} else if !talos.SameVersion(n.From, p.to) {
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
			image, err := imageFor(firstOf(p.request.Image, installed), system, n.Platform, to)
			if err != nil {
				return err
			}

			ref = image.String()
		}

		n.Hops = append(n.Hops, Hop{From: from, To: to, API: talos.UpgradeAPI(from), Image: ref})
		n.Image, from = ref, to
	}

	return nil
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}

	return b
}

// stops are the releases that the path may go by.
func (p *planner) stops(ctx context.Context, from string) []string {
	if len(p.request.Via) > 0 {
		return p.request.Via
	}

	if direct, err := talos.UpgradePath(from, p.to); err != nil || direct.Supported || p.fleet.Releases == nil {
		return nil
	}

	p.mu.Lock()
	defer p.mu.Unlock()

	if !p.asked {
		p.asked = true
		// Without an answer the gate says that there is no way, and its remedy how to name one.
		p.releases, _ = p.fleet.Releases(ctx)
	}

	return p.releases
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
	n.compareExtensions(f)

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
		later.image, _ = registry.ParseInstaller(hop.Image) // it was composed by this very package
		n.Gates = append(n.Gates, r.gateKubernetesRange(later))
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

func (n *NodePlan) compareExtensions(f facts) {
	had := extensionNames(f.system.Extensions)
	n.SchematicTo = f.image.Schematic

	switch {
	case f.image.Schematic != "" && f.image.Schematic == f.system.Schematic:
		n.ExtensionsKept = had
	case isStock(f.image), f.image.Schematic == registry.EmptySchematic:
		n.ExtensionsLost = had
	default:
		n.ExtensionsUnknown = had
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
		answer := p.image(ctx, h.Image)
		h.Digest = answer.digest

		switch {
		case answer.err == nil:
			out = append(out, gate.New(gate.ImageMissing, gate.Pass, n.Node, "%s exists", h.Image))
		case errors.Is(answer.err, registry.ErrNotFound):
			out = append(out, gate.New(gate.ImageMissing, gate.Refuse, n.Node, "%s does not exist", h.Image).
				WithRemedy("is the version published? name another image with --image"))
		case errors.Is(answer.err, registry.ErrUnauthorised):
			out = append(out, gate.New(gate.ImageMissing, gate.Warn, n.Node, "the registry of %s does not let us look; the node may have credentials of its own", h.Image))
		default:
			out = append(out, gate.New(gate.ImageMissing, gate.Warn, n.Node, "the registry of %s cannot be reached from here; the node's own pull will tell", h.Image))
		}
	}

	return out
}

func (p *planner) image(ctx context.Context, ref string) imageAnswer {
	p.mu.Lock()
	defer p.mu.Unlock()

	answer, known := p.images[ref]
	if !known {
		answer.digest, answer.err = p.fleet.Image(ctx, ref)
		p.images[ref] = answer
	}

	return answer
}

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
