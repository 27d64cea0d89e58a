package configrollout

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// PlanSchema is the format of a plan.
const PlanSchema = "talosmate/v1/MachineConfigRolloutPlan"

// What is done to a node.
const (
	ActNone    = "unchanged" // It has the configuration.
	ActApply   = "apply"     // Without a reboot.
	ActTry     = "try"       // Tried first, and kept once the node was seen again.
	ActConfirm = "confirm"   // It is on trial on the node already.
	ActVerify  = "verify"    // An earlier run has sent it, and not verified the node.
	ActReboot  = "reboot"    // Staged, and rebooted into.
	ActUnknown = "unknown"   // The node could not be asked.
)

// Who made a difference.
const (
	ByFile    = "file"        // The file was changed since it was applied last.
	ByNode    = "node"        // The node was changed since, by somebody else: applying the file undoes that.
	ByBoth    = "both"        // Both were.
	ByUpgrade = "upgrade_k8s" // The node was, as an upgrade of Kubernetes does it.
	ByUnknown = "unknown"     // Nothing is known to have been applied from this machine.
)

// Request is what a plan is made of, in addition to the files and the cluster.
type Request struct {
	Directory   string   `json:"directory"`        // The directory of the configurations.
	MaxParallel string   `json:"max_parallel"`     // How many workers at once: a number or a percentage.
	Canary      string   `json:"canary,omitempty"` // The node that is first.
	AllNodes    bool     `json:"all_nodes"`        // Whether all nodes were asked for that have a file.
	Nodes       []string `json:"nodes"`            // The addresses of the nodes; never null.
}

// Change is a difference between a node and its file.
type Change struct {
	machineconfig.Change

	Risk string `json:"risk,omitempty"` // How it can make the node unreachable: network, certificates, or unknown for a document that this program does not know.
	By   string `json:"by"`             // Who made it: file, node, both, upgrade_k8s, or unknown without a record of what was applied last.
}

// NodePlan is what will be done to one node.
type NodePlan struct {
	talos.NodeRef

	Order       int            `json:"order"`                // Its place, from 1; 0 when nothing is done.
	Role        string         `json:"role"`                 // controlplane or worker.
	File        string         `json:"file"`                 // Its file in the directory.
	SHA256      string         `json:"sha256"`               // Of the file.
	NodeSHA256  string         `json:"node_sha256"`          // Of the configuration that the node runs with.
	Action      string         `json:"action"`               // unchanged, apply, try, confirm, verify, reboot, or unknown for a node that could not be asked.
	Renamed     string         `json:"renamed_to,omitempty"` // The hostname that the node would get.
	K8sNodeName string         `json:"k8s_node_name"`        // The Kubernetes node, empty when it is not a member.
	Changes     []Change       `json:"changes"`              // What leads from the node's configuration to the file; never null.
	Drift       []Change       `json:"drift"`                // How the node differs from what was applied last; never null.
	Recorded    bool           `json:"recorded"`             // Whether it is known what was applied last.
	Warnings    []string       `json:"warnings"`             // What the validator or the node found doubtful; never null.
	Gates       []gate.Verdict `json:"gates"`                // What the gates said of it; never null.
	Error       string         `json:"error,omitempty"`      // Why nothing is planned for it.

	failure *errs.Error
	source  source
}

// Plan is what a rollout would do.
type Plan struct {
	Hash      string         `json:"hash"`      // Of everything in the plan but the gates; `apply --plan` refuses a plan that does not match it.
	Cluster   string         `json:"cluster"`   // The talosconfig context.
	Request   Request        `json:"request"`   // What was asked for.
	Refused   bool           `json:"refused"`   // Whether a gate refuses.
	Work      int            `json:"work"`      // How many nodes have something to be done.
	Workers   int            `json:"workers"`   // How many workers at once.
	Nodes     []NodePlan     `json:"nodes"`     // In the order of the work, those without any at the end; never null.
	Unmatched []string       `json:"unmatched"` // Files of which no member is the owner; never null.
	Without   []string       `json:"without"`   // Members without a file; never null.
	Gates     []gate.Verdict `json:"gates"`     // What the gates said of the cluster; never null.
}

// Planner makes plans.
type Planner struct {
	Cluster *rollout.Cluster
	Store   machineconfig.Backups // What was applied last, and runs that were broken off; without a directory nothing is known.
	Files   Files

	Overrides gate.Overrides
}

