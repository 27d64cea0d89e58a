package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// newBootAnswers begins the message of the moment when a node is back.
const newBootAnswers = "a new boot answers"

// awaitBoot waits until the node proves a new boot.
func (r *run) awaitBoot(ctx context.Context, f facts, asked time.Time) error {
	r.stage("wait", "waiting for a new boot, for at most %s", r.o.RebootTimeout)

	seen, err := r.seen.AwaitNew(ctx, f.boot, asked, r.o.RebootTimeout)
	if err != nil {
		return r.notRebooted(ctx, err)
	}

	r.res.Rebooted, r.res.BootIDAfter = true, seen.Boot.ID
	r.res.DowntimeSeconds += seconds(seen.Downtime)
	r.left = f.boot
	r.stage("wait", newBootAnswers+" after %.1f s", r.w.Now().Sub(asked).Seconds())

	// The cordon goes now, whatever comes: a node that is not Ready gets no pods anyway.
	if r.keep != nil && r.res.Cordoned {
		if err := r.uncordon(ctx); err != nil {
			r.stage("uncordon", "%v: trying again at the end", err)
		} else {
			r.keep()
		}
	}

	return nil
}

// notRebooted phrases a wait for a new boot that ended without one.
func (r *run) notRebooted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}

	r.res.WaitError = err.Error()

	if errors.Is(err, boot.ErrNotBegun) || r.seen.StillDoubted(ctx) {
		r.res.Status = UnknownStatus
		r.res.Hint = "the request to reboot seems not to have reached the node, and was not sent again; look at the node, then run the same command again"

		return fmt.Errorf("cannot upgrade %s: the answer to the reboot was lost, and the node still runs its old boot: %w", r.w.Target.Name(), err)
	}

	r.res.Hint = "look at the node's console; our cordon was lifted, the node is not drained any more"

	return r.fail(DidNotReturn, "%w", err)
}

// verify looks that the node is what it should be: version, schematic, stage, etcd, Kubernetes.
func (r *run) verify(ctx context.Context, f facts) error {
	r.stage("verify", "looking what came up, for at most %s", r.o.ReadyTimeout)

	if err := r.awaitVersion(ctx, f); err != nil {
		return err
	}

	system, err := r.awaitSettled(ctx)
	if err != nil {
		return err
	}

	r.res.TalosBack = true
	r.res.SchematicAfter, r.res.ExtensionsAfter = system.Schematic, extensionNames(system.Extensions)

	if err := r.compareSystem(f); err != nil {
		return err
	}

	if err := r.awaitEtcd(ctx); err != nil {
		return err
	}

	if err := r.awaitKubernetes(ctx); err != nil {
		return err
	}

	if err := r.mark(ctx, ""); err != nil {
		r.stage("verify", "%v", err)
	}

	r.res.Status = OK

	return nil
}

func (r *run) readVersion(ctx context.Context) (talos.Version, error) {
	var version talos.Version

	err := poll.Until(ctx, "the version of "+r.w.Target.Name(), boot.VerifyPoll, r.o.ReadyTimeout, func(ctx context.Context) (bool, string, error) {
		return r.seen.Ask(ctx, func(ctx context.Context, n Node) (string, bool, error) {
			var err error

			version, err = n.Version(ctx)

			return "", err == nil, err
		})
	})
	if err != nil {
		return version, r.unverified(ctx, err)
	}

	return version, nil
}

func (r *run) awaitVersion(ctx context.Context, f facts) error {
	version, err := r.readVersion(ctx)
	if err != nil {
		return err
	}

	r.res.RunningTag = version.Tag

	switch {
	case release.Same(version.Tag, f.target()):
		return nil
	case release.Same(version.Tag, f.version.Tag):
		r.res.Hint = "the new version did not boot and the node fell back by itself; see its console and `talosmate dmesg`"
		// The pending install is spent: the boot loader has gone back.
		if err := r.mark(ctx, ""); err != nil {
			r.stage("verify", "%v", err)
		}

		return r.fail(RolledBack, "the node came back on %s instead of %s", version.Tag, f.target())
	default:
		return r.fail(VerifyFailed, "the node runs %s instead of %s", version.Tag, f.target())
	}
}

func (r *run) awaitSettled(ctx context.Context) (talos.System, error) {
	var system talos.System

	err := poll.Until(ctx, r.w.Target.Name()+" to be settled", boot.VerifyPoll, r.o.ReadyTimeout, func(ctx context.Context) (bool, string, error) {
		return r.seen.Ask(ctx, func(ctx context.Context, n Node) (string, bool, error) {
			status, err := n.MachineStatus(ctx)
			if err != nil || !status.Settled() {
				return status.String(), false, err
			}

			system, err = n.System(ctx)

			return "", err == nil, err
		})
	})
	if err != nil {
		return system, r.unverified(ctx, err)
	}

	return system, nil
}

func (r *run) unverified(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}

	return r.fail(VerifyFailed, "%w", err)
}

func (r *run) compareSystem(f facts) error {
	want := f.system.Schematic
	if f.image.Schematic != "" {
		want = f.image.Schematic
	}

	if f.image.Factory() && r.res.SchematicAfter != want && r.res.SchematicAfter == f.system.Schematic && r.res.Rebooted {
		r.res.Hint = "the new system did not boot and the node fell back by itself; see its console and `talosmate dmesg`"

		return r.fail(RolledBack, "the node came back with its previous schematic %q", r.res.SchematicAfter)
	}

	if f.image.Factory() && r.res.SchematicAfter != want {
		r.res.Hint = "the node lost its schematic; roll it back with `talosmate node rollback`, or install the right image"

		return r.fail(VerifyFailed, "the schematic is %q instead of %q", r.res.SchematicAfter, want)
	}

	if f.image.Schematic != "" && f.image.Schematic != f.system.Schematic {
		return nil // another schematic was wanted, and with it other extensions
	}

	for _, e := range f.system.Extensions {
		if !slices.ContainsFunc(r.res.ExtensionsAfter, func(after string) bool { return extensionName(after) == e.Name }) && !slices.Contains(r.res.OverriddenGates, "TM133") {
			r.res.Hint = "the node lost an extension; roll it back with `talosmate node rollback`, or install the right image"

			return r.fail(VerifyFailed, "the extension %s is missing", e.Name)
		}
	}

	return nil
}

func extensionName(nameVersion string) string {
	for i, c := range nameVersion {
		if c == ' ' {
			return nameVersion[:i]
		}
	}

	return nameVersion
}

func (r *run) awaitEtcd(ctx context.Context) error {
	if !r.w.ControlPlane {
		return nil
	}

	if err := boot.AwaitEtcd(ctx, r.w.Target, r.w.Etcd, r.o.ReadyTimeout); err != nil {
		return r.unverified(ctx, err)
	}

	return nil
}

func (r *run) awaitKubernetes(ctx context.Context) error {
	if r.kube == nil {
		return nil
	}

	if err := boot.AwaitKubernetes(ctx, r.kube, r.res.K8sNodeName, boot.Other(r.left), r.o.ReadyTimeout); err != nil {
		r.res.K8sReadyError = err.Error()

		return r.unverified(ctx, err)
	}

	r.res.K8sReady = true

	return nil
}
