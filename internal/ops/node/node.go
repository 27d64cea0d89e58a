// Package node reboots, shuts down, rolls back, resets and removes nodes: each operation is planned, passes its gates,
// is sent once, and is proved by what is observed afterwards.
package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// Options are what the user decides.
type Options struct {
	disruption.Options

	Action Action
	Mode   string      // Of a reboot: default, powercycle or force.
	Force  bool        // Of a shutdown: without the node's own cordon and drain.
	Reset  talos.Reset // Of a reset.

	AllData              bool // With EPHEMERAL its parts on partitions of their own are wiped too; of a reset or removal.
	DeleteKubernetesNode bool // Delete the Kubernetes node afterwards; of a reset.
	Dead                 bool // The node is dead: it is removed from the cluster without it; of a removal.
}

// resets reports whether the node is wiped.
func (o Options) resets() bool { return o.Action == Reset || o.Action == Remove }

// returns reports whether the node comes back as what it was.
func (o Options) returns() bool { return o.Action == Reboot || o.Action == Rollback }

type run struct {
	*disruption.Run

	o    Options
	res  *Result
	left bool // The node's member has left etcd, or is leaving: the node is on its way out.

	system   talos.System // Before a rollback.
	separate []string     // The parts of EPHEMERAL on partitions of their own; before a wipe.
	dead     dead         // Of a removal of a dead node.
}

// Run carries out an operation on one node. The result holds everything that was observed, also on error; the error
// has the exit code and the hint.
func Run(ctx context.Context, n *probe.Node, o Options, sink progress.Sink) (Result, error) {
	r := newRun(n, o, sink)
	err := r.Finish(ctx, r.steps(ctx))

	return r.result(), err
}

func newRun(n *probe.Node, o Options, sink progress.Sink) *run {
	res := &Result{Action: o.Action, DryRun: o.DryRun, Wipes: wipes(o), Record: runbook.NewRecord()}
	res.SetNode(n.Target)

	r := &run{Run: disruption.New(n, string(o.Action), o.Options, &res.Observed, &res.Record, sink), o: o, res: res}
	r.Left = func() string { return r.leftovers() + r.cordonLeft() }
	r.Summary = func() string { return fmt.Sprintf("took %.1f s", r.Rec.ElapsedSeconds) }

	return r
}

func (r *run) result() Result {
	r.res.Status, r.res.K8sNodeName = r.Status, r.K8sName

	return *r.res
}

// steps is the runbook. A step that settles the status ends it: a gate that refuses, a dry run, a request that is not
// waited for.
func (r *run) steps(ctx context.Context) error {
	if r.o.Dead {
		return r.Steps(ctx, r.findDead, r.Exclusive, r.expel, r.deleteKubernetesNode, r.buried)
	}

	before := []func(context.Context) error{r.observe, r.gates, r.Exclusive, r.Clear}

	switch {
	case r.o.Action == Shutdown:
		return r.Steps(ctx, append(before, r.recheck, r.request, r.awaitOff)...)
	case r.o.Action == Remove:
		before = append(before, r.leaveEtcd)
	}

	if !r.o.resets() {
		return r.Steps(ctx, append(before, r.recheck, r.request, r.awaitBoot, r.verify)...)
	}

	after := r.awaitOff

	switch {
	case r.o.Reset.Reboot && r.losesConfig():
		after = r.awaitMaintenance
	case r.o.Reset.Reboot:
		after = r.awaitReset
	}

	return r.Steps(ctx, append(before, r.recheck, r.request, after, r.deleteKubernetesNode)...)
}

// observe reads what is known of the node before.
func (r *run) observe(ctx context.Context) error {
	r.Stage("preflight", "observing the node")

	version, err := r.Node.Change.Version(ctx)
	if err == nil {
		r.Obs.ServerTag = version.Tag
		r.Before, err = r.Node.Change.Boot(ctx, "")
	}

	if err == nil {
		r.Obs.BootIDBefore, r.Obs.BootProof = r.Before.ID, r.Before.Proof
		r.K8sName, err = r.Node.Change.KubernetesName(ctx)
	}

	if err == nil && r.o.Action == Rollback {
		r.system, err = r.Node.Change.System(ctx)
	}

	if err == nil && r.o.resets() {
		err = r.observeWipe(ctx, version.Platform)
	}

	if r.o.Action == Remove && conn.Transient(err) {
		r.Rec.Hint = "a node that is permanently dead is removed from the cluster without it: --dead"
	}

	return err
}