// Make looks at everything and changes nothing. A gate that refuses is in the plan and in the error, and so are nodes that
// cannot be asked; the plan is whole all the same.
func (p Planner) Make(ctx context.Context, r Request) (Plan, error) {
	out := Plan{Cluster: p.Cluster.Name, Request: r, Nodes: []NodePlan{}, Unmatched: []string{}, Without: []string{}, Gates: []gate.Verdict{}}

	sources, unmatched, err := p.Files.match(p.Cluster.Members)
	if err != nil {
		return out, err
	}

	out.Unmatched = unmatched

	targets, err := p.targets(r, sources, &out)
	if err != nil {
		return out, err
	}

	out.Request.Nodes = lists.Map(targets, func(t talos.Target) string { return t.Address })
	workers := lists.Filter(targets, func(t talos.Target) bool { return !target.IsControlPlane(p.Cluster.Members, t) })

	if out.Workers, err = rollout.Parallel(r.MaxParallel, len(workers)); err != nil {
		return out, err
	}

	if out.Nodes, err = p.nodes(ctx, targets, sources); err != nil {
		return out, err
	}

	if err = out.order(r.Canary); err != nil {
		return out, err
	}

	out.Gates = append(out.Gates, p.Cluster.GateHeld(ctx, slices.ContainsFunc(out.Nodes, func(n NodePlan) bool { return n.K8sNodeName != "" })))
	out.Hash = out.hash()

	return out, errors.Join(out.settle(p.Overrides), out.failed(true))
}

// targets are the nodes of the plan: those asked for, or all that have a file.
func (p Planner) targets(r Request, sources map[string]source, out *Plan) ([]talos.Target, error) {
	var targets []talos.Target

	for _, m := range p.Cluster.Members {
		_, has := sources[m.Node]

		switch wanted := len(r.Nodes) > 0 && slices.ContainsFunc(r.Nodes, m.Target().Has); {
		case wanted && !has && !r.AllNodes:
			return nil, errs.Usagef("%s has no configuration for %s", r.Directory, m.NodeName()).
				WithHint("name the file %s.yaml, or say in %s which it is", m.NodeName(), MappingFile)
		case wanted && has, has && len(r.Nodes) == 0:
			targets = append(targets, m.Target())
		case !has:
			out.Without = append(out.Without, m.NodeName())
		}
	}

	if len(targets) == 0 {
		return nil, errs.Usagef("%s has no configuration of a node of this cluster", r.Directory).
			WithHint("files are named after the node (worker-1.yaml), its address, or CLUSTER-NODE.yaml; otherwise %s says whose they are", MappingFile)
	}

	return target.Sort(targets), nil
}

// nodes plans nodes side by side. A configuration that is not valid is an error of the whole.
func (p Planner) nodes(ctx context.Context, targets []talos.Target, sources map[string]source) ([]NodePlan, error) {
	out, failed := make([]NodePlan, len(targets)), make([]error, len(targets))

	rollout.SideBySide(targets, func(i int, t talos.Target) {
		failed[i] = errs.Safely(func() error { return p.node(ctx, t, sources[t.Address], &out[i]) })
	})

	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}

	for i, err := range failed {
		switch {
		case err == nil:
		case errs.ExitCode(err) == errs.Usage:
			return nil, errs.Usagef("%s: %w", sources[targets[i].Address].file, err)
		default:
			out[i].failure = errs.Typed(err, targets[i].Address, targets[i].Hostname)
			out[i].Action, out[i].Error = ActUnknown, out[i].failure.Error()
		}
	}

	return out, nil
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)

	return hex.EncodeToString(sum[:])
}

// node plans one node.
func (p Planner) node(ctx context.Context, t talos.Target, from source, out *NodePlan) error {
	*out = NodePlan{
		Role: target.Worker, File: from.file, SHA256: digest(from.text), source: from,
		Changes: []Change{}, Drift: []Change{}, Warnings: []string{}, Gates: []gate.Verdict{},
	}
	out.SetNode(t)

	node := p.Cluster.Node(t)
	if node.ControlPlane {
		out.Role = target.ControlPlane
	}

	// What would be sent is judged by the gates, Talos's validator and the node itself.
	did, err := machineconfig.Apply(ctx, node, from.text, machineconfig.ApplyOptions{Mode: talos.ApplyAuto, DryRun: true, Overrides: p.Overrides}, progress.Discard{})
	if err != nil && did.Status != runbook.Refused {
		return err
	}

	out.Gates, out.Warnings = append(out.Gates, did.Gates...), append(out.Warnings, did.Warnings...)

	text, have, err := machineconfig.Running(ctx, node.Read, t)
	if err != nil {
		return err
	}

	if out.K8sNodeName, err = node.Read.KubernetesName(ctx); err != nil {
		return err
	}

	out.NodeSHA256 = digest(text)

	if err = p.compare(t, have, did.Changes, out); err != nil {
		return err
	}

	if name := from.config.Hostname(); name != "" && name != have.Hostname() {
		out.Renamed = name
	}

	risky := slices.ContainsFunc(out.Changes, func(c Change) bool { return c.Risk != "" })

	switch {
	case did.Status == runbook.Unchanged:
		out.Action = ActNone

		var rec record

		found, err := p.Store.Read(t, recordName, &rec)
		if found && (rec.Action == ActReboot || rec.Sent == string(from.text) && rec.Action != ActTry) {
			out.Action = ActVerify
		}

		return err
	case did.Status == runbook.Refused && len(out.Changes) == 0: // it is not a whole configuration
		out.Action = ActUnknown

		return nil
	case len(out.Changes) == 0:
		out.Action = ActConfirm
	case did.RebootNeeded:
		out.Action = ActReboot

		if risky {
			out.Gates = append(out.Gates, gate.New(gate.CannotBeTried, gate.Refuse, t.Address, "%s, and the change needs a reboot, so that the node would not revert it", out.risks()).
				WithRemedy("make the changes that need a reboot and those of the network in two rollouts"))
		}
	case risky:
		out.Action = ActTry
	default:
		out.Action = ActApply
	}

	out.Gates = append(out.Gates, out.gateVersions())

	selectors, err := gateSelectors(ctx, node.Read, t.Address, from.config)
	out.Gates = append(out.Gates, selectors)

	return err
}

