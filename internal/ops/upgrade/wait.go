package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/engine"
	"github.com/talosmate/talosmate/internal/talos"
)

const (
	bootPoll    = 250 * time.Millisecond
	verifyPoll  = 500 * time.Millisecond
	probeLimit  = 3 * time.Second
	etcdMinimum = 2 * time.Minute // etcd may have to catch up with what it missed.
)

// awaitBoot waits until the node proves a new boot. It asks directly over fresh connections and by way of
// the endpoints, whichever answers: an endpoint backs off towards a node that was away.
func (r *run) awaitBoot(ctx context.Context, f facts, asked time.Time) error {
	r.stage("wait", "waiting for a new boot, for at most %s", r.o.RebootTimeout)

	lastUp, back := asked, false

	err := engine.Poll(ctx, "a new boot of "+r.w.Target.Name(), bootPoll, r.o.RebootTimeout, func(ctx context.Context) (bool, string, error) {
		boot, err := r.probe(ctx, f.boot.Proof)

		switch {
		case err != nil:
			return false, "the node does not answer", nil
		case boot.ID == f.boot.ID:
			lastUp = r.w.Now()

			return false, "the node still runs its old boot", nil
		default:
			r.res.BootIDAfter, back = boot.ID, true

			return true, "", nil
		}
	})
	if err != nil && ctx.Err() != nil {
		return err
	}

	if !back {
		r.res.WaitError = err.Error()

		if r.res.AnswerLost && r.stillOldBoot(ctx, f) {
			// The node never went away: the request was not carried out, or not yet.
			r.res.Hint = "the node did not reboot; look at it before you ask again"

			r.res.Status = UnknownStatus

			return fmt.Errorf("cannot upgrade %s: the answer to the reboot was lost and the node still runs its old boot: %w", r.w.Target.Name(), err)
		}

		r.res.Hint = "look at the node's console; our cordon was lifted, the node is not drained any more"

		return r.fail(DidNotReturn, "%w", err)
	}

	r.res.Rebooted = true
	r.res.DowntimeSeconds = r.w.Now().Sub(lastUp).Seconds()
	r.stage("wait", "a new boot answers after %.1f s", r.w.Now().Sub(asked).Seconds())

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

func (r *run) stillOldBoot(ctx context.Context, f facts) bool {
	boot, err := r.probe(ctx, f.boot.Proof)

	return err == nil && boot.ID == f.boot.ID
}

// probe reads the boot by both ways at once and takes the first answer with the wanted proof.
func (r *run) probe(ctx context.Context, proof string) (talos.Boot, error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()

	type answer struct {
		boot talos.Boot
		err  error
	}

	fresh, hangUp := r.w.Fresh()
	answers := make(chan answer, 2)

	for _, n := range []Node{fresh, r.w.Change} {
		go func() {
			boot, err := n.Boot(ctx)
			if err == nil && boot.Proof != proof {
				err = fmt.Errorf("the boot can only be told by %s", boot.Proof)
			}

			answers <- answer{boot, err}
		}()
	}

	first := <-answers
	if first.err != nil {
		second := <-answers
		first = answer{second.boot, errors.Join(first.err, second.err)}

		if second.err == nil {
			first.err = nil
		}
	}

	return first.boot, errors.Join(first.err, hangUp())
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

func (r *run) awaitVersion(ctx context.Context, f facts) error {
	var version talos.Version

	err := engine.Poll(ctx, "the version of "+r.w.Target.Name(), verifyPoll, r.o.ReadyTimeout, func(ctx context.Context) (bool, string, error) {
		return r.ask(ctx, func(ctx context.Context, n Node) (string, bool, error) {
			var err error

			version, err = n.Version(ctx)

			return "", err == nil, err
		})
	})
	if err != nil {
		return r.unverified(ctx, err)
	}

	r.res.RunningTag = version.Tag

	switch {
	case talos.SameVersion(version.Tag, f.target()):
		return nil
	case talos.SameVersion(version.Tag, f.version.Tag):
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

	err := engine.Poll(ctx, r.w.Target.Name()+" to be settled", verifyPoll, r.o.ReadyTimeout, func(ctx context.Context) (bool, string, error) {
		return r.ask(ctx, func(ctx context.Context, n Node) (string, bool, error) {
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

// ask puts one question to the node, directly or by way of the endpoints. An answer that does not come is
// no failure as long as the deadline has not passed.
func (r *run) ask(ctx context.Context, question func(context.Context, Node) (saw string, done bool, err error)) (bool, string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()

	saw, done, err := question(ctx, r.w.Change)
	if err == nil {
		return done, saw, nil
	}

	fresh, hangUp := r.w.Fresh()
	defer func() { _ = hangUp() }() // the connection served its one question

	freshCtx, cancelFresh := context.WithTimeout(context.WithoutCancel(ctx), probeLimit)
	defer cancelFresh()

	saw, done, err = question(freshCtx, fresh)
	if err != nil {
		return false, err.Error(), nil
	}

	return done, saw, nil
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

	err := engine.Poll(ctx, "etcd on "+r.w.Target.Name(), verifyPoll, max(r.o.ReadyTimeout, etcdMinimum), func(ctx context.Context) (bool, string, error) {
		view, err := r.w.Etcd(ctx)
		if err != nil {
			return false, err.Error(), nil
		}

		m, ok := view.MemberOn(r.w.Target)

		switch {
		case !ok:
			return false, "the node is no etcd member", nil
		case m.Learner:
			return false, "the member is a learner", nil
		case !m.Healthy:
			return false, "the member knows no leader", nil
		default:
			return true, "", nil
		}
	})
	if err != nil {
		return r.unverified(ctx, err)
	}

	return nil
}

func (r *run) awaitKubernetes(ctx context.Context) error {
	if r.kube == nil {
		return nil
	}

	err := engine.Poll(ctx, "Kubernetes node "+r.res.K8sNodeName+" to be Ready", verifyPoll, r.o.ReadyTimeout, func(ctx context.Context) (bool, string, error) {
		node, found, err := r.kube.Node(ctx, r.res.K8sNodeName)

		switch {
		case err != nil:
			return false, err.Error(), nil
		case !found:
			return false, "Kubernetes does not know the node", nil
		default:
			return node.Ready && r.sameBoot(node.BootID), node.ReadyMessage, nil
		}
	})
	if err != nil {
		r.res.K8sReadyError = err.Error()

		return r.unverified(ctx, err)
	}

	r.res.K8sReady = true

	return nil
}

// sameBoot keeps a Ready of before the reboot from counting: the kubelet reports the boot that it runs in.
func (r *run) sameBoot(reported string) bool {
	return r.res.BootProof != "boot_id" || reported == "" || reported != r.res.BootIDBefore
}
