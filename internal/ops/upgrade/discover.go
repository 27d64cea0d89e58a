package upgrade

import (
	"context"
	"errors"
	"slices"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// look observes the node, and its Kubernetes node.
func (r *run) look(ctx context.Context) error {
	r.Stage("preflight", "observing the node")

	f, err := r.observe(ctx)
	if ctx.Err() == nil && err != nil && conn.Transient(err) && !r.o.DryRun {
		r.Stage("preflight", "the node does not answer: asking Kubernetes whether an earlier run left it on its way")
	}

	if ctx.Err() == nil && (err != nil && conn.Transient(err) || err == nil && probe.Busy(f.status)) {
		f, err = r.observeReturning(ctx, f, err)
	}

	r.note(f)

	if err != nil {
		return err
	}

	return r.discover(ctx)
}

// note takes the facts over into the result.
func (r *run) note(f facts) {
	r.f, r.Before, r.K8sName = f, f.boot, f.k8sName
	r.Obs.ServerTag, r.Obs.RunningTag, r.Obs.BootIDBefore, r.Obs.BootProof = f.version.Tag, f.version.Tag, f.boot.ID, f.boot.Proof
	r.res.Downgrade = f.lower()
	r.res.API, r.res.TargetTag, r.res.SchematicBefore = f.version.API, f.target(), f.system.Schematic
	r.res.ExtensionsBefore = ExtensionNames(f.system.Extensions)
}

// discover finds the node in Kubernetes: this tool's cordon and its marker from an earlier run.
func (r *run) discover(ctx context.Context) error {
	r.f.readMarker(r.localNote(MarkerAnnotation))

	if r.K8sName == "" {
		r.Stage("preflight", "the node is not a Kubernetes member: cordon, drain and uncordon are skipped")

		return r.identify(ctx, r.localNote(ImageAnnotation))
	}

	patience := disruption.ConnectFor

	switch {
	case !r.o.Drain, r.Overrides.Has(gate.KubernetesAway):
		patience = 0 // it may do without Kubernetes
	case r.o.LockHeld:
		patience = disruption.RetryFor // the API server may be behind the node that was upgraded before
	}

	node, source, err := r.Connect(ctx, patience)
	if err != nil {
		r.Kube = nil

		return errors.Join(r.withoutKubernetes(err), r.identify(ctx, r.localNote(ImageAnnotation)))
	}

	r.res.K8sCredentials = source
	r.f.readMarker(node.Annotations[MarkerAnnotation])

	if r.f.system.Kubelet == "" {
		r.f.system.Kubelet = node.KubeletVersion
	}

	return r.identify(ctx, node.Annotations[ImageAnnotation])
}

// withoutKubernetes decides what to do with a member whose Kubernetes API cannot be reached.
func (r *run) withoutKubernetes(err error) error {
	if !r.Options.Drain {
		r.Stage("preflight", "the Kubernetes API cannot be reached (%v): continuing without it", err)

		return nil
	}

	if err = r.Check(r.Unreachable(err)); err != nil {
		r.Status = runbook.DiscoveryFailed
	}

	return err
}

// readMarker takes a marker that was written in the boot that runs; one of another boot is spent.
func (f *facts) readMarker(text string) {
	if m, ok := ParseMarker(text); ok {
		f.left, f.unmet = true, m.Unmet

		if m.BootID == f.boot.ID && m.Phase != markerRequested {
			f.marker = &m
		}
	}
}

// skipCurrent ends an upgrade that has nothing to do. What an earlier run left behind is released, and its verification
// is caught up on.
func (r *run) skipCurrent(ctx context.Context) error {
	if !r.f.current() || r.f.marker != nil {
		return nil
	}

	if err := r.Check(r.gateSame(ctx)...); err != nil {
		return err
	}

	r.Stage("preflight", "the node already runs %s", r.res.TargetTag)
	r.res.SchematicAfter, r.res.ExtensionsAfter = r.f.system.Schematic, ExtensionNames(r.f.system.Extensions)
	r.Obs.BootIDAfter = r.f.boot.ID

	var node kube.Node

	if r.Kube != nil {
		var err error
		if node, _, err = r.Kube.Node(ctx, r.K8sName); err != nil {
			return err
		}
	}

	r.res.K8sReady, r.Known, r.res.UnmetBefore = node.Ready, r.f.unmet, r.f.unmet

	ours := node.CordonedFor(r.o.Reason)
	if r.o.DryRun || (!ours && !r.f.left) {
		r.Status, r.Obs.TalosBack = runbook.AlreadyCurrent, r.f.status.Settled()

		return nil
	}

	if err := r.lock(ctx); err != nil {
		return err
	}

	if ours {
		r.BeforeChange()
		r.Stage("uncordon", "lifting the cordon that an earlier run left")

		r.Obs.Cordoned = true
		if err := r.Uncordon(ctx); err != nil {
			return err
		}
	}

	if err := r.verify(ctx); err != nil {
		return err
	}

	r.Status = runbook.AlreadyCurrent

	return nil
}

// baseline takes over what is unmet before a disruption: what an earlier run noted, and what is unmet now.
func (r *run) baseline() {
	r.Known = slices.Clone(r.f.unmet)

	if r.f.status.Stage == "running" {
		r.Known = append(r.Known, r.f.status.Problems()...)
	}

	slices.Sort(r.Known)
	r.Known = slices.Compact(r.Known)
	r.res.UnmetBefore = r.Known
}

// gates checks all gates. All verdicts are in the result. A dry run ends here.
func (r *run) gates(ctx context.Context) error {
	r.baseline()

	verdicts, err := r.preflight(ctx)
	if err != nil {
		return err
	}

	verdicts = append(verdicts, r.gatePending())

	if r.Kube != nil && r.Options.Drain {
		budgets, err := r.GateDrain(ctx)
		if err != nil {
			return err
		}

		verdicts = append(verdicts, budgets...)
	}

	if err = r.Check(verdicts...); err != nil {
		return err
	}

	if r.o.DryRun {
		r.Stage("preflight", "%s would be upgraded from %s to %s with %s", r.Target.Name(), r.f.version.Tag, r.f.target(), r.o.Image)

		return r.Planned()
	}

	return nil
}