// risks names what of the changes can make the node unreachable.
func (n NodePlan) risks() string {
	var paths []string

	for _, c := range n.Changes {
		if c.Risk != "" {
			paths = append(paths, c.Document+" "+c.Path)
		}
	}

	return lists.First(paths, 3) + " can cut the node off"
}

// compare is the comparison of three: the file, what was applied last, and the node.
func (p Planner) compare(t talos.Target, have machineconfig.Config, changes []machineconfig.Change, out *NodePlan) error {
	var (
		last          lastApplied
		drifted, file map[string]bool
	)

	found, err := p.Store.Read(t, appliedName, &last)
	if err != nil {
		return err
	}

	if cfg, err := machineconfig.Parse([]byte(last.Text)); found && err == nil {
		drift := machineconfig.Diff(cfg, have, false)
		out.Recorded, drifted, file = true, paths(drift), paths(machineconfig.Diff(cfg, out.source.config, false))

		for _, c := range drift {
			out.Drift = append(out.Drift, Change{Change: c, Risk: c.Risk(), By: drifter(c)})
		}
	}

	for _, c := range changes {
		by := ByUnknown

		switch at := key(c); {
		case !out.Recorded:
		case drifted[at] && file[at]:
			by = ByBoth
		case drifted[at]:
			by = drifter(c)
		default:
			by = ByFile
		}

		out.Changes = append(out.Changes, Change{Change: c, Risk: c.Risk(), By: by})
	}

	return nil
}

func key(c machineconfig.Change) string { return c.Document + " " + c.Path }

func paths(changes []machineconfig.Change) map[string]bool {
	out := map[string]bool{}
	for _, c := range changes {
		out[key(c)] = true
	}

	return out
}

func drifter(c machineconfig.Change) string {
	if c.KubernetesImage() {
		return ByUpgrade
	}

	return ByNode
}

// gateVersions refuses a file that would take Kubernetes back to an older version than the node runs, which most often
// means that it was not brought up to date after an upgrade (TM154).
func (n NodePlan) gateVersions() gate.Verdict {
	for _, c := range n.Changes {
		from, to := imageref.Split(c.From).Tag, imageref.Split(c.To).Tag

		if c.KubernetesImage() && semver.IsValid(from) && semver.IsValid(to) && semver.Compare(to, from) < 0 {
			return gate.New(gate.Downgrade, gate.Refuse, n.Node, "%s has %s %s, and the file would take it back to %s", n.NodeName(), c.Document, c.Path+" "+from, to).
				WithRemedy("an upgrade of Kubernetes changes the configuration of the nodes: write the new version into the files")
		}
	}

	return gate.New(gate.Downgrade, gate.Pass, n.Node, "no version of Kubernetes goes down")
}

