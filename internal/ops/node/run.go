package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// Options are what the user decides.
type Options struct {
	Action Action
	Mode   string      // Of a reboot: default, powercycle or force.
	Force  bool        // Of a shutdown: without the node's own cordon and drain.
	Reset  talos.Reset // Of a reset.

	Drain        bool          // Cordon and drain before, uncordon after.
	DrainTimeout time.Duration // For all evictions together.
	Wait         bool          // Prove what became of it.
	BootTimeout  time.Duration // From the request to a new boot, or to the node being off.
	ReadyTimeout time.Duration // From the new boot to everything being well.

	DeleteKubernetesNode bool // Delete the Kubernetes node afterwards; of a reset.
	Dead                 bool // The node is dead: it is taken out of the cluster without it; of a removal.

	Overrides    gate.Overrides
	DryRun       bool
	Reason       string // Who and why, for the cordon's annotation.
	BeforeChange func() // Called right before the first request that changes something.
}

const (
	off         = 2 * time.Second // How long a node must be silent to be taken for off.
	undoTimeout = time.Minute
)

type run struct {
	w    *World
	o    Options
	sink progress.Sink
	undo runbook.Undo

	res     Result
	started time.Time
	kube    Kube
	keep    func() // Takes the uncordon off the undo stack.
	changed bool
	left    bool // The leave of etcd has begun: the node is on its way out.
	sent    bool // The request that makes the node go has been sent.
	heard   bool // It was answered.
	seen    boot.Witness[Machine]

	before talos.Boot
	system talos.System
}

// Run acts on one node. The result holds everything that was observed, whatever the end; the error says the
// end again, with its exit code and hint.
func Run(ctx context.Context, w *World, o Options, sink progress.Sink) (Result, error) {
	r := newRun(w, o, sink)
	err := r.steps(ctx)

	if undoErr := r.undo.Run(ctx, undoTimeout); undoErr != nil {
		r.res.UndoError = undoErr.Error()
		err = errors.Join(err, undoErr)
	}

	r.finish(ctx, err)

	return r.res, r.typed(err)
}

func newRun(w *World, o Options, sink progress.Sink) *run {
	r := &run{w: w, o: o, sink: sink, started: w.Now(), seen: w.witness()}
	r.res = Result{Action: o.Action, DryRun: o.DryRun, Gates: []gate.Verdict{}, Stages: []Stage{}, Wipes: wipes(o)}
	r.res.SetNode(w.Target)

	return r
}

// resets says whether the node is wiped.
func (o Options) resets() bool { return o.Action == Reset || o.Action == Remove }

// wipes lists what a reset erases.
func wipes(o Options) []string {
	if !o.resets() || o.Dead {
		return nil
	}

	out := append([]string{}, o.Reset.SystemLabels...)
	if o.Reset.WholeDisk {
		out = []string{"the whole system disk"}
	}

	if o.Reset.Mode == talos.WipeUserDisks {
		out = nil
	}

	return append(out, o.Reset.UserDisks...)
}

func (r *run) stage(name, format string, args ...any) {
	now, message := r.w.Now(), fmt.Sprintf(format, args...)
	r.res.Stages = append(r.res.Stages, Stage{Time: now.UTC(), Stage: name, Message: message, ElapsedSeconds: now.Sub(r.started).Seconds()})
	r.sink.Emit(progress.Event{Time: now, Node: r.w.Target.Name(), Stage: name, Message: message})
}

func (r *run) fail(status Status, format string, args ...any) error {
	r.res.Status = status

	return fmt.Errorf("cannot %s %s: %w", r.o.Action, r.w.Target.Name(), fmt.Errorf(format, args...))
}

func (r *run) finish(ctx context.Context, err error) {
	if err != nil {
		r.res.Error = err.Error()

		if r.res.Status == "" {
			r.res.Status = Failed
		}
	}

	if ctx.Err() != nil && r.res.Status != OK && r.res.Status != Requested {
		r.res.Status, r.res.Hint = Interrupted, r.leftovers()+r.cordonLeft()
	}

	if hints := errs.Hints(err); r.res.Hint == "" && len(hints) > 0 {
		r.res.Hint = hints[0]
	}

	r.res.ElapsedSeconds = r.w.Now().Sub(r.started).Seconds()

	message := r.res.Error
	if err == nil {
		message = fmt.Sprintf("took %.1f s", r.res.ElapsedSeconds)
	}

	r.sink.Emit(progress.Event{
		Time: r.w.Now(), Node: r.w.Target.Name(), Stage: string(r.res.Status), Message: message, Done: true, Failed: err != nil,
	})
}