// observeWipe reads what decides what a wipe means: partitions, and whether the node would get a configuration again.
func (r *run) observeWipe(ctx context.Context, platform string) error {
	var err error
	if r.separate, err = r.Node.Change.Separate(ctx); err != nil {
		return err
	}

	if r.o.AllData && r.wipesPartition(talos.Ephemeral) {
		r.o.Reset.SystemLabels = slices.Concat(r.o.Reset.SystemLabels, r.separate)
		r.res.Wipes = wipes(r.o)
	}

	if stays := slices.DeleteFunc(slices.Clone(r.separate), r.wipesPartition); r.wipesPartition(talos.Ephemeral) && len(stays) > 0 {
		r.Stage("preflight", "the partitions %s keep their data: they are not part of EPHEMERAL on this node", strings.Join(stays, ", "))
	}

	if !r.losesConfig() {
		return nil
	}

	arguments, err := r.Node.Change.KernelArguments(ctx)
	if err != nil && conn.Transient(err) {
		return err
	}

	from := "the platform " + platform + " may have user data"
	if i := slices.IndexFunc(arguments, func(a string) bool { return strings.HasPrefix(a, "talos.config=") }); i >= 0 {
		from = "the kernel argument talos.config"
	} else if platform == "" || platform == "metal" || platform == "container" {
		return nil
	}

	r.Stage("preflight", "warning: the node may get a configuration again and rejoin when it boots (%s)", from)

	return nil
}

// request sends the one request. One that is accepted and not waited for ends the run.
func (r *run) request(ctx context.Context) error {
	if err := r.Ask(ctx, min(runbook.AnswerWithin, r.o.RebootTimeout), runbook.ShownWithin, r.send); err != nil {
		return err
	}

	if r.Answered {
		r.stayCordoned()
	}

	if r.o.Wait {
		return nil
	}

	if err := r.Prober.AwaitBegun(ctx); err != nil {
		return r.NotReturned(ctx, err)
	}

	r.stayCordoned()
	r.Status = runbook.Requested

	return nil
}

func (r *run) send(ctx context.Context) error {
	switch r.o.Action {
	case Shutdown:
		r.Stage(string(Shutdown), "shutting down")

		return r.Node.Change.Shutdown(ctx, r.o.Force)
	case Rollback:
		r.Stage(string(Rollback), "rolling back to the other boot slot")

		return r.Node.Change.Rollback(ctx)
	case Reset, Remove:
		r.Stage(string(Reset), "resetting: %s", strings.Join(r.res.Wipes, ", "))

		return r.Node.Change.Reset(ctx, r.o.Reset)
	case Reboot:
	}

	r.Stage(string(Reboot), "rebooting (%s)", r.o.Mode)

	return r.Node.Change.Reboot(ctx, r.o.Mode)
}

// stayCordoned keeps the cordon of a node that goes off: nothing is scheduled on it when it comes back, until somebody
// uncordons it.
func (r *run) stayCordoned() {
	if !r.o.returns() {
		r.KeepCordon()
	}
}

// awaitBoot waits for the new boot of a node that comes back.
func (r *run) awaitBoot(ctx context.Context) error {
	back, err := r.AwaitBoot(ctx)
	r.res.DetectionLagSeconds = back.Lag.Seconds()

	return err
}

func (r *run) awaitOff(ctx context.Context) error {
	err := r.AwaitOff(ctx)
	if err == nil || r.Rec.AnswerLost && !r.Prober.Unclear() {
		r.stayCordoned()
	}

	if err == nil {
		r.res.PoweredOff = true
	}

	return err
}

func (r *run) awaitMaintenance(ctx context.Context) error {
	r.Stage("wait", "waiting for maintenance mode, for at most %s", r.o.RebootTimeout)

	err := poll.Until(ctx, r.Target.Name()+" in maintenance mode", probe.VerifyPoll, r.o.RebootTimeout, func(ctx context.Context) (bool, string, error) {
		status, err := r.Node.InMaintenance(ctx)
		if err != nil { // it is down, not in maintenance mode yet, or came back configured
			if back := r.cameBack(ctx); back != nil {
				return false, "", back
			}

			return false, err.Error(), r.Prober.Observe(ctx)
		}

		return status.Stage == "maintenance", status.String(), nil
	})
	if err == nil || r.Rec.AnswerLost && !r.Prober.Unclear() {
		r.stayCordoned()
	}

	switch {
	case errors.Is(err, probe.ErrBooted):
		return r.BootedAgain(err)
	case errors.Is(err, errRejoined):
		r.res.Rejoined, r.Obs.Rebooted = true, true
		r.Rec.Hint = "its platform gave the node a configuration (user data, or talos.config): it has joined again with nothing of before; power it off, or take the configuration away, to keep it out"
		r.Stage("wait", "the node came back with a configuration of its platform, as another machine: it has rejoined")

		return nil
	case err != nil:
		return r.NotReturned(ctx, err)
	}

	r.res.Maintenance, r.Obs.Rebooted = true, true
	r.Obs.DowntimeSeconds = runbook.Seconds(r.Since())
	r.Stage("wait", "maintenance mode after %.1f s", r.Obs.DowntimeSeconds)

	return nil
}