// order puts the canary first, then the control planes, then the workers.
func (p *Plan) order(canary string) error {
	is := func(n NodePlan) bool { return canary != "" && (n.Node == canary || n.Hostname == canary) }

	if canary != "" && !slices.ContainsFunc(p.Nodes, is) {
		return errs.Usagef("the canary %s is not among the nodes of the rollout", canary)
	}

	rank := func(n NodePlan) int {
		switch {
		case !n.works():
			return 3
		case is(n):
			return 0
		case n.Role == target.ControlPlane:
			return 1
		default:
			return 2
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

func (n NodePlan) works() bool { return n.Action != ActNone && n.Action != ActUnknown }

// settle applies the overrides and reports whether the plan may be run. Nodes with nothing to do keep nobody from it.
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

// failed is the error of the nodes that could not be asked, nil for none: a plan answers a question, and without them the
// answer is no. Of a rollout, to whose nodes nothing is sent then, it is the error of the whole.
func (p *Plan) failed(question bool) error {
	out := &errs.Nodes{Question: question}

	for _, n := range p.Nodes {
		switch {
		case n.failure == nil && question:
			out.Succeeded++
		case n.failure == nil:
		case question:
			out.Errors = append(out.Errors, n.failure)
		default:
			failure := *n.failure
			out.Errors = append(out.Errors, failure.WithHint("bring the node back, or name the nodes to change with -n"))
		}
	}

	if len(out.Errors) == 0 {
		return nil
	}

	return out
}

// hash is over everything in the plan but what the gates say, which are looked at again when it is run.
func (p *Plan) hash() string {
	core := *p
	core.Hash, core.Refused, core.Gates, core.Nodes = "", false, nil, slices.Clone(p.Nodes)

	for i := range core.Nodes {
		core.Nodes[i].Gates, core.Nodes[i].Error, core.Nodes[i].Warnings = nil, "", nil
	}

	raw, err := json.Marshal(core)
	if err != nil {
		return "" // strings and numbers only: it does not fail
	}

	return digest(append([]byte(PlanSchema), raw...))
}

// ReadPlan reads a plan file. One that was changed after it was made is an error.
func ReadPlan(raw []byte) (Plan, error) {
	p, name, err := rollout.DecodePlan[Plan](raw, PlanSchema)

	switch {
	case err != nil:
	case p.Hash == "" || len(p.Nodes) == 0:
		err = errors.New("it is not a plan")
	case name != "" && name != p.Cluster:
		err = fmt.Errorf("its context is %q, and its plan is for %q", name, p.Cluster)
	case p.hash() != p.Hash:
		err = fmt.Errorf("it was changed after it was made, or another release made it: its hash is %.12s, its content has %.12s", p.Hash, p.hash())
	}

	if err != nil {
		return Plan{}, errs.Usagef("cannot read the plan: %w", err).WithHint("make a new plan: talosmate machineconfig rollout plan DIR --out plan.json")
	}

	return p, nil
}

// Differs is the verdict on a plan that somebody reviewed against what would be done now. What was done of it since does not
// count, so that a plan may be run again.
func (p *Plan) Differs(now Plan) gate.Verdict {
	var out []string

	if p.Cluster != now.Cluster {
		out = append(out, fmt.Sprintf("the plan is for the cluster %s, this is %s", p.Cluster, now.Cluster))
	}

	a, b := p.Request, now.Request
	if a.Directory, a.Nodes = b.Directory, b.Nodes; !reflect.DeepEqual(a, b) || p.Workers != now.Workers {
		out = append(out, "the options differ")
	}

	for _, was := range p.Nodes {
		is, there := lists.Find(now.Nodes, func(n NodePlan) bool { return n.Node == was.Node })

		switch {
		case !there:
			out = append(out, was.NodeName()+" is not a member any more, or has no file")
		case was.SHA256 != is.SHA256:
			out = append(out, fmt.Sprintf("the file %s of %s was changed", is.File, was.NodeName()))
		case slices.Contains([]string{ActNone, ActConfirm, ActVerify}, is.Action), was.Action == ActUnknown && is.Action == ActUnknown:
		case was.NodeSHA256 != is.NodeSHA256:
			out = append(out, fmt.Sprintf("the configuration of %s was changed", was.NodeName()))
		case was.Action != is.Action:
			out = append(out, fmt.Sprintf("for %s something else is to be done", was.NodeName()))
		}
	}

	for _, n := range now.Nodes {
		if !slices.ContainsFunc(p.Nodes, func(was NodePlan) bool { return was.Node == n.Node }) {
			out = append(out, n.NodeName()+" is not in the plan")
		}
	}

	if len(out) == 0 {
		return gate.New(gate.PlanDiffers, gate.Pass, "", "everything is as planned")
	}

	return gate.New(gate.PlanDiffers, gate.Refuse, "", "the plan does not hold any more: %s", strings.Join(out, "; ")).WithRemedy("make a new plan")
}

// Replan makes the plan again that a plan file asks for, and refuses when it would do something else.
func (p Planner) Replan(ctx context.Context, planned Plan, directory string) (Plan, error) {
	r := planned.Request
	r.Directory = cmp.Or(directory, r.Directory)

	if r.AllNodes {
		r.Nodes = nil
	}

	now, err := p.Make(ctx, r)
	if len(now.Nodes) == 0 {
		return now, err
	}

	now.Gates = append(now.Gates, planned.Differs(now))

	return now, errors.Join(now.settle(p.Overrides), now.failed(true))
}
