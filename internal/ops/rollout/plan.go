package rollout

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Request is what is wanted of a cluster's upgrade: what a plan is made of, in addition to the cluster.
type Request struct {
	To          string   `json:"to,omitempty"`     // The version, when each node keeps its own image.
	Image       string   `json:"image,omitempty"`  // The image, when all nodes get the same.
	Via         []string `json:"via,omitempty"`    // The versions to go by, where the path needs some.
	MaxParallel string   `json:"max_parallel"`     // How many workers at once: a number or a percentage.
	Canary      string   `json:"canary,omitempty"` // The node that is upgraded first.
	SkipDrain   bool     `json:"skip_drain"`       // Neither cordon nor drain.
	InstallOnly bool     `json:"install_only"`     // Install and do not reboot.
	RebootOnly  bool     `json:"reboot_only"`      // Only reboot what was installed before.
	AllNodes    bool     `json:"all_nodes"`        // Whether the whole cluster was asked for: a node that has joined since makes the plan differ.
	Nodes       []string `json:"nodes"`            // The addresses of the nodes; never null.
}

// Hop is one step of a node.
type Hop struct {
	From   string `json:"from"`             // The version before.
	To     string `json:"to"`               // And after.
	API    string `json:"api"`              // The upgrade API: lifecycle or legacy.
	Image  string `json:"image"`            // The installer; empty when it is not known.
	Digest string `json:"digest,omitempty"` // Its digest, where the registry was asked and answered.
}

// ActUnknown stands for a node that could not be asked: nothing is planned for it.
const ActUnknown = "unknown"

// NodePlan is what will be done to one node.
type NodePlan struct {
	talos.NodeRef

	Order             int            `json:"order"`               // Its place, from 1; 0 when it is skipped.
	Role              string         `json:"role"`                // controlplane or worker.
	EtcdLeader        bool           `json:"etcd_leader"`         // Whether its etcd member leads now: it is upgraded last of the control planes.
	Action            string         `json:"action"`              // upgrade, downgrade, reboot, settle, release, skip, or unknown for a node that could not be asked.
	Reason            string         `json:"reason"`              // Why that.
	From              string         `json:"from"`                // The version that runs.
	To                string         `json:"to"`                  // The version wanted.
	API               string         `json:"api"`                 // Its upgrade API now: lifecycle or legacy.
	Image             string         `json:"image"`               // The installer of the last hop; empty when it is not known.
	ImageUnreadable   bool           `json:"image_unreadable"`    // Whether the images are not known: the certificate may not read the machine configuration, which names the node's registry.
	Hops              []Hop          `json:"hops"`                // The way there; never null.
	Platform          string         `json:"platform"`            // The Talos platform.
	SecureBoot        bool           `json:"secure_boot"`         // Whether it boots with secure boot.
	Schematic         string         `json:"schematic"`           // The schematic that runs.
	SchematicTo       string         `json:"schematic_to"`        // The schematic of the image, empty when the image tells none.
	ExtensionsKept    []string       `json:"extensions_kept"`     // Extensions that stay; never null.
	ExtensionsLost    []string       `json:"extensions_lost"`     // Extensions that go; never null.
	ExtensionsAdded   []string       `json:"extensions_added"`    // Official extensions that come; never null.
	ExtensionsUnknown []string       `json:"extensions_unknown"`  // Extensions of which the image does not tell; never null.
	K8sNodeName       string         `json:"k8s_node_name"`       // The Kubernetes node, empty when it is not a member.
	Gates             []gate.Verdict `json:"gates"`               // What the gates said of it; never null.
	Blockers          []kube.Blocker `json:"disruption_blockers"` // The disruption budgets that hold its pods now; never null.
	Error             string         `json:"error,omitempty"`     // Why nothing is planned for it: it could not be asked.

	failure *errs.Error // The same, typed.
}