// leftovers says what an interruption leaves on the node.
func (r *run) leftovers() string {
	switch {
	case r.res.Rebooted:
		return "the node has rebooted; whether it is well was not seen to the end"
	case r.sent && !r.heard && (!r.res.AnswerLost || r.seen.Doubted()):
		return fmt.Sprintf("the %s was requested, and not answered: whether it was begun is not known; look at the node before you ask again", r.o.Action) + r.kubernetesLeft()
	case r.sent && r.o.Action == Remove:
		return "the node wipes itself and goes on with it" + r.kubernetesLeft()
	case r.sent:
		return fmt.Sprintf("the %s was requested and goes on; look at the node with `talosmate health`", r.o.Action)
	case r.left && r.o.Dead:
		return "its etcd member has left, or is leaving: run `talosmate node remove --dead` again"
	case r.res.Etcd != nil && r.res.Etcd.Status == etcd.StatusDone:
		return "its etcd member has left, and the node is not wiped: run `talosmate node remove` again"
	case r.left:
		return "its etcd member has left, or is leaving, and the node is not wiped: run `talosmate node remove` again"
	case r.res.DrainedPods > 0:
		return fmt.Sprintf("%d pods had left the node, which was left as it was otherwise", r.res.DrainedPods)
	default:
		return "the node was left as it was"
	}
}

// cordonLeft tells of a cordon that stays: that of a node that goes off, or one that could not be lifted.
func (r *run) cordonLeft() string {
	if !r.res.Cordoned || r.res.Uncordoned || r.res.K8sNodeDeleted {
		return ""
	}

	return "; it stays cordoned: `talosmate node uncordon`"
}

// kubernetesLeft tells of the Kubernetes node that a removal did not come to.
func (r *run) kubernetesLeft() string {
	if r.kube == nil || r.res.K8sNodeDeleted {
		return ""
	}

	return "; its Kubernetes node stays: `kubectl delete node " + r.res.K8sNodeName + "`"
}

// typed gives the run's error the exit code of its status.
func (r *run) typed(err error) error {
	if err == nil {
		return nil
	}

	var inner *errs.Error

	out := &errs.Error{Exit: r.res.Status.exit(), Node: r.w.Target.Address, Hostname: r.w.Target.Hostname, Hint: r.res.Hint, Err: err}
	if errors.As(err, &inner) {
		out.GRPCCode, out.Gate, out.Retryable = inner.GRPCCode, inner.Gate, inner.Retryable

		if r.res.Status == Failed {
			// Nothing was decided here: the cause's own code tells best.
			out.Exit, out.Kind = inner.Exit, inner.Kind
		}
	}

	if out.Exit == errs.OK {
		out.Exit = errs.Failed
	}

	return out
}

func (r *run) beforeChange() {
	if !r.changed && r.o.BeforeChange != nil {
		r.o.BeforeChange()
	}

	r.changed = true
}

// steps is the runbook.
func (r *run) steps(ctx context.Context) error {
	if r.o.Dead {
		return r.buryDead(ctx)
	}

	r.stage("preflight", "looking at the node")

	if err := r.observe(ctx); err != nil {
		if r.o.Action == Remove && talos.Transient(err) {
			r.res.Hint = "a node that is dead for good is taken out of the cluster without it: --dead"
		}

		return err
	}

	if err := r.gates(ctx); err != nil {
		return err
	}

	if r.o.DryRun {
		r.res.Status = Planned
		r.stage("preflight", "dry run: nothing is done")

		return nil
	}

	release, err := boot.Exclusive(r.w.Locks, r.w.Target)
	if err != nil {
		r.res.Status = Refused

		return err
	}
	defer release()

	if err := r.clear(ctx); err != nil {
		return err
	}

	if err := r.leaveEtcd(ctx); err != nil {
		return err
	}

	asked, err := r.act(ctx)
	if err != nil {
		return err
	}

	if !r.res.AnswerLost {
		r.stayCordoned()
	}

	if !r.o.Wait && !r.res.AnswerLost {
		r.res.Status = Requested

		return nil
	}

	if err = r.await(ctx, asked); err != nil {
		return err
	}

	return r.deleteKubernetesNode(ctx)
}