// errRejoined ends the wait for a node that was wiped and came back configured: it has a new identity.
var errRejoined = errors.New("the node came back configured")

// cameBack looks for a new boot outside maintenance mode. With the identity of before nothing was wiped; with another one
// the platform configured the node again (Talos, internal/app/machined/pkg/controllers/config/acquire.go).
func (r *run) cameBack(ctx context.Context) error {
	boot, err := r.Prober.Boot(ctx, r.Before.Proof)

	switch {
	case conn.KindOf(err) == errs.KindAnotherMachine:
		return errRejoined
	case err == nil && boot.ID != r.Before.ID:
		return probe.ErrBooted
	default:
		return nil
	}
}

// awaitReset waits for a node that was reset and keeps its configuration. Without its data a control plane waits for a
// bootstrap or for the other members: then that it is up is all that is asked.
func (r *run) awaitReset(ctx context.Context) error {
	if err := r.awaitBoot(ctx); err != nil {
		return err
	}

	if !r.Node.ControlPlane || !r.wipesEtcd() {
		return r.verify(ctx)
	}

	r.Obs.TalosBack = true

	if err := r.compareVersion(ctx); err != nil {
		return err
	}

	return nil
}

// verify proves that the node is healthy: Talos settled, the version, etcd, Kubernetes.
func (r *run) verify(ctx context.Context) error {
	r.Stage("verify", "verifying the node, for at most %s", r.o.ReadyTimeout)

	if err := r.AwaitSettled(ctx); err != nil {
		return err
	}

	r.Obs.TalosBack = true

	if err := r.compareVersion(ctx); err != nil {
		return err
	}

	if err := r.AwaitEtcd(ctx); err != nil {
		return err
	}

	if !r.o.resets() {
		if err := r.AwaitKubernetes(ctx); err != nil {
			return err
		}
	}

	return nil
}

// compareVersion records the version that runs now. A rollback must have changed it.
func (r *run) compareVersion(ctx context.Context) error {
	var system talos.System

	version, err := r.Version(ctx, func(ctx context.Context, n probe.API) (err error) {
		if r.o.Action == Rollback {
			system, err = n.System(ctx)
		}

		return err
	})
	if err != nil {
		return err
	}

	r.Obs.RunningTag = version.Tag

	if r.o.Action == Rollback && version.Tag == r.Obs.ServerTag && system.Schematic == r.system.Schematic {
		return r.Fail(runbook.VerifyFailed, "the node came back on the same version %s and schematic: either both slots hold it, or the other one did not boot", version.Tag)
	}

	return nil
}

// leaveEtcd removes the member of a control plane from etcd before its data is wiped. A graceful reset would do it
// too, on the node, where a refusal shows only in the log.
func (r *run) leaveEtcd(ctx context.Context) error {
	if !r.Node.ControlPlane {
		return nil
	}

	view, err := r.quorum(ctx)
	if err != nil {
		return err
	}

	m, ok := view.MemberOn(r.Target)
	if !ok {
		r.Stage("etcd", "the node has no etcd member")

		return nil
	}

	if err = r.takeOut(ctx, view, m, r.Node.Leave); err != nil {
		return err
	}

	r.KeepCordon() // a node that is no longer a control plane gets no pods back

	return nil
}

// takeOut removes a member from etcd.
func (r *run) takeOut(ctx context.Context, view etcd.View, m etcd.Member, by probe.Membership) error {
	r.left = true
	r.Stage("etcd", "removing member %s from etcd", m.ID)

	change, err := by(ctx, view, m, r.BeforeChange, r.Sink)
	r.res.Etcd = &change

	if errs.ExitCode(err) == errs.Unknown {
		return r.Fail(runbook.Unknown, "%w", err)
	}

	if err != nil {
		return err
	}

	r.Stage("etcd", "%d voters remain, %d of them must agree", change.VotersAfter, change.QuorumAfter)

	return nil
}

// deleteKubernetesNode ends the membership in Kubernetes of a node that was removed.
func (r *run) deleteKubernetesNode(ctx context.Context) error {
	if !r.o.DeleteKubernetesNode || r.Kube == nil || r.K8sName == "" || r.res.Rejoined {
		return nil
	}

	r.BeforeChange()
	r.Stage("kubernetes", "deleting the Kubernetes node %s", r.K8sName)

	switch err := r.Kube.DeleteNode(ctx, r.K8sName); {
	case err != nil && r.o.Dead:
		return err
	case err != nil:
		return r.Fail(runbook.VerifyFailed, "the node was reset, and its Kubernetes node stays: %w", err)
	}

	r.res.K8sNodeDeleted = true
	r.KeepCordon() // there is nothing left to uncordon

	return nil
}
