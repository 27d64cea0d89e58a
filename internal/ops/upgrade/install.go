package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// maxInstallerLines is how much of an installer's output the result keeps.
const maxInstallerLines = 1000

// mark notes on the node how far the install is; an empty text removes the note.
func (r *run) mark(ctx context.Context, text string) error {
	return r.annotate(ctx, MarkerAnnotation, text)
}

// annotate keeps a text on the Kubernetes node, or on this machine where there is none; an empty text removes it.
func (r *run) annotate(ctx context.Context, key, text string) error {
	if r.Kube == nil {
		return r.setLocalNote(key, text)
	}

	err := r.Retry(ctx, "annotate", func(ctx context.Context) error {
		return r.Kube.Annotate(ctx, r.K8sName, key, text)
	})

	if text == "" {
		err = errors.Join(err, r.setLocalNote(key, ""))
	}

	return err
}

func (r *run) localNote(key string) string {
	if r.Node.Notes == nil {
		return ""
	}

	return r.Node.Notes.Get(r.noteName(key))
}

func (r *run) setLocalNote(key, text string) error {
	if r.Node.Notes == nil {
		return nil
	}

	return r.Node.Notes.Set(r.noteName(key), text)
}

// noteName is the name of the note that stands for an annotation.
func (r *run) noteName(key string) string {
	if key == ImageAnnotation {
		return r.Target.Address + "-image"
	}

	return r.Target.Address
}

// install installs the new version, unless an earlier run did or the node's API installs and reboots in one request.
// Without a reboot afterwards the run ends here.
func (r *run) install(ctx context.Context) error {
	switch {
	case r.resumes():
		r.res.ResumedInstall, r.res.PulledImage, r.installed = true, r.f.marker.Image, installDone
		r.Stage("install", "%s is already installed and waits for its reboot", r.f.marker.Target)
	case r.f.version.API != release.APILegacy:
		if err := r.runInstaller(ctx); err != nil {
			return err
		}
	}

	if r.o.InstallOnly {
		r.Status = runbook.Installed
		r.Rec.Hint = "the new version becomes active with the next reboot; do not install again before"
	}

	return nil
}

// runInstaller runs the installer on the node. The marker keeps a second install from overwriting what it wrote.
func (r *run) runInstaller(ctx context.Context) error {
	m := Marker{Image: r.res.PulledImage, Target: r.f.target(), BootID: r.Before.ID, Phase: markerInstalling, Time: r.Now().UTC(), Unmet: r.Known}
	if err := errors.Join(r.record(ctx, ""), r.mark(ctx, m.String())); err != nil {
		return r.Fail(runbook.InstallFailed, "cannot note the install on the node: %w", err)
	}

	r.Stage("install", "installing %s", r.res.PulledImage)
	r.installed = installBegun

	var code int

	sent := runbook.Request{Limit: r.o.InstallTimeout, Send: func(ctx context.Context) (err error) {
		code, err = r.Node.Change.Install(ctx, r.res.PulledImage, func(line string) {
			if len(r.res.InstallerLines) < maxInstallerLines {
				r.res.InstallerLines = append(r.res.InstallerLines, line)
			}

			r.Tell("install", line)
		})

		return err
	}}.Once(ctx)

	if sent.Answer == runbook.Lost && ctx.Err() == nil {
		r.Rec.AnswerLost = true
		r.Stage("install", "the answer was lost (%v): waiting for the end of the installer, which continues without it", sent.Err)

		exit, found, err := r.awaitInstaller(ctx, m.Time)
		if found {
			code, sent = exit, runbook.Sent{Answer: runbook.Accepted}
		} else {
			sent.Err = errors.Join(sent.Err, err)
		}
	}

	switch {
	case sent.Answer == runbook.Lost:
		r.Rec.Hint = "whether the install finished is not known: do not install again by hand before the node has rebooted, or its way back is lost; the same command again finds out"

		return r.Fail(runbook.Unknown, "the connection was lost during the install: %w", sent.Err)
	case talos.InstallInProgress(sent.Err):
		r.installed = installNone
		r.Rec.Hint = "somebody else's installer runs: when it has ended, the same command again finds out what it left"

		return r.Fail(runbook.Refused, "%w", sent.Err)
	case sent.Err != nil || code != 0:
		return r.installFailed(ctx, code, sent.Err)
	}

	r.res.InstallerLines, r.installed = nil, installDone
	m.Phase = markerInstalled

	if err := r.mark(context.WithoutCancel(ctx), m.String()); err != nil {
		return r.Fail(runbook.InstalledNoReboot, "installed, but it cannot be noted on the node: %w", err)
	}

	return nil
}

// installWithin is how long an installer is waited for where the user did not say.
const installWithin = 30 * time.Minute

// clockSlack is how far the node's clock may be from ours: TM138 refuses more.
const clockSlack = 10 * time.Second

// awaitInstaller waits until no installer runs on the node, and returns the exit code of the last one that ended since a
// moment. found is false where the node does not tell.
func (r *run) awaitInstaller(ctx context.Context, since time.Time) (code int, found bool, err error) {
	err = poll.Until(ctx, "the installer on "+r.Target.Name()+" to end", probe.VerifyPoll, cmp.Or(r.o.InstallTimeout, installWithin), func(ctx context.Context) (bool, string, error) {
		ctx, cancel := context.WithTimeout(ctx, probe.Limit)
		defer cancel()

		runs, err := r.Node.Change.InstallerRuns(ctx)
		if err != nil {
			return false, err.Error(), nil //nolint:nilerr // an observation that fails is repeated until the deadline
		}

		return !runs, "it still runs", nil
	})
	if err == nil {
		code, found, err = r.Node.Change.InstallerEnded(ctx, since.Add(-clockSlack))
	}

	return code, found, err
}

// installFailed removes the marker, so that another try is possible: a failed installer wrote nothing that boots.
func (r *run) installFailed(ctx context.Context, code int, err error) error {
	if err == nil {
		err = fmt.Errorf("the installer ended with exit code %d, and %s is not installed", code, r.f.target())
	}

	r.installed = installNone

	if unmarkErr := r.mark(context.WithoutCancel(ctx), ""); unmarkErr != nil {
		err = errors.Join(err, unmarkErr)
	}

	return r.Fail(runbook.InstallFailed, "%w", err)
}
