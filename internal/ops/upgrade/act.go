package upgrade

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// How long a small request to Kubernetes is repeated: the API server may be on the node that is away.
const (
	insistEvery = time.Second
	insistFor   = 45 * time.Second
	connectFor  = 20 * time.Second // The first time, before anything was done.
	undoTimeout = time.Minute

	quorumPatience = 15 * time.Second

	maxInstallerLines = 1000 // How much of what an installer prints the result keeps.
)

func (r *run) pull(ctx context.Context) error {
	r.beforeChange()
	r.stage("pull", "pulling %s", r.o.Image)

	sent := runbook.Request{Limit: r.o.PullTimeout, Send: func(ctx context.Context) (err error) {
		r.res.PulledImage, err = r.w.Change.PullImage(ctx, talos.NamespaceSystem, r.o.Image, func(p talos.PullProgress) {
			r.sink.Emit(progress.Event{
				Time: r.w.Now(), Node: r.w.Target.Name(), Stage: "pull", Message: "layer " + p.Layer, Current: p.Offset, Total: p.Total,
			})
		})

		return err
	}}.Once(ctx)
	if sent.Err != nil {
		r.res.PulledImage = ""

		return r.fail(PullFailed, "%w", sent.Err)
	}

	return nil
}

// clear cordons and drains. The uncordon is registered first.
func (r *run) clear(ctx context.Context) error {
	if r.kube == nil || r.o.SkipDrain {
		return nil
	}

	name := r.res.K8sNodeName
	r.keep = r.undo.Push("cordon of "+name, func(ctx context.Context) error { return r.uncordon(ctx) })

	r.stage("cordon", "cordoning %s", name)

	var ours bool

	err := r.insist(ctx, "cordon", func(ctx context.Context) (err error) {
		ours, err = r.kube.Cordon(ctx, name, r.o.Reason)

		return err
	})
	if err != nil {
		return r.fail(CordonFailed, "%w", err)
	}

	r.res.Cordoned = ours
	if !ours {
		r.keep()
		r.stage("cordon", "%s was cordoned by somebody else and stays so", name)
	}

	r.stage("drain", "draining %s, for at most %s", name, r.o.DrainTimeout)

	var again atomic.Int64

	pods, err := r.kube.Drain(ctx, name, kube.DrainOptions{
		Timeout: r.o.DrainTimeout, Again: func() { again.Add(1) }, Tell: func(m string) {
			r.sink.Emit(progress.Event{Time: r.w.Now(), Node: r.w.Target.Name(), Stage: "drain", Message: m})
		},
	})
	r.res.DrainedPods, r.res.Retries = pods, r.res.Retries+int(again.Load())

	if err != nil {
		return r.fail(DrainFailed, "%w", err)
	}

	return nil
}

// uncordon lifts our cordon; the library looks that it is ours. The API server may be away for a moment.
func (r *run) uncordon(ctx context.Context) error {
	r.stage("uncordon", "uncordoning %s", r.res.K8sNodeName)

	if err := r.insist(ctx, "uncordon", func(ctx context.Context) error { return r.kube.Uncordon(ctx, r.res.K8sNodeName) }); err != nil {
		return err
	}

	r.res.Uncordoned = r.res.Cordoned

	return nil
}

// insist repeats a request to Kubernetes while its API is away.
func (r *run) insist(ctx context.Context, what string, try func(context.Context) error) error {
	var last error

	err := poll.Until(ctx, what+" "+r.res.K8sNodeName, insistEvery, insistFor, func(ctx context.Context) (bool, string, error) {
		switch last = try(ctx); {
		case last == nil:
			return true, "", nil
		case kube.Definite(last):
			return false, "", last
		}

		r.res.Retries++

		return false, last.Error(), nil
	})
	if err != nil && last != nil && ctx.Err() == nil {
		return last
	}

	return err
}

// mark notes on the node how far the install is; an empty text takes the note away.
func (r *run) mark(ctx context.Context, m string) error {
	if r.kube == nil {
		return r.setLocalNote(m)
	}

	err := r.insist(ctx, "annotate", func(ctx context.Context) error {
		return r.kube.Annotate(ctx, r.res.K8sNodeName, MarkerAnnotation, m)
	})

	if m == "" {
		err = errors.Join(err, r.setLocalNote(""))
	}

	return err
}

func (r *run) localNote() string {
	if r.w.Notes == nil {
		return ""
	}

	return r.w.Notes.Get(r.w.Target.Address)
}

func (r *run) setLocalNote(text string) error {
	if r.w.Notes == nil {
		return nil
	}

	return r.w.Notes.Set(r.w.Target.Address, text)
}

