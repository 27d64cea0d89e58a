// Package upgrade brings one Talos node to another version: preflight, pull, cordon, drain, install, reboot, wait,
// verify, uncordon, on both of Talos's upgrade APIs.
package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// Options are what the user decides about the upgrade of a node.
type Options struct {
	disruption.Options

	Image          string        // The installer image.
	Version        string        // The version wanted, for a preview with an image that is not known.
	InstallOnly    bool          // Neither drain nor reboot: the new version becomes active with the next reboot.
	RebootOnly     bool          // Only activate what was installed before.
	RebootMode     string        // default, powercycle or force.
	PullTimeout    time.Duration // For the pull of the image.
	InstallTimeout time.Duration // From the request to install to its end.
	Digest         Digest        // Asks the image's registry before "there is nothing to do"; nil for not at all.

	Lock     clusterlock.Locker // Takes the cluster's lock before the first change.
	LockHeld bool               // The caller already holds the lock.
}

// run is one node's upgrade.
type run struct {
	*disruption.Run

	o         Options
	res       *Result
	f         facts
	installed installState
}

// installState is how far the installer came in this run.
type installState int

const (
	installNone installState = iota
	installBegun
	installDone
)

// Run upgrades one node. The result holds everything that was observed, also on error; the error has the exit code and
// the hint.
func Run(ctx context.Context, n *probe.Node, o Options, sink progress.Sink) (Result, error) {
	r := newRun(n, o, sink)

	return r.finish(ctx, r.steps(ctx))
}

func newRun(n *probe.Node, o Options, sink progress.Sink) *run {
	res := &Result{Image: o.Image, DryRun: o.DryRun, ExtensionsBefore: []string{}, ExtensionsAfter: []string{}, Record: runbook.NewRecord()}
	res.SetNode(n.Target)

	r := &run{Run: disruption.New(n, "upgrade", o.Options, &res.Observed, &res.Record, sink), o: o, res: res}
	r.Options.Drain = o.Drain && !o.InstallOnly
	r.Left = r.leftovers
	r.Summary = func() string {
		if r.Status != runbook.OK {
			return ""
		}

		return fmt.Sprintf("%s -> %s, API down for %.1f s", r.Obs.ServerTag, r.Obs.RunningTag, r.Obs.DowntimeSeconds)
	}

	return r
}

func (r *run) finish(ctx context.Context, err error) (Result, error) {
	if err != nil && r.Status == runbook.Unfinished {
		r.Status = runbook.PreflightFailed
	}

	err = r.Finish(ctx, err)
	r.res.Status, r.res.K8sNodeName, r.res.Retries = r.Status, r.K8sName, r.Retries

	return *r.res, err
}

// steps is the runbook. A step that settles the status ends it: a node that is already current, a gate that refuses, a
// dry run, an install without a reboot, a reboot that is not waited for.
func (r *run) steps(ctx context.Context) error {
	return r.Steps(ctx,
		r.look,
		r.skipCurrent,
		r.gates,
		r.Exclusive,
		r.lock,
		r.settleInstall,
		r.pull,
		r.Clear,
		r.install,
		r.awaitQuorum,
		r.reboot,
		r.awaitBoot,
		r.verify,
	)
}

// leftovers says what an interrupted upgrade leaves on the node.
func (r *run) leftovers() string {
	switch {
	case r.res.RebootRequested && !r.Obs.Rebooted && r.Prober.Unclear():
		return "whether the node was asked to reboot is not known; run the same command again: it finds out"
	case r.res.RebootRequested && !r.Obs.TalosBack:
		return "the node is rebooting into the new version; run the same command again to verify it"
	case r.installed == installDone:
		return "the new version is installed and waits for its reboot; run the same command again to finish"
	case r.installed == installBegun:
		return "the installer continues on the node; run the same command again: it waits for its end"
	default:
		return "the node runs what it ran before"
	}
}

// lock takes the cluster's lock, and gives it back last.
func (r *run) lock(ctx context.Context) error {
	if r.o.LockHeld {
		return nil
	}

	locker := r.o.Lock
	if r.K8sName == "" {
		locker = nil
	}

	held, verdict := clusterlock.Take(ctx, locker, "talosmate upgrade node")
	if err := r.Check(verdict); err != nil {
		return err
	}

	if held != nil {
		r.Undo.Push("the cluster's lock", held.Release)
	}

	return nil
}

// resumes reports whether an earlier run installed the new version, so that only the reboot is left.
func (r *run) resumes() bool { return r.f.marker != nil && r.f.marker.Phase == markerInstalled }

