package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// Options are what the user decides about the upgrade of a node.
type Options struct {
	Image          string        // The installer image.
	AutoReboot     bool          // Reboot after the install; without it there is neither drain nor reboot.
	Wait           bool          // Wait for the node to come back.
	SkipDrain      bool          // Neither cordon nor drain.
	DrainTimeout   time.Duration // For all evictions together.
	PullTimeout    time.Duration // For the pull of the image.
	InstallTimeout time.Duration // From the request to install to its end.
	RebootMode     string        // default, powercycle or force.
	RebootTimeout  time.Duration // From the reboot request to a new boot.
	ReadyTimeout   time.Duration // From the new boot to everything being well.
	Overrides      gate.Overrides
	DryRun         bool
	Reason         string // Who and why, for the cordon's annotation.
	RebootOnly     bool   // Only activate what was installed before.
	// BeforeChange is called once, right before the first request that changes something.
	BeforeChange func()
	// Lock takes the cluster's lock before the first change.
	Lock     Locker
	LockHeld bool // The caller holds the lock already.
}

// run is one node's upgrade.
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

	installed installState
	left      talos.Boot // The boot that the node has left behind, empty before it went.
	seen      boot.Witness[Node]
}

// installState is how far the installer came in this run.
type installState int

const (
	installNone installState = iota
	installBegun
	installDone
)

// seconds rounds to what is worth reading.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// Run upgrades one node. The result holds everything that was observed, whatever the end; the error says
// the end again, with its exit code and hint.
func Run(ctx context.Context, w *World, o Options, sink progress.Sink) (Result, error) {
	r := newRun(w, o, sink)
	err := r.steps(ctx)

	if undoErr := r.undo.Run(ctx, undoTimeout); undoErr != nil {
		r.res.UncordonError = undoErr.Error()
		err = errors.Join(err, undoErr)
	}

	r.finish(ctx, err)

	return r.res, r.typed(err)
}

func newRun(w *World, o Options, sink progress.Sink) *run {
	r := &run{w: w, o: o, sink: sink, started: w.Now(), seen: w.witness()}
	r.res = Result{
		Image: o.Image, DryRun: o.DryRun, ExtensionsBefore: []string{}, ExtensionsAfter: []string{}, Gates: []gate.Verdict{}, Stages: []Stage{},
	}
	r.res.SetNode(w.Target)

	return r
}

// finish settles status and message.
func (r *run) finish(ctx context.Context, err error) {
	if err != nil {
		r.res.Error = err.Error()
	}

	if ctx.Err() != nil {
		r.res.Status = InterruptedStatus
		r.res.Hint = r.leftovers()
	}

	if hints := errs.Hints(err); r.res.Hint == "" && len(hints) > 0 {
		r.res.Hint = hints[0]
	}

	if r.res.Status == unfinished {
		r.res.Status = PreflightFailed
	}

	r.res.ElapsedSeconds = seconds(r.w.Now().Sub(r.started))
	r.sink.Emit(progress.Event{
		Time: r.w.Now(), Node: r.w.Target.Name(), Stage: string(r.res.Status), Message: r.summary(), Done: true, Failed: err != nil,
	})
}

func (r *run) summary() string {
	switch {
	case r.res.Status == OK:
		return fmt.Sprintf("%s -> %s, API away for %.1f s", r.res.ServerTag, r.res.RunningTag, r.res.DowntimeSeconds)
	case r.res.Error != "":
		return r.res.Error
	default:
		return ""
	}
}

// leftovers says what an interrupted upgrade leaves on the node.
func (r *run) leftovers() string {
	switch {
	case r.res.RebootRequested && !r.res.Rebooted && r.seen.Doubted():
		return "whether the node was asked to reboot is not known; run the same command again: it looks"
	case r.res.RebootRequested && !r.res.TalosBack:
		return "the node is rebooting into the new version; run the same command again to verify it"
	case r.installed == installDone:
		return "the new version is installed and waits for its reboot; run the same command again to finish"
	case r.installed == installBegun:
		return "whether the install finished is not known; run the same command again: it looks by a reboot what the node holds"
	default:
		return "the node runs what it ran before"
	}
}