func (r *run) install(ctx context.Context, f facts) error {
	if f.version.API == release.APILegacy {
		return nil // restart sends the one request that installs and reboots
	}

	m := marker{Image: r.res.PulledImage, Target: f.target(), BootID: f.boot.ID, Phase: markerInstalling, Time: r.w.Now().UTC()}
	if err := r.mark(ctx, m.String()); err != nil {
		return r.fail(InstallFailed, "cannot note the install on the node: %w", err)
	}

	r.stage("install", "installing %s", r.res.PulledImage)
	r.installed = installBegun

	var code int

	sent := runbook.Request{Limit: r.o.InstallTimeout, Send: func(ctx context.Context) (err error) {
		code, err = r.w.Change.Install(ctx, r.res.PulledImage, func(line string) {
			if len(r.res.InstallerLines) < maxInstallerLines {
				r.res.InstallerLines = append(r.res.InstallerLines, line)
			}

			r.sink.Emit(progress.Event{Time: r.w.Now(), Node: r.w.Target.Name(), Stage: "install", Message: line})
		})

		return err
	}}.Once(ctx)
	err := sent.Err

	switch {
	case sent.Answer == runbook.Lost:
		// Whether the installer finished cannot be read back: nothing in Talos's API tells.
		r.res.Status = UnknownStatus
		r.res.Hint = "whether the install finished is not known: do not install again by hand before the node has rebooted, or its way back is lost; the same command again reboots it first and looks"

		return fmt.Errorf("cannot upgrade %s: the connection was lost during the install: %w", r.w.Target.Name(), err)
	case err != nil || code != 0:
		if err == nil {
			err = fmt.Errorf("the installer ended with exit code %d", code)
		}

		r.installed = installNone
		// A failed installer wrote nothing that boots; the marker goes so that another try is possible.
		if unmarkErr := r.mark(context.WithoutCancel(ctx), ""); unmarkErr != nil {
			err = errors.Join(err, unmarkErr)
		}

		return r.fail(InstallFailed, "%w", err)
	}

	r.res.InstallerLines, r.installed = nil, installDone
	m.Phase = markerInstalled

	if err := r.mark(context.WithoutCancel(ctx), m.String()); err != nil {
		return r.fail(InstalledNoReboot, "installed, but it cannot be noted on the node: %w", err)
	}

	return nil
}

// restart reboots, or on the legacy API installs and reboots, then waits and verifies.
func (r *run) restart(ctx context.Context, f facts) error {
	if err := r.quorumAgain(ctx); err != nil {
		return err
	}

	legacy := f.version.API == release.APILegacy

	if legacy {
		m := marker{Image: r.o.Image, Target: f.target(), BootID: f.boot.ID, Phase: markerRequested, Time: r.w.Now().UTC()}
		if err := r.mark(ctx, m.String()); err != nil {
			return r.fail(InstallFailed, "cannot note the upgrade on the node: %w", err)
		}
	}

	asked, err := r.askReboot(ctx, f, legacy)
	if err != nil {
		if legacy && r.res.Status == InstallFailed {
			err = errors.Join(err, r.mark(context.WithoutCancel(ctx), ""))
		}

		return err
	}

	if !r.o.Wait {
		if err = r.seen.AwaitBegun(ctx); err != nil {
			return r.notRebooted(ctx, err)
		}

		r.res.Status = RebootedNoWait

		return nil
	}

	if err = r.awaitBoot(ctx, f, asked); err != nil {
		return err
	}

	return r.verify(ctx, f)
}

// legacyBegun is how long the legacy API's one request may take to show: the node looks at the image, and at
// etcd, before it begins.
const legacyBegun = 2 * time.Minute

// askReboot sends the one request that makes the node go away, once.
func (r *run) askReboot(ctx context.Context, f facts, install bool) (time.Time, error) {
	asked := r.w.Now()
	r.seen = r.w.witness()

	request, patience := runbook.Request{Begin: r.beforeChange}, runbook.ShownWithin

	if install {
		patience = legacyBegun
		request.Limit = r.o.InstallTimeout
		request.Send = func(ctx context.Context) error {
			r.stage("install", "asking for the upgrade: the node installs and reboots automatically")

			return r.w.Change.UpgradeLegacy(ctx, r.o.Image, r.o.RebootMode)
		}
	} else {
		request.Limit = min(runbook.AnswerWithin, r.o.RebootTimeout)
		request.Send = func(ctx context.Context) error {
			r.stage("reboot", "rebooting (%s)", r.o.RebootMode)

			return r.w.Change.Reboot(ctx, r.o.RebootMode)
		}
	}

	sent := request.Once(ctx)
	r.res.RebootRequested = sent.Answer == runbook.Accepted || sent.Answer == runbook.Lost

	switch {
	case sent.Err != nil && ctx.Err() != nil:
		return asked, sent.Err
	case sent.Answer == runbook.Lost:
		r.res.AnswerLost = true
		r.seen = boot.Doubting(r.seen, f.boot, patience)
		r.stage("reboot", "the answer was lost (%v): reading the state back", sent.Err)
	case sent.Err != nil && install:
		return asked, r.fail(InstallFailed, "%w", sent.Err)
	case sent.Err != nil:
		r.res.Hint = "the new version is installed and becomes active with the next reboot"

		return asked, r.fail(RebootFailed, "%w", sent.Err)
	}

	return asked, nil
}

// quorumAgain asks etcd once more: pull, drain and install took their time.
func (r *run) quorumAgain(ctx context.Context) error {
	if !r.w.ControlPlane {
		return nil
	}

	// On the legacy API the install is part of what comes next, so that this is a refusal like any other.
	status, hint := InstalledNoReboot, "the new version is installed; run the same command again when etcd is well"
	if r.res.API == release.APILegacy {
		status, hint = RefusedStatus, "nothing was installed; run the same command again when etcd is well"
	}

	var (
		verdicts []gate.Verdict
		refused  error
	)

	// Members that have just come back may be at an election: one bad look is not the end.
	err := poll.Until(ctx, "etcd to do without "+r.w.Target.Name(), boot.VerifyPoll, quorumPatience, func(ctx context.Context) (bool, string, error) {
		view, err := r.w.Etcd(ctx)
		if err != nil {
			refused = fmt.Errorf("etcd cannot be asked any more: %w", err)

			return false, err.Error(), nil
		}

		verdicts = view.Check(etcd.Restart, r.w.Target)

		if err = gate.Apply(verdicts, r.o.Overrides); err != nil {
			if refused == nil {
				r.stage("preflight", "%v: looking again for at most %s", err, quorumPatience)
			}

			refused = fmt.Errorf("etcd changed meanwhile: %w", err)

			return false, err.Error(), nil
		}

		return true, "", nil
	})

	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return err
	}

	r.verdict(verdicts...)
	r.res.Hint = hint

	return r.fail(status, "%w", refused)
}
