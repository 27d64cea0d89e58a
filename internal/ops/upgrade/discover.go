package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/poll"
)

func (r *run) note(f facts) {
	r.res.API, r.res.ServerTag, r.res.RunningTag, r.res.TargetTag = f.version.API, f.version.Tag, f.version.Tag, f.target()
	r.res.BootIDBefore, r.res.BootProof, r.res.SchematicBefore, r.res.K8sNodeName = f.boot.ID, f.boot.Proof, f.system.Schematic, f.k8sName
	r.res.ExtensionsBefore = extensionNames(f.system.Extensions)
}

// discover finds the Kubernetes side of the node: its API, our own cordon and our marker from an earlier run.
func (r *run) discover(ctx context.Context, f *facts) error {
	f.readMarker(r.localNote())

	if f.k8sName == "" {
		r.stage("preflight", "the node is no Kubernetes member: cordon, drain and uncordon are skipped")

		return nil
	}

	node, err := r.awaitConnection(ctx, f.k8sName)
	if err != nil {
		if r.o.SkipDrain || !r.o.AutoReboot {
			r.stage("preflight", "the Kubernetes API cannot be reached (%v): going on without it", err)

			return nil
		}

		if r.o.Overrides.Has(gate.KubernetesAway) {
			r.verdict(gate.New(gate.KubernetesAway, gate.Overridden, r.w.Target.Address, "%v", err))

			return nil
		}

		v := gate.New(gate.KubernetesAway, gate.Refuse, r.w.Target.Address,
			"%s is a Kubernetes member and its API cannot be reached: %v", r.w.Target.Name(), err).
			WithRemedy("name a kubeconfig with --kubeconfig, or go on without cordon and drain: --skip-drain")
		r.verdict(v)
		r.res.Status = DiscoveryFailed

		return v.Refusal()
	}

	f.readMarker(node.Annotations[MarkerAnnotation])

	if f.system.Kubelet == "" {
		f.system.Kubelet = node.KubeletVersion
	}

	return nil
}

// readMarker takes a marker that was written in the boot that runs; one of another boot is spent.
func (f *facts) readMarker(text string) {
	if m, ok := parseMarker(text); ok {
		f.left = true

		if m.BootID == f.boot.ID && m.Phase != markerRequested {
			f.marker = &m
		}
	}
}

var errNoNode = errors.New("kubernetes has no node")

// awaitConnection connects. An API server that is away is given a moment, and in the middle of a cluster's
// upgrade more than that, since it may be behind the node that went before.
func (r *run) awaitConnection(ctx context.Context, name string) (node kube.Node, err error) {
	patience, told := connectFor, false

	switch {
	case r.o.SkipDrain:
		return r.connectKubernetes(ctx, name)
	case r.o.LockHeld:
		patience = insistFor
	case r.o.Overrides.Has(gate.KubernetesAway): // that it is away is known
		return r.connectKubernetes(ctx, name)
	}

	pollErr := poll.Until(ctx, "Kubernetes", insistEvery, patience, func(ctx context.Context) (bool, string, error) {
		switch node, err = r.connectKubernetes(ctx, name); {
		case err == nil:
			return true, "", nil
		case kube.Definite(err), errors.Is(err, kube.ErrNoCredentials), errors.Is(err, errNoNode), errs.ExitCode(err) == errs.Usage:
			return false, "", err
		case !told:
			told = true

			r.stage("preflight", "the Kubernetes API cannot be reached (%v): asking again for at most %s", err, patience)
		}

		return false, err.Error(), nil
	})
	if ctx.Err() != nil {
		return node, pollErr
	}

	return node, err
}

func (r *run) connectKubernetes(ctx context.Context, name string) (kube.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()

	k, source, err := r.w.Kube(ctx)
	if err != nil {
		return kube.Node{}, err
	}

	node, found, err := k.Node(ctx, name)
	if err != nil {
		return kube.Node{}, err
	}

	if !found {
		return kube.Node{}, fmt.Errorf("%w %q", errNoNode, name)
	}

	r.kube, r.res.K8sCredentials = k, source

	return node, nil
}

// alreadyCurrent ends an upgrade that has nothing to do. What an earlier run left behind is released, and
// then its verification is made up for.
func (r *run) alreadyCurrent(ctx context.Context, f facts) error {
	r.stage("preflight", "the node runs %s already", r.res.TargetTag)
	r.res.SchematicAfter, r.res.ExtensionsAfter = f.system.Schematic, extensionNames(f.system.Extensions)
	r.res.BootIDAfter = f.boot.ID

	var node kube.Node

	if r.kube != nil {
		var err error
		if node, _, err = r.kube.Node(ctx, r.res.K8sNodeName); err != nil {
			return err
		}
	}

	r.res.K8sReady = node.Ready

	ours := node.CordonedFor(r.o.Reason)
	if r.o.DryRun || (!ours && !f.left) {
		r.res.Status, r.res.TalosBack = AlreadyCurrent, f.status.Settled()

		return nil
	}

	if err := r.lock(ctx); err != nil {
		return err
	}

	if ours {
		r.beforeChange()
		r.stage("uncordon", "lifting the cordon that an earlier run left")

		r.res.Cordoned = true
		if err := r.uncordon(ctx); err != nil {
			return err
		}
	}

	if err := r.verify(ctx, f); err != nil {
		return err
	}

	r.res.Status = AlreadyCurrent

	return nil
}

func (r *run) verdict(v ...gate.Verdict) { r.res.Gates = append(r.res.Gates, v...) }

// gates asks all gates and refuses with the first that stands. All verdicts are in the result.
func (r *run) gates(ctx context.Context, f facts) error {
	verdicts, err := r.preflight(ctx, f)
	if err != nil {
		return err
	}

	verdicts = append(verdicts, r.gatePending(f))

	if r.kube != nil && r.o.AutoReboot && !r.o.SkipDrain {
		budgets, err := r.gateDrain(ctx)
		if err != nil {
			return err
		}

		verdicts = append(verdicts, budgets...)
	}

	err = gate.Apply(verdicts, r.o.Overrides)
	r.verdict(verdicts...)

	r.tell(verdicts...)

	if err != nil {
		r.res.Status = RefusedStatus
	}

	return err
}

// tell puts into words what does not simply pass.
func (r *run) tell(verdicts ...gate.Verdict) {
	for _, v := range verdicts {
		switch v.Verdict {
		case gate.Warn:
			r.stage("preflight", "warning (%s): %s", v.Gate, v.Message)
		case gate.Overridden:
			r.res.OverriddenGates = append(r.res.OverriddenGates, string(v.Gate))
			r.stage("preflight", "gate %s overridden: %s", v.Gate, v.Message)
		case gate.Pass, gate.Refuse, gate.Skip:
		}
	}
}