// typed gives the run's error the exit code of its status.
func (r *run) typed(err error) error {
	code := r.res.Status.exit()
	if err == nil || code == errs.OK {
		return err
	}

	var inner *errs.Error

	out := &errs.Error{Exit: code, Node: r.w.Target.Address, Hostname: r.w.Target.Hostname, Hint: r.res.Hint, Err: err}
	if errors.As(err, &inner) {
		out.Kind, out.GRPCCode, out.Gate, out.Retryable = inner.Kind, inner.GRPCCode, inner.Gate, inner.Retryable

		if r.res.Status == PreflightFailed || r.res.Status == PullFailed && inner.Exit != errs.Unknown {
			// Nothing was touched: the cause's own code tells best.
			out.Exit = inner.Exit
		}
	}

	if code != errs.Refused && code != errs.Failed {
		out.Kind = ""
	}

	return out
}

func (r *run) stage(name, format string, args ...any) {
	now := r.w.Now()
	message := fmt.Sprintf(format, args...)
	r.res.Stages = append(r.res.Stages, Stage{Time: now.UTC(), Stage: name, Message: message, ElapsedSeconds: seconds(now.Sub(r.started))})
	r.sink.Emit(progress.Event{Time: now, Node: r.w.Target.Name(), Stage: name, Message: message})
}

func (r *run) beforeChange() {
	if !r.changed && r.o.BeforeChange != nil {
		r.o.BeforeChange()
	}

	r.changed = true
}

func (r *run) fail(status Status, format string, args ...any) error {
	r.res.Status = status

	return fmt.Errorf("cannot upgrade %s: %w", r.w.Target.Name(), fmt.Errorf(format, args...))
}

// steps is the runbook.
func (r *run) steps(ctx context.Context) error {
	r.stage("preflight", "looking at the node")

	f, err := r.look(ctx)
	if err != nil {
		return err
	}

	if f.current() && f.marker == nil {
		return r.alreadyCurrent(ctx, f)
	}

	if err = r.gates(ctx, f); err != nil {
		return err
	}

	if r.o.DryRun {
		r.res.Status = Planned
		r.stage("preflight", "dry run: nothing is done")

		return nil
	}

	release, err := boot.Exclusive(r.w.Locks, r.w.Target)
	if err != nil {
		r.res.Status = RefusedStatus

		return err
	}
	defer release()

	if err = r.lock(ctx); err != nil {
		return err
	}

	if f.marker != nil && f.marker.Phase == markerInstalling {
		done, err := r.settleInstall(ctx, &f)
		if err != nil || done {
			return err
		}
	}

	return r.upgrade(ctx, f)
}

// look observes the node, and Kubernetes' side of it.
func (r *run) look(ctx context.Context) (facts, error) {
	f, err := r.observe(ctx)
	if ctx.Err() == nil && (err != nil && talos.Transient(err) || err == nil && boot.Busy(f.status)) {
		f, err = r.observeReturning(ctx, f, err)
	}

	r.note(f)

	if err != nil {
		return f, err
	}

	return f, r.discover(ctx, &f)
}

// upgrade is what disturbs the node.
func (r *run) upgrade(ctx context.Context, f facts) error {
	resume := f.marker != nil && f.marker.Phase == markerInstalled

	if !resume {
		if err := r.pull(ctx); err != nil {
			return err
		}
	}

	if r.o.AutoReboot {
		if err := r.clear(ctx); err != nil {
			return err
		}
	}

	if resume {
		r.res.ResumedInstall, r.res.PulledImage, r.installed = true, f.marker.Image, installDone
		r.stage("install", "%s is installed already and waits for its reboot", f.marker.Target)
	} else if err := r.install(ctx, f); err != nil {
		return err
	}

	if !r.o.AutoReboot {
		r.res.Status = Installed
		r.res.Hint = "the new version becomes active with the next reboot; do not install again before"

		return nil
	}

	return r.restart(ctx, f)
}

// lock takes the cluster's lock, and gives it back last.
func (r *run) lock(ctx context.Context) error {
	if r.o.LockHeld {
		return nil
	}

	locker := r.o.Lock
	if r.res.K8sNodeName == "" {
		locker = nil
	}

	held, v := takeLock(ctx, locker)
	verdicts := []gate.Verdict{v}
	err := gate.Apply(verdicts, r.o.Overrides)
	r.verdict(verdicts...)
	r.tell(verdicts...)

	if err != nil {
		r.res.Status = RefusedStatus

		return err
	}

	if held != nil {
		r.undo.Push("the cluster's lock", held.Release)
	}

	return nil
}