func (r *run) observe(ctx context.Context) error {
	version, err := r.w.Change.Version(ctx)
	if err != nil {
		return err
	}

	r.res.ServerTag = version.Tag

	if r.before, err = r.w.Change.Boot(ctx); err != nil {
		return err
	}

	r.res.BootIDBefore, r.res.BootProof = r.before.ID, r.before.Proof

	if r.o.Action == Rollback {
		if r.system, err = r.w.Change.System(ctx); err != nil {
			return err
		}
	}

	r.res.K8sNodeName, err = r.w.Change.KubernetesName(ctx)

	return err
}

// clear cordons and drains, if that was asked for. The uncordon is registered first.
func (r *run) clear(ctx context.Context) error {
	if !r.o.Drain || r.kube == nil {
		return nil
	}

	name := r.res.K8sNodeName

	r.beforeChange()
	r.keep = r.undo.Push("cordon of "+name, r.uncordon)
	r.stage("cordon", "cordoning %s", name)

	ours, err := r.kube.Cordon(ctx, name, r.o.Reason)
	if err != nil {
		return r.fail(DrainFailed, "%w", err)
	}

	if r.res.Cordoned = ours; !ours {
		r.keep()
		r.stage("cordon", "%s was cordoned by somebody else and stays so", name)
	}

	r.stage("drain", "draining %s, for at most %s", name, r.o.DrainTimeout)

	r.res.DrainedPods, err = r.kube.Drain(ctx, name, kube.DrainOptions{Timeout: r.o.DrainTimeout, Tell: func(m string) {
		r.sink.Emit(progress.Event{Time: r.w.Now(), Node: r.w.Target.Name(), Stage: "drain", Message: m})
	}})
	if err != nil {
		return r.fail(DrainFailed, "%w", err)
	}

	return nil
}

// stayCordoned leaves the cordon of a node that goes off: nothing is to be put on it when it comes back, until
// somebody says so.
func (r *run) stayCordoned() {
	if !r.returns() && r.keep != nil {
		r.keep()
	}
}

func (r *run) uncordon(ctx context.Context) error {
	r.stage("uncordon", "uncordoning %s", r.res.K8sNodeName)

	if err := r.kube.Uncordon(ctx, r.res.K8sNodeName); err != nil {
		return err
	}

	r.res.Uncordoned = true

	return nil
}

// act sends the one request, once. An answer that was lost is not a failure: the state is read back.
func (r *run) act(ctx context.Context) (time.Time, error) {
	if err := r.quorumAgain(ctx); err != nil {
		return time.Time{}, err
	}

	// Another machine may have asked meanwhile.
	if !r.left {
		if busy, err := r.gateBusy(ctx); err != nil {
			return time.Time{}, err
		} else if err = gate.Apply([]gate.Verdict{busy}, r.o.Overrides); err != nil {
			r.res.Status = Refused

			return time.Time{}, err
		}
	}

	asked := r.w.Now()
	sent := runbook.Request{Limit: min(runbook.AnswerWithin, r.o.BootTimeout), Begin: r.beforeChange, Send: r.send}.Once(ctx)

	r.sent, r.heard = sent.Answer != runbook.NotSent, sent.Answer == runbook.Accepted

	switch {
	case ctx.Err() != nil && sent.Err != nil:
		return asked, context.Cause(ctx)
	case sent.Answer == runbook.Lost:
		r.res.AnswerLost, r.seen = true, boot.Doubting(r.seen, r.before, runbook.ShownWithin)
		r.stage("wait", "the answer was lost (%v): reading the state back", sent.Err)
	case sent.Err != nil:
		r.res.Status = Failed

		return asked, sent.Err
	}

	return asked, nil
}

// returns says whether the node comes back as what it was.
func (r *run) returns() bool { return r.o.Action == Reboot || r.o.Action == Rollback }