func (r *run) pull(ctx context.Context) error {
	if r.resumes() {
		return nil
	}

	r.BeforeChange()
	r.Stage("pull", "pulling %s", r.o.Image)

	sent := runbook.Request{Limit: r.o.PullTimeout, Send: func(ctx context.Context) (err error) {
		r.res.PulledImage, err = r.Node.Change.PullImage(ctx, talos.NamespaceSystem, r.o.Image, func(p talos.PullProgress) {
			r.Progress(progress.Event{Stage: "pull", Message: "layer " + p.Layer, Current: p.Offset, Total: p.Total})
		})

		return err
	}}.Once(ctx)
	if sent.Err != nil {
		r.res.PulledImage = ""

		return r.Fail(runbook.PullFailed, "%w", sent.Err)
	}

	return nil
}

// awaitQuorum checks etcd again: pull, drain and install took time.
func (r *run) awaitQuorum(ctx context.Context) error {
	_, err := r.AwaitQuorum(ctx, func(v etcd.View) []gate.Verdict { return v.Check(etcd.Restart, r.Target) })
	if err == nil || ctx.Err() != nil {
		return err
	}

	// With the legacy API the install is part of what comes next, so that this is a refusal like any other.
	if r.res.API == release.APILegacy {
		r.Rec.Hint = "nothing was installed; run the same command again when etcd is healthy"

		return r.Fail(runbook.Refused, "%w", err)
	}

	r.Rec.Hint = "the new version is installed; run the same command again when etcd is healthy"

	return r.Fail(runbook.InstalledNoReboot, "%w", err)
}

// legacyShown is how long the legacy API's one request may take to show: the node looks at the image, and at etcd,
// before it begins.
const legacyShown = 2 * time.Minute

// reboot reboots the node; with the legacy API the same request installs first.
func (r *run) reboot(ctx context.Context) error {
	ask := r.askReboot
	if r.f.version.API == release.APILegacy {
		ask = r.askLegacy
	}

	if err := ask(ctx); err != nil || r.o.Wait {
		return err
	}

	if err := r.Prober.AwaitBegun(ctx); err != nil {
		return r.notRebooted(r.NotReturned(ctx, err))
	}

	r.Status = runbook.RebootedNoWait

	return nil
}

func (r *run) askReboot(ctx context.Context) error {
	err := r.Ask(ctx, min(runbook.AnswerWithin, r.o.RebootTimeout), runbook.ShownWithin, func(ctx context.Context) error {
		r.Stage("reboot", "rebooting (%s)", r.o.RebootMode)

		return r.Node.Change.Reboot(ctx, r.o.RebootMode)
	})
	r.res.RebootRequested = r.Sent && (r.Answered || err == nil || ctx.Err() != nil)

	if err != nil {
		r.Rec.Hint = "the new version is installed and becomes active with the next reboot"

		return r.Fail(runbook.RebootFailed, "%w", err)
	}

	return nil
}

func (r *run) askLegacy(ctx context.Context) error {
	m := Marker{Image: r.o.Image, Target: r.f.target(), BootID: r.Before.ID, Phase: markerRequested, Time: r.Now().UTC(), Unmet: r.Known}
	if err := errors.Join(r.record(ctx, ""), r.mark(ctx, m.String())); err != nil {
		return r.Fail(runbook.InstallFailed, "cannot note the upgrade on the node: %w", err)
	}

	err := r.Ask(ctx, r.o.InstallTimeout, legacyShown, func(ctx context.Context) error {
		r.Stage("install", "asking for the upgrade: the node installs and reboots automatically")

		return r.Node.Change.UpgradeLegacy(ctx, r.o.Image, r.o.RebootMode)
	})
	r.res.RebootRequested = r.Sent && (r.Answered || err == nil || ctx.Err() != nil)

	if err == nil || ctx.Err() != nil {
		return err
	}

	return errors.Join(r.Fail(runbook.InstallFailed, "%w", err), r.mark(context.WithoutCancel(ctx), ""))
}

func (r *run) awaitBoot(ctx context.Context) error {
	_, err := r.AwaitBoot(ctx)

	return r.notRebooted(err)
}

// notRebooted records why the wait for a new boot failed.
func (r *run) notRebooted(err error) error {
	if err != nil && (r.Status == runbook.Unknown || r.Status == runbook.DidNotReturn) {
		r.res.WaitError = err.Error()
	}

	return err
}
