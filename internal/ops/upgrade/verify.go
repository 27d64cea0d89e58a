package upgrade

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// verify proves that the node is what it should be: version, schematic, stage, etcd, Kubernetes.
func (r *run) verify(ctx context.Context) error {
	r.Stage("verify", "verifying the node, for at most %s", r.o.ReadyTimeout)

	if err := r.compareVersion(ctx); err != nil {
		return err
	}

	if err := r.AwaitSettled(ctx); err != nil {
		return err
	}

	var system talos.System

	if err := r.Prober.Await(ctx, "the system", r.o.ReadyTimeout, func(ctx context.Context, n probe.API) (err error) {
		system, err = n.System(ctx)

		return err
	}); err != nil {
		return r.Unverified(ctx, err)
	}

	r.Obs.TalosBack = true
	r.res.SchematicAfter, r.res.ExtensionsAfter = system.Schematic, ExtensionNames(system.Extensions)

	if err := r.compareSystem(); err != nil {
		return err
	}

	if err := r.AwaitEtcd(ctx); err != nil {
		return err
	}

	if err := r.awaitKubernetes(ctx); err != nil {
		return err
	}

	if err := errors.Join(r.recordVerified(ctx), r.mark(ctx, "")); err != nil {
		r.Stage("verify", "%v", err)
	}

	return nil
}

func (r *run) compareVersion(ctx context.Context) error {
	version, err := r.Version(ctx, nil)
	if err != nil {
		return err
	}

	r.Obs.RunningTag = version.Tag

	switch {
	case release.Same(version.Tag, r.f.target()):
		return nil
	case release.Same(version.Tag, r.f.version.Tag):
		r.Rec.Hint = r.whyBack()
		// The pending install is used up: the boot loader has gone back.
		if err := r.mark(ctx, ""); err != nil {
			r.Stage("verify", "%v", err)
		}

		return r.Fail(runbook.RolledBack, "the node came back on %s instead of %s", version.Tag, r.f.target())
	default:
		return r.Fail(runbook.VerifyFailed, "the node runs %s instead of %s", version.Tag, r.f.target())
	}
}

// whyBack says why a node came back on what it ran before: the new system did not boot, or the old one could not shut down
// and Talos reverted the boot loader before the new one ever ran (Talos, internal/app/machined/revert.go). The node's own
// word tells them apart, where it was heard.
func (r *run) whyBack() string {
	const shutdown = "find what held the shutdown (a mount of NFS or iSCSI that is stuck, a volume), then run the same command again"

	if text := r.SequenceError(); text != "" {
		return "the new system never ran: the old one failed to shut down (" + text + ") and Talos reverted the boot loader; " + shutdown
	}

	return "either the new system did not boot and the node fell back: see its console and `" + errs.CommandLine("dmesg", "-n", r.Target.Name()) + "`; or the old one failed to shut down and Talos reverted the boot loader: see `" + errs.CommandLine("logs", "machined", "-n", r.Target.Name()) + "`, " + shutdown
}

func (r *run) compareSystem() error {
	before, image := r.f.system, r.f.image

	want, told := image.Schematic, !r.f.opaque() // a stock image has none

	if told && r.res.SchematicAfter != want && r.res.SchematicAfter == before.Schematic && r.Obs.Rebooted {
		r.Rec.Hint = r.whyBack()

		return r.Fail(runbook.RolledBack, "the node came back with its previous schematic %q", r.res.SchematicAfter)
	}

	if told && r.res.SchematicAfter != want {
		r.Rec.Hint = "the node lost its schematic; roll it back with `" + errs.CommandLine("node", "rollback", "-n", r.Target.Name()) + "`, or install the right image"

		return r.Fail(runbook.VerifyFailed, "the schematic is %q instead of %q", r.res.SchematicAfter, want)
	}

	if image.Schematic != "" && image.Schematic != before.Schematic || slices.Contains(r.Rec.OverriddenGates, string(gate.ExtensionsLost)) {
		return nil // another schematic was wanted, and with it other extensions
	}

	for _, e := range before.Extensions {
		if !slices.ContainsFunc(r.res.ExtensionsAfter, func(after string) bool { return ExtensionName(after) == e.Name }) {
			r.Rec.Hint = "the node lost an extension; roll it back with `" + errs.CommandLine("node", "rollback", "-n", r.Target.Name()) + "`, or install the right image"

			return r.Fail(runbook.VerifyFailed, "the extension %s is missing", e.Name)
		}
	}

	return nil
}

// ExtensionName is the name in NAME VERSION.
func ExtensionName(nameVersion string) string {
	name, _, _ := strings.Cut(nameVersion, " ")

	return name
}

func (r *run) awaitKubernetes(ctx context.Context) error {
	if err := r.AwaitKubernetes(ctx); err != nil {
		r.res.K8sReadyError = err.Error()

		return err
	}

	r.res.K8sReady = r.Kube != nil && !r.WasNotReady()

	return nil
}