func (r *run) send(ctx context.Context) error {
	switch r.o.Action {
	case Shutdown:
		r.stage(string(Shutdown), "shutting down")

		return r.w.Change.Shutdown(ctx, r.o.Force)
	case Rollback:
		r.stage(string(Rollback), "rolling back to the other boot slot")

		return r.w.Change.Rollback(ctx)
	case Reset, Remove:
		r.stage(string(Reset), "resetting: %v", r.res.Wipes)

		return r.w.Change.Reset(ctx, r.o.Reset)
	case Reboot:
	}

	r.stage(string(Reboot), "rebooting (%s)", r.o.Mode)

	return r.w.Change.Reboot(ctx, r.o.Mode)
}

func (r *run) await(ctx context.Context, asked time.Time) error {
	err := r.awaitEnd(ctx, asked)

	switch {
	case errors.Is(err, boot.ErrNotBegun):
		return r.notBegun(err)
	case r.res.AnswerLost && (err == nil || !r.seen.Doubted()):
		r.stayCordoned()
	}

	return err
}

func (r *run) awaitEnd(ctx context.Context, asked time.Time) error {
	switch {
	case !r.o.Wait:
		return r.awaitBegun(ctx)
	case r.o.Action == Shutdown, r.o.resets() && !r.o.Reset.Reboot:
		return r.awaitOff(ctx, asked)
	case r.o.resets() && r.losesConfig():
		return r.awaitMaintenance(ctx, asked)
	default:
		return r.awaitBack(ctx, asked)
	}
}

// awaitBegun reads back whether a request whose answer was lost was taken, where no more is waited for.
func (r *run) awaitBegun(ctx context.Context) error {
	if err := r.seen.AwaitBegun(ctx); err != nil {
		return r.stayed(ctx, err)
	}

	r.res.Status = Requested

	return nil
}

// notBegun ends the wait for what a lost request would have done. The request is never sent again: that
// nothing is seen of it proves little about what was on its way.
func (r *run) notBegun(err error) error {
	r.res.Status = Unknown
	r.res.Hint = "the request seems not to have reached the node, and was not sent again; look at the node before you ask again"

	return fmt.Errorf("cannot %s %s: the answer was lost, and %w", r.o.Action, r.w.Target.Name(), err)
}

// losesConfig says whether a reset erases the machine configuration.
func (r *run) losesConfig() bool {
	if r.o.Reset.Mode == talos.WipeUserDisks {
		return false
	}

	if r.o.Reset.WholeDisk {
		return true
	}

	for _, label := range r.o.Reset.SystemLabels {
		if label == "STATE" {
			return true
		}
	}

	return false
}

func (r *run) awaitOff(ctx context.Context, asked time.Time) error {
	r.stage("wait", "waiting until the node is off, for at most %s", r.o.BootTimeout)

	up, err := r.seen.AwaitGone(ctx, asked, off, r.o.BootTimeout)
	if err != nil {
		return r.stayed(ctx, err)
	}

	r.res.PoweredOff, r.res.Status = true, OK
	r.stage("wait", "the node answered last %.1f s after the request", up.Seconds())

	return nil
}

func (r *run) awaitMaintenance(ctx context.Context, asked time.Time) error {
	r.stage("wait", "waiting for maintenance mode, for at most %s", r.o.BootTimeout)

	err := poll.Until(ctx, r.w.Target.Name()+" in maintenance mode", boot.VerifyPoll, r.o.BootTimeout, func(ctx context.Context) (bool, string, error) {
		maintCtx, cancel := context.WithTimeout(ctx, boot.ProbeLimit)
		defer cancel()

		status, err := r.w.Maint(maintCtx)
		if err != nil {
			return false, err.Error(), r.seen.Look(ctx) // it is away, or not in maintenance mode yet
		}

		return status.Stage == "maintenance", status.String(), nil
	})
	if err != nil {
		return r.stayed(ctx, err)
	}

	r.res.Maintenance, r.res.Rebooted, r.res.Status = true, true, OK
	r.res.DowntimeSeconds = r.w.Now().Sub(asked).Seconds()
	r.stage("wait", "maintenance mode after %.1f s", r.res.DowntimeSeconds)

	return nil
}

// stayed phrases a node that did not go where it was told to.
func (r *run) stayed(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, boot.ErrNotBegun) {
		return err
	}

	switch {
	case r.seen.StillDoubted(ctx):
		return r.notBegun(err)
	case r.seen.Still(ctx, r.before):
		r.res.Hint = "the node still runs the boot of before; `talosmate logs machined` says what keeps it"
	default:
		r.res.Hint = "look at the node's console"
	}

	return r.fail(DidNotReturn, "%w", err)
}