// Plan is what an upgrade of the cluster would do.
type Plan struct {
	Hash    string         `json:"hash"`    // Of everything in the plan but the gates, budgets and impact; `upgrade apply` refuses a plan that does not match it.
	Cluster string         `json:"cluster"` // The talosconfig context.
	Request Request        `json:"request"` // What was asked for.
	To      string         `json:"to"`      // The version wanted.
	Refused bool           `json:"refused"` // Whether a gate refuses.
	Work    int            `json:"work"`    // How many nodes have something to be done.
	Workers int            `json:"workers"` // How many workers at once.
	Nodes   []NodePlan     `json:"nodes"`   // In the order of the work, those to skip at the end; never null.
	Gates   []gate.Verdict `json:"gates"`   // What the gates said of the cluster; never null.
	Impact  []Impact       `json:"impact"`  // The facts of the releases on the way that apply, or are unknown; never null.
}

// MakePlan looks at everything and changes nothing. A gate that refuses is in the plan and in the error; the plan is
// whole all the same. Nodes that cannot be asked are in the plan as such and in the error; if none can, the plan has no
// nodes. One that is about to be run (c.AwaitUnderway) is refused without nodes when somebody else holds the lock.
func MakePlan(ctx context.Context, c *Cluster, r Request, overrides gate.Overrides) (Plan, error) {
	p := Plan{Cluster: c.Name, Request: r, To: r.To, Nodes: []NodePlan{}, Gates: []gate.Verdict{}, Impact: []Impact{}}
	targets, err := c.targets(r)
	if err != nil {
		return p, err
	}

	if p.Request.Nodes, p.To, err = named(targets, r); err != nil {
		return p, err
	}

	workers := 0

	for _, t := range targets {
		if !c.isControlPlane(t) {
			workers++
		}
	}

	if p.Workers, err = Parallel(r.MaxParallel, workers); err != nil {
		return p, err
	}

	if c.AwaitUnderway > 0 {
		// Whoever is at work takes nodes away under our eyes: nothing else would explain what we see.
		if v := clusterlock.Gate(ctx, c.Kube, c.Holder, c.Now()); v.Verdict == gate.Refuse && !overrides.Has(gate.LockHeld) {
			p.Gates = append(p.Gates, v)

			return p, p.settle(overrides)
		}
	}

	leader, err := c.leader(ctx)
	if err != nil {
		return p, err
	}

	planner := &planner{cluster: c, request: r, to: p.To, overrides: overrides}

	nodes, err := planner.nodes(ctx, targets)
	if err != nil {
		return p, err
	}

	p.Nodes = nodes

	if unplanned := p.unplanned(); unplanned != nil && unplanned.Succeeded == 0 {
		p.Nodes = []NodePlan{}

		return p, unplanned
	}

	for i := range p.Nodes {
		p.Nodes[i].EtcdLeader = leader != "" && p.Nodes[i].Node == leader
	}

	if err = p.order(c, r.Canary); err != nil {
		p.Nodes = nil

		return p, err
	}

	if r.AllNodes {
		p.Gates = append(p.Gates, c.gateDiscovery(ctx))
	}

	if err = p.judgeImpact(ctx, c); err != nil {
		return p, err
	}

	p.Gates = append(p.Gates, c.gateColdBoot(ctx)...)
	p.Gates = append(p.Gates, c.GateHeld(ctx, slices.ContainsFunc(p.Nodes, func(n NodePlan) bool { return n.K8sNodeName != "" })), upgrade.GateClient(c.Expires, c.Now(), p.turns(), ""))
	p.Hash = p.hash()

	err = p.settle(overrides)
	if unplanned := p.unplanned(); unplanned != nil {
		err = errors.Join(err, unplanned)
	}

	return p, err
}

// unplanned is the error of the nodes that could not be asked, nil for none.
func (p *Plan) unplanned() *errs.Nodes {
	out := &errs.Nodes{}

	for _, n := range p.Nodes {
		if n.failure != nil {
			out.Errors = append(out.Errors, n.failure)
		} else {
			out.Succeeded++
		}
	}

	if len(out.Errors) == 0 {
		return nil
	}

	return out
}

// MakeWholePlan is MakePlan for a run without a plan that somebody reviewed: a node that cannot be asked is an error, and
// then the plan has no nodes.
func MakeWholePlan(ctx context.Context, c *Cluster, r Request, overrides gate.Overrides) (Plan, error) {
	p, err := MakePlan(ctx, c, r, overrides)

	return p.whole(err, func(NodePlan) bool { return false })
}

