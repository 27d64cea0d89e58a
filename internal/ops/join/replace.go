package join

import (
	"context"
	"fmt"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Old is the control plane that is replaced.
type Old struct {
	Target talos.Target
	Member etcd.Member
	View   etcd.View // In which the member was found.

	// Remove takes a node that answers out of the cluster with all that belongs to it: drain, leave, wipe.
	Remove func(context.Context, node.Options) (node.Result, error)
	// RemoveMember takes the member of a node that does not answer out of etcd, by the others.
	RemoveMember func(ctx context.Context, v etcd.View, plan etcd.MembershipChange, begin func()) (etcd.MembershipChange, error)
	Removal      node.Options // What Remove is given.
}

// Replacement is what became of both, also on error.
type Replacement struct {
	talos.NodeRef // The old control plane.

	Status          runbook.Status         `json:"status"`                     // planned, ok, requested, refused, failed, not_replaced, unknown or interrupted.
	DryRun          bool                   `json:"dry_run"`                    // Whether nothing was to be done.
	OldAnswers      bool                   `json:"old_answers"`                // Whether the Talos API of the old one answered; then it is drained and wiped too.
	Etcd            *etcd.MembershipChange `json:"etcd"`                       // What became of the old member; as planned, before it was touched.
	Removal         *node.Result           `json:"removal,omitempty"`          // The removal of an old one that answered.
	K8sNodeName     string                 `json:"k8s_node_name,omitempty"`    // The Kubernetes node of the old one, where Kubernetes has it.
	K8sNodeDeleted  bool                   `json:"k8s_node_deleted"`           // Whether it was deleted.
	Voters          []Voters               `json:"voters"`                     // etcd's membership at every step, from before to the end; never null.
	New             Result                 `json:"new"`                        // The machine that takes its place.
	Gates           []gate.Verdict         `json:"gates"`                      // What every gate said; never null.
	OverriddenGates []string               `json:"overridden_gates,omitempty"` // The gates that were passed on purpose.
	Error           string                 `json:"error,omitempty"`            // What went wrong.
	Hint            string                 `json:"hint,omitempty"`             // What to do now.
	ElapsedSeconds  float64                `json:"elapsed_seconds"`            // How long all of it took.
}

// replacement is a replacement under way. Its join looks at the new machine before the old one is touched.
type replacement struct {
	*join

	old Old
	out Replacement
}

// Plan looks at everything before the old control plane is touched: the gates of its removal, those of the new
// machine's joining as etcd will be then, and the machine's own word on its configuration. It is what a dry
// run prints, and what Run carries out.
func Plan(ctx context.Context, m Candidate, old Old, text []byte, o Options) (*Exchange, error) {
	r := &replacement{join: newJoin(m, text, o), old: old}
	r.instead = old.Target.Hostname
	r.out = Replacement{Status: runbook.Planned, DryRun: o.DryRun, Voters: []Voters{}, Gates: []gate.Verdict{}}
	r.out.SetNode(old.Target)

	err := r.plan(ctx)
	x := &Exchange{r}

	if err != nil || o.DryRun {
		return x, r.end(ctx, err)
	}

	return x, nil
}

// Exchange is a replacement that was planned.
type Exchange struct{ r *replacement }

// Result is what was seen so far.
func (x *Exchange) Result() Replacement { return x.r.out }

// Run carries a plan out.
func (x *Exchange) Run(ctx context.Context) (Replacement, error) {
	err := x.r.run(ctx)

	return x.r.out, x.r.end(ctx, err)
}

func (r *replacement) plan(ctx context.Context) error {
	if err := r.preflight(ctx); err != nil {
		return err
	}

	if r.res.MachineType != target.ControlPlane {
		return errs.Usagef("the configuration is a worker's, and %s is a control plane", r.old.Target.Name())
	}

	r.out.OldAnswers = r.m.Alive(ctx, r.old.Target)

	plan := r.old.View.PlanRemove(r.old.Member)
	for i, v := range plan.Gates {
		if v.Gate == gate.HealthyMember && v.Verdict == gate.Refuse {
			plan.Gates[i] = v.WithRemedy("a living control plane goes without a voter less: `talosmate node add` the new one, then `talosmate node remove -n %s`", r.old.Target.Name())
		}
	}

	r.out.Etcd = &plan

	if err := r.Check(plan.Gates...); err != nil {
		return err
	}

	if err := r.gates(ctx, func(v etcd.View, node string) []gate.Verdict { return v.CheckJoinWithout(r.old.Member.ID, node) }); err != nil {
		return err
	}

	return r.findKubernetesNode(ctx)
}

// findKubernetesNode finds the old one's Kubernetes node without asking it: by its address, else by its name.
func (r *replacement) findKubernetesNode(ctx context.Context) error {
	if r.kube == nil {
		return nil
	}

	nodes, err := r.kube.Nodes(ctx)
	if err != nil {
		return err
	}

	n, _ := probe.FindNode(nodes, r.old.Target, "")
	r.out.K8sNodeName = n.Name

	return nil
}

func (r *replacement) run(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	if err := r.remove(ctx); err != nil {
		return err
	}

	view, err := r.m.Etcd(ctx)
	if err != nil {
		return err
	}

	r.count("removed", view)

	now := r.res.Voters[len(r.res.Voters)-1]
	r.Stage("etcd", "%s is out: %d voters, %d of them healthy, %d must agree", r.old.Target.Name(), now.Voters, now.Healthy, now.Quorum)

	// The new voter is counted against what etcd is by now, not against what was foreseen.
	verdicts := view.CheckJoin(r.Target.Address)
	if err = r.Recheck(verdicts...); err != nil {
		return err
	}

	return r.enter(ctx)
}

// remove takes the old one out of etcd and Kubernetes.
func (r *replacement) remove(ctx context.Context) error {
	if r.out.OldAnswers {
		o := r.old.Removal
		o.Overrides, o.BeforeChange = r.o.Overrides, r.BeforeChange

		r.Stage("remove", "%s answers: it is drained, taken out of etcd and wiped", r.old.Target.Name())

		res, err := r.old.Remove(ctx, o)
		r.out.Removal, r.out.K8sNodeDeleted = &res, res.K8sNodeDeleted

		if res.Etcd != nil {
			r.out.Etcd = res.Etcd
		}

		return err
	}

	r.Stage("remove", "removing member %s of %s, which does not answer", r.old.Member.ID, r.old.Target.Name())

	change, err := r.old.RemoveMember(ctx, r.old.View, *r.out.Etcd, r.BeforeChange)
	r.out.Etcd = &change

	if err != nil {
		return err
	}

	if r.out.K8sNodeName == "" || ctx.Err() != nil {
		return context.Cause(ctx)
	}

	r.Stage("kubernetes", "deleting the Kubernetes node %s", r.out.K8sNodeName)

	if err = r.kube.DeleteNode(ctx, r.out.K8sNodeName); err != nil {
		return err
	}

	r.out.K8sNodeDeleted = true

	return nil
}

// end gathers what was seen into the document and gives the error the exit code of the end.
func (r *replacement) end(ctx context.Context, err error) error {
	gone := r.out.Etcd != nil && r.out.Etcd.Status == runbook.Done
	r.out.Gates, r.out.OverriddenGates, r.out.Voters = r.res.Gates, r.res.OverriddenGates, r.res.Voters
	r.res.Gates, r.res.OverriddenGates, r.res.Voters = []gate.Verdict{}, nil, []Voters{}

	status := r.Status

	switch {
	case err == nil && r.o.DryRun:
		status = runbook.Planned
	case err != nil && ctx.Err() != nil:
		status, r.out.Hint = runbook.Interrupted, r.left(gone)
	case err != nil && errs.ExitCode(err) == errs.Unknown:
		status = runbook.Unknown
	case err != nil && gone && status != runbook.Unknown:
		status, r.out.Hint = runbook.NotReplaced, r.left(gone)
	case err != nil && status == "":
		status = runbook.Failed
	}

	if r.Status == "" {
		r.Status = runbook.Planned
	}

	if err != nil {
		r.out.Error = err.Error()
	}

	if hints := errs.Hints(err); r.out.Hint == "" && len(hints) > 0 {
		r.out.Hint = hints[0]
	}

	r.res.ElapsedSeconds = r.Elapsed()
	r.res.Status = r.Status
	r.out.Status, r.out.New, r.out.ElapsedSeconds = status, r.res, r.res.ElapsedSeconds

	return runbook.Typed(err, status, r.out.Hint, r.old.Target)
}

// left says where the runbook was broken off, and how to continue.
func (r *replacement) left(gone bool) string {
	switch {
	case r.res.Applied:
		return fmt.Sprintf("%s is out of etcd; %s", r.old.Target.Name(), r.leftovers())
	case gone:
		return fmt.Sprintf("%s is out of etcd and %s has no configuration yet: continue with `talosmate node add -n %s`",
			r.old.Target.Name(), r.Target.Name(), r.Target.Address) + r.kubernetesLeft() + r.removalLeft("; ")
	case r.out.Removal != nil && r.out.Removal.Hint != "":
		return r.removalLeft("")
	case r.out.Etcd != nil && r.out.Etcd.Status == runbook.Unknown:
		return fmt.Sprintf("the removal of %s from etcd was sent, and whether it was done is not known: see `talosmate etcd members`; %s was left as it was",
			r.old.Target.Name(), r.Target.Name())
	default:
		return "both were left as they were"
	}
}

// removalLeft is where the removal of an old one that answered was broken off.
func (r *replacement) removalLeft(sep string) string {
	if r.out.Removal == nil || r.out.Removal.Hint == "" {
		return ""
	}

	return sep + "of the old one: " + r.out.Removal.Hint
}

// kubernetesLeft tells of a dead one's Kubernetes node; a removal tells of its own.
func (r *replacement) kubernetesLeft() string {
	if r.out.K8sNodeName == "" || r.out.K8sNodeDeleted || r.out.Removal != nil {
		return ""
	}

	return ", and delete the Kubernetes node " + r.out.K8sNodeName
}
