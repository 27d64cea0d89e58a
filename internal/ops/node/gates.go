package node

import (
	"context"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/ops/drain"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/talos"
)

// gates asks all gates and refuses with the first that stands. All verdicts are in the result.
func (r *run) gates(ctx context.Context) error {
	verdicts := []gate.Verdict{boot.GateEndpoints(r.w.Target, r.w.Endpoints, r.w.VirtualIPs)}

	busy, err := r.gateBusy(ctx)
	if err != nil {
		return err
	}

	verdicts = append(verdicts, busy)

	if r.o.Action == Reset && r.o.Reset.WholeDisk {
		verdicts = append(verdicts, gate.New(gate.FullWipe, gate.Refuse, r.w.Target.Address,
			"the whole system disk would be wiped, and Talos with it: the node does not boot again by itself").
			WithRemedy("without --wipe-all only the partitions STATE and EPHEMERAL are wiped"))
	}

	quorum, err := r.gateEtcd(ctx)
	if err != nil {
		return err
	}

	verdicts = append(verdicts, quorum...)
	verdicts = append(verdicts, r.gateKubernetes(ctx)...)

	err = gate.Apply(verdicts, r.o.Overrides)
	r.res.Gates = append(r.res.Gates, verdicts...)
	r.tell(verdicts)

	if err != nil {
		r.res.Status = Refused
	}

	return err
}

func (r *run) tell(verdicts []gate.Verdict) {
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

// gateBusy keeps the sequencer of the node from being asked for a second thing: Talos answers yes and then
// forgets it.
func (r *run) gateBusy(ctx context.Context) (gate.Verdict, error) {
	node := r.w.Target.Address

	status, err := r.w.Change.MachineStatus(ctx)
	if err != nil {
		return gate.Verdict{}, err
	}

	if boot.Busy(status) {
		return gate.New(gate.InstallRunning, gate.Refuse, node, "the node is busy: %s", status).WithRemedy("wait until it is running again"), nil
	}

	return gate.New(gate.InstallRunning, gate.Pass, node, "the node is not busy: %s", status), nil
}

// gateEtcd says what the action means for quorum.
func (r *run) gateEtcd(ctx context.Context) ([]gate.Verdict, error) {
	if !r.w.ControlPlane {
		return []gate.Verdict{gate.New(gate.EtcdQuorum, gate.Skip, r.w.Target.Address, "a worker has no etcd member")}, nil
	}

	view, err := r.w.Etcd(ctx)
	if err != nil {
		return nil, err
	}

	return r.checkEtcd(view), nil
}

func (r *run) checkEtcd(view etcd.View) []gate.Verdict {
	if !r.o.resets() || (r.o.Action == Reset && !r.wipesEtcd()) {
		return view.Check(etcd.Restart, r.w.Target)
	}

	if r.o.Action == Remove || r.o.Reset.Graceful {
		return view.Check(etcd.Leave, r.w.Target)
	}

	return checkWipe(view, r.w.Target)
}

// checkWipe gates a reset that is not graceful: the member stays on the list and its data is gone for good,
// so that the arithmetic is a restart's, except that the last voter with data does not come back.
func checkWipe(view etcd.View, t talos.Target) []gate.Verdict {
	verdicts := view.Check(etcd.Restart, t)

	m, ok := view.MemberOn(t)
	if !view.Known || !ok || m.Learner || !m.Healthy {
		return verdicts
	}

	for _, other := range view.Members {
		if !other.Learner && other.ID != m.ID {
			return verdicts
		}
	}

	return append(verdicts, gate.New(gate.LastVoter, gate.Refuse, t.Address, "%s is the last voting member: without it there is no etcd and no data", t.Name()).
		WithRemedy("take a snapshot and add another control plane node first"))
}

// wipesEtcd says whether a reset takes the member's data: it lives on EPHEMERAL. A graceful reset of a
// control plane leaves etcd whatever it wipes (Talos, internal/app/machined/pkg/runtime/v1alpha1/v1alpha1_sequencer.go).
func (r *run) wipesEtcd() bool {
	if r.o.Reset.Graceful {
		return true
	}

	if r.o.Reset.Mode == talos.WipeUserDisks {
		return false
	}

	return r.o.Reset.WholeDisk || slices.Contains(r.o.Reset.SystemLabels, "EPHEMERAL")
}

// quorumAgain asks etcd once more: a drain took its time.
func (r *run) quorumAgain(ctx context.Context) error {
	if !r.w.ControlPlane || !r.o.Drain || r.left {
		return nil
	}

	view, err := r.w.Etcd(ctx)
	if err != nil {
		return err
	}

	verdicts := r.checkEtcd(view)
	if err = gate.Apply(verdicts, r.o.Overrides); err != nil {
		r.res.Gates = append(r.res.Gates, verdicts...)
		r.res.Status = Refused
	}

	return err
}

// gateKubernetes connects where Kubernetes is needed, and looks at the budgets before a drain.
func (r *run) gateKubernetes(ctx context.Context) []gate.Verdict {
	node := r.w.Target.Address

	switch {
	case !r.o.Drain && !r.o.DeleteKubernetesNode:
		return nil
	case r.res.K8sNodeName == "":
		return []gate.Verdict{gate.New(gate.KubernetesAway, gate.Skip, node, "the node is no Kubernetes member: nothing is drained or deleted")}
	}

	kctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()

	k, err := r.w.Kube(kctx)
	if err == nil {
		_, _, err = k.Node(kctx, r.res.K8sNodeName)
	}

	if err != nil {
		return []gate.Verdict{gate.New(gate.KubernetesAway, gate.Refuse, node, "%s is a Kubernetes member and its API cannot be reached: %v", r.w.Target.Name(), err).
			WithRemedy("name a kubeconfig with --kubeconfig, or leave the drain away")}
	}

	r.kube = k

	if !r.o.Drain {
		return []gate.Verdict{gate.New(gate.KubernetesAway, gate.Pass, node, "the Kubernetes API answers")}
	}

	verdicts, possible, err := drain.Gates(ctx, k, r.res.K8sNodeName, node, r.w.Nodes)
	if err != nil {
		return []gate.Verdict{gate.New(gate.KubernetesAway, gate.Refuse, node, "%v", err)}
	}

	r.o.Drain = possible

	return verdicts
}