// whole turns a plan that leaves out nodes into an error, unless they are known to be left out.
func (p *Plan) whole(err error, known func(NodePlan) bool) (Plan, error) {
	out := &errs.Nodes{}

	for _, n := range p.Nodes {
		if n.failure != nil && !known(n) {
			failure := *n.failure
			out.Errors = append(out.Errors, failure.WithHint(
				"bring the node back, name the nodes to upgrade with -n, or apply a plan file that says the node is left out"))
		}
	}

	if len(out.Errors) == 0 {
		return *p, err
	}

	return Plan{Cluster: p.Cluster, Request: p.Request, To: p.To, Nodes: []NodePlan{}, Gates: []gate.Verdict{}, Impact: []Impact{}}, out
}

// works reports whether there is something to do on the node.
func (n NodePlan) works() bool { return n.Action != upgrade.ActSkip && n.Action != ActUnknown }

// settle applies the overrides and reports whether the plan may be run.
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

func (c *Cluster) targets(r Request) ([]talos.Target, error) {
	var out []talos.Target

	if len(r.Nodes) == 0 {
		out = lists.Map(c.Members, talos.Member.Target)
	}

	for _, name := range r.Nodes {
		m, err := c.member(name)
		if err != nil {
			return nil, err
		}

		out = append(out, m.Target())
	}

	return target.Sort(out), nil
}

// named gives the addresses and the version wanted.
func named(targets []talos.Target, r Request) ([]string, string, error) {
	nodes := lists.Map(targets, func(t talos.Target) string { return t.Address })

	switch {
	case (r.To == "") == (r.Image == ""):
		return nil, "", errs.Usagef("say where to: either --to VERSION or --image REFERENCE")
	case r.To != "":
		if !release.Same(r.To, r.To) {
			return nil, "", errs.Usagef("%q is not a version", r.To).WithHint("for example --to v1.14.1")
		}

		return nodes, "v" + strings.TrimPrefix(r.To, "v"), nil
	}

	image, err := registry.ParseInstaller(r.Image)
	if err != nil {
		return nil, "", err
	}

	return nodes, upgrade.Target(image), nil
}

// leader is the address of the node whose etcd member leads, empty when nobody knows.
func (c *Cluster) leader(ctx context.Context) (string, error) {
	view, err := c.Etcd(ctx)
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

// GateHeld checks whether somebody else is at work. kubernetes is whether any of the nodes is one of Kubernetes.
func (c *Cluster) GateHeld(ctx context.Context, kubernetes bool) gate.Verdict {
	if !kubernetes {
		return clusterlock.Without(c.Holder.Command)
	}

	return clusterlock.Gate(ctx, c.Kube, c.Holder, c.Now())
}

// order puts the canary first, then the control planes with the leader last, then the workers, and what is
// to be skipped at the end.
func (p *Plan) order(c *Cluster, canary string) error {
	first := ""

	if canary != "" {
		m, err := c.member(canary)
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
		case n.Action == ActUnknown:
			return 5
		case n.Action == upgrade.ActSkip:
			return 4
		case n.Node == first:
			return 0
		case n.Role == target.ControlPlane && !n.EtcdLeader:
			return 1
		case n.Role == target.ControlPlane:
			return 2
		default:
			return 3
		}
	}

	lists.Sort(p.Nodes, func(a, b NodePlan) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), target.CompareAddresses(a.Node, b.Node))
	})

	for i := range p.Nodes {
		if p.Nodes[i].works() {
			p.Work++
			p.Nodes[i].Order = p.Work
		}
	}

	return nil
}

// hash is over the format and everything in the plan but what is of the moment: what the gates say, which
// budgets hold and what releases change is looked at again when it is run.
func (p *Plan) hash() string {
	core := *p
	core.Hash, core.Refused, core.Gates, core.Impact, core.Nodes = "", false, nil, nil, slices.Clone(p.Nodes)

	for i := range core.Nodes {
		core.Nodes[i].Gates, core.Nodes[i].Blockers, core.Nodes[i].Error = nil, nil, ""
	}

	raw, err := json.Marshal(struct {
		Schema string
		Plan   Plan
	}{PlanSchema, core})
	if err != nil {
		return "" // strings and numbers only: it does not fail
	}

	sum := sha256.Sum256(raw)

	return hex.EncodeToString(sum[:])
}