func (r *run) awaitBack(ctx context.Context, asked time.Time) error {
	r.stage("wait", "waiting for a new boot, for at most %s", r.o.BootTimeout)

	seen, err := r.seen.AwaitNew(ctx, r.before, asked, r.o.BootTimeout)
	if err != nil {
		return r.stayed(ctx, err)
	}

	r.res.Rebooted, r.res.BootIDAfter = true, seen.Boot.ID
	r.res.DowntimeSeconds, r.res.DetectionLagSeconds = seen.Downtime.Seconds(), seen.Lag.Seconds()
	r.stage("wait", "a new boot answers after %.1f s", r.w.Now().Sub(asked).Seconds())

	// The cordon goes now, whatever comes: a node that is not Ready gets no pods anyway.
	if r.keep != nil && r.res.Cordoned {
		if err := r.uncordon(ctx); err != nil {
			r.stage("uncordon", "%v: trying again at the end", err)
		} else {
			r.keep()
		}
	}

	return r.verify(ctx)
}

func (r *run) verify(ctx context.Context) error {
	r.stage("verify", "looking what came up, for at most %s", r.o.ReadyTimeout)

	// Without its data a control plane waits for a bootstrap or for its neighbours: that it is up is all.
	lostEtcd := r.o.resets() && r.w.ControlPlane && r.wipesEtcd()

	if !lostEtcd {
		if err := boot.AwaitSettled(ctx, r.seen, r.o.ReadyTimeout); err != nil {
			return r.unverified(ctx, err)
		}
	}

	r.res.TalosBack = true

	if err := r.compareVersion(ctx); err != nil {
		return err
	}

	if r.w.ControlPlane && !lostEtcd {
		if err := boot.AwaitEtcd(ctx, r.w.Target, r.w.Etcd, r.o.ReadyTimeout); err != nil {
			return r.unverified(ctx, err)
		}
	}

	if r.kube != nil && !r.o.resets() {
		if err := boot.AwaitKubernetes(ctx, r.kube, r.res.K8sNodeName, boot.Other(r.before), r.o.ReadyTimeout); err != nil {
			return r.unverified(ctx, err)
		}
	}

	r.res.Status = OK

	return nil
}

func (r *run) unverified(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}

	return r.fail(VerifyFailed, "the node rebooted and is not well: %w", err)
}

// compareVersion notes what runs now. A rollback must have changed it, or it rolled nothing back.
func (r *run) compareVersion(ctx context.Context) error {
	var (
		version talos.Version
		system  talos.System
	)

	err := poll.Until(ctx, "the version of "+r.w.Target.Name(), boot.VerifyPoll, r.o.ReadyTimeout, func(ctx context.Context) (bool, string, error) {
		return r.seen.Ask(ctx, func(ctx context.Context, n Machine) (string, bool, error) {
			var err error
			if version, err = n.Version(ctx); err == nil && r.o.Action == Rollback {
				system, err = n.System(ctx)
			}

			return "", err == nil, err
		})
	})
	if err != nil {
		return r.unverified(ctx, err)
	}

	r.res.RunningTag = version.Tag

	if r.o.Action == Rollback && version.Tag == r.res.ServerTag && system.Schematic == r.system.Schematic {
		return r.fail(VerifyFailed, "the node came back on the same version %s and schematic: either both slots hold it, or the other one did not boot", version.Tag)
	}

	return nil
}

// deleteKubernetesNode ends a reset's membership in Kubernetes.
func (r *run) deleteKubernetesNode(ctx context.Context) error {
	if !r.o.DeleteKubernetesNode || r.kube == nil {
		return nil
	}

	r.stage("kubernetes", "deleting the Kubernetes node %s", r.res.K8sNodeName)

	if err := r.kube.DeleteNode(ctx, r.res.K8sNodeName); err != nil {
		if r.o.Dead {
			return err
		}

		return r.fail(VerifyFailed, "the node was reset, and its Kubernetes node stays: %w", err)
	}

	r.res.K8sNodeDeleted = true

	if r.keep != nil {
		r.keep() // there is nothing left to uncordon
	}

	return nil
}
