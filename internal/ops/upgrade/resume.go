package upgrade

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// observeReturning is for a node that does not answer, or is busy: if an earlier run's note says that it is on
// its way to a new version, it is waited for. What was seen is given back otherwise.
func (r *run) observeReturning(ctx context.Context, seen facts, cause error) (facts, error) {
	if r.o.DryRun || !r.isUnderway(ctx, underwayTimeout) {
		return seen, cause
	}

	r.Stage("wait", "an earlier run left the node on its way: waiting for at most %s", r.o.RebootTimeout)

	var f facts

	err := poll.Until(ctx, r.Target.Name()+" to answer", probe.VerifyPoll, r.o.RebootTimeout, func(ctx context.Context) (bool, string, error) {
		var err error
		if f, err = r.observe(ctx); err != nil && conn.Transient(err) {
			return false, err.Error(), nil
		}

		return err == nil && !probe.Busy(f.status), f.status.String(), err
	})

	return f, err
}

// underwayTimeout is how long Kubernetes may take to show whether an earlier run left a node on its way.
const underwayTimeout = 20 * time.Second

// isUnderway looks for the node's marker without the node's help. Kubernetes is asked for as long as patience
// lasts while it does not answer.
func (r *run) isUnderway(ctx context.Context, patience time.Duration) bool {
	if note := r.localNote(MarkerAnnotation); note != "" {
		r.f.readMarker(note)
		r.Known = r.f.unmet

		return true
	}

	var nodes []kube.Node

	// The API server may be on the very node.
	err := poll.Until(ctx, "Kubernetes", disruption.RetryEvery, patience, func(ctx context.Context) (bool, string, error) {
		k, _, err := r.Node.Kube(ctx)
		if err == nil {
			nodes, err = k.Nodes(ctx)
		}

		if err != nil {
			return false, err.Error(), nil
		}

		return true, "", nil
	})
	if err != nil {
		return false
	}

	node, found := probe.FindNode(nodes, r.Target, r.K8sName)
	if !found {
		return false
	}

	r.f.readMarker(node.Annotations[MarkerAnnotation])
	r.Known = r.f.unmet

	return node.Annotations[MarkerAnnotation] != "" || node.CordonedFor(r.o.Reason)
}

// settleInstall handles an install whose end was not observed. An installer that still runs is waited for: a reboot would
// tear what it writes. machined's log has its exit code. Where it has none only a boot shows whether it finished, and a
// second install before that could overwrite what runs. When the target comes up the run ends here.
func (r *run) settleInstall(ctx context.Context) error {
	if r.f.marker == nil || r.f.marker.Phase != markerInstalling {
		return nil
	}

	r.Stage("install", "an install of %s began at %s and its end was not observed: waiting until no installer runs on the node",
		r.f.marker.Target, r.f.marker.Time.UTC().Format(time.RFC3339))

	code, found, err := r.awaitInstaller(ctx, r.f.marker.Time)

	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return r.Fail(runbook.Unknown, "the installer's end cannot be observed: %w", err)
	case found && code == 0:
		r.f.marker.Phase = markerInstalled
		r.Stage("install", "the installer ended well")

		return r.mark(ctx, r.f.marker.String())
	case found:
		r.Stage("install", "the installer ended with exit code %d: installing again", code)

		r.f.marker = nil

		return r.mark(ctx, "")
	}

	r.Stage("install", "the node's log does not say how it ended: rebooting to find out which version comes up")

	for _, step := range []func(context.Context) error{r.Clear, r.awaitQuorum, r.askReboot, r.awaitBoot} {
		if err := step(ctx); err != nil {
			return err
		}
	}

	now, err := r.Version(ctx, nil)
	if err != nil {
		return err
	}

	if release.Same(now.Tag, r.f.target()) {
		r.res.ResumedInstall = true

		if err = r.verify(ctx); err == nil {
			r.Status = runbook.OK
		}

		return err
	}

	r.Stage("install", "%s came up: the install had not finished, so that it is done now", now.Tag)

	if err = r.settled(ctx); err != nil {
		return err
	}

	if err = r.mark(ctx, ""); err != nil {
		return r.Fail(runbook.InstallFailed, "cannot remove the note of the unfinished install: %w", err)
	}

	// The second disruption begins like the first: with the boot that runs now.
	r.Again()

	if err = r.reachable(ctx); err != nil {
		return err
	}

	f, err := r.observe(ctx)
	if err == nil {
		f.recorded, f.installed = r.f.recorded, r.f.installed
		r.f, r.Before = f, f.boot
	}

	return err
}

// reachable waits until the endpoints find the node again: they back off from one that was down, for many seconds
// after it answers for itself.
func (r *run) reachable(ctx context.Context) error {
	err := poll.Until(ctx, "the endpoints to reach "+r.Target.Name(), probe.VerifyPoll, r.o.ReadyTimeout, func(ctx context.Context) (bool, string, error) {
		for _, way := range []probe.API{r.Node.Read, r.Node.Change} {
			if _, err := way.Version(ctx); err != nil && conn.Transient(err) {
				return false, err.Error(), nil
			}
		}

		return true, "", nil
	})
	if err != nil {
		return r.Unverified(ctx, err)
	}

	return nil
}

// settled waits until the node, its etcd member and its kubelet are healthy.
func (r *run) settled(ctx context.Context) error {
	if err := r.AwaitSettled(ctx); err != nil {
		return err
	}

	if err := r.AwaitEtcd(ctx); err != nil {
		return err
	}

	return r.awaitKubernetes(ctx)
}

// speakAfter is how long a node may take to answer before it is said that it has not.
const speakAfter = 2 * time.Second

// AwaitUnderway waits for a node that an earlier run left on its way to a new boot. What it is then is for the gates of
// the next run to say.
func AwaitUnderway(ctx context.Context, n *probe.Node, deadline time.Duration, sink progress.Sink) {
	r := newRun(n, Options{Options: disruption.Options{Reason: purpose, ReadyTimeout: deadline}}, sink)
	patience := underwayTimeout
	late := time.AfterFunc(speakAfter, func() { r.Tell("preflight", "the node has not answered yet") })
	status, err := n.Read.MachineStatus(ctx)

	late.Stop()

	switch {
	case err == nil && status.Settled():
		patience = disruption.RetryEvery // its etcd member may still be on the way
	case err != nil:
		r.Tell("preflight", "the node does not answer: asking Kubernetes whether an earlier run left it on its way")
	default:
		r.Tell("preflight", "the node is not ready: asking Kubernetes whether an earlier run left it on its way")
	}

	if !r.isUnderway(ctx, patience) {
		return
	}

	if patience == underwayTimeout {
		r.Stage("wait", "an earlier run left the node on its way: waiting for at most %s", deadline)
	}

	if _, err := r.Version(ctx, nil); err != nil {
		return
	}

	if err := r.AwaitSettled(ctx); err != nil {
		return
	}

	_, _ = r.AwaitEtcd(ctx), r.reachable(ctx) // the gates check again, and report what is wrong
}
