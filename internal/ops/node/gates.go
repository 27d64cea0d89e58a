package node

import (
	"context"
	"errors"
	"slices"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// gates checks all gates. All verdicts are in the result. A dry run ends here.
func (r *run) gates(ctx context.Context) error {
	busy, err := r.gateBusy(ctx)
	if err != nil {
		return err
	}

	verdicts := []gate.Verdict{r.Node.GateEndpoints(), probe.GateDiscovery(r.Node.Members, nil, r.Target.Address), busy}

	if r.o.Action == Reset && r.o.Reset.WholeDisk {
		verdicts = append(verdicts, gate.New(gate.FullWipe, gate.Refuse, r.Target.Address,
			"the whole system disk would be wiped, and Talos with it: the node does not boot again on its own").
			WithRemedy("without --wipe-all only the partitions STATE and EPHEMERAL are wiped"))
	}

	if !r.Node.ControlPlane {
		verdicts = append(verdicts, gate.New(gate.EtcdQuorum, gate.Skip, r.Target.Address, "a worker has no etcd member"))
	} else {
		view, err := r.Node.Etcd(ctx)
		if err != nil {
			return err
		}

		verdicts = append(verdicts, r.checkEtcd(view)...)
	}

	if err := r.Check(append(verdicts, r.gateKubernetes(ctx)...)...); err != nil {
		return err
	}

	if r.o.DryRun {
		r.plan()

		return r.Planned()
	}

	return nil
}

func (r *run) gateBusy(ctx context.Context) (gate.Verdict, error) {
	status, err := r.Node.Change.MachineStatus(ctx)
	if err != nil {
		return gate.Verdict{}, err
	}

	installs, err := r.Node.Change.InstallerRuns(ctx)

	return r.GateBusy(status, installs), err
}

// recheck checks again what may have changed since the gates: quorum, and whether another machine was faster.
func (r *run) recheck(ctx context.Context) error {
	if r.left {
		return nil
	}

	if _, err := r.quorum(ctx); err != nil {
		return err
	}

	busy, err := r.gateBusy(ctx)
	if err != nil {
		return err
	}

	return r.Recheck(busy)
}

func (r *run) quorum(ctx context.Context) (etcd.View, error) {
	view, err := r.AwaitQuorum(ctx, r.checkEtcd)
	if err != nil {
		r.Status = runbook.Refused
	}

	return view, err
}

// checkEtcd says what the action means for quorum.
func (r *run) checkEtcd(view etcd.View) []gate.Verdict {
	switch {
	case !r.o.resets(), r.o.Action == Reset && !r.wipesEtcd():
		return view.Check(etcd.Restart, r.Target)
	case r.o.Action == Remove, r.o.Reset.Graceful:
		return view.Check(etcd.Leave, r.Target)
	default:
		return checkWipe(view, r.Target)
	}
}

// checkWipe checks a reset that is not graceful: the member stays on the list and its data is lost, so that the
// arithmetic is that of a restart, except that the last voter with data does not come back.
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

// wipesEtcd reports whether a reset erases the member's data: it is on EPHEMERAL, or has a partition of its own. A
// graceful reset of a control plane leaves etcd whatever it wipes (Talos,
// internal/app/machined/pkg/runtime/v1alpha1/v1alpha1_sequencer.go).
func (r *run) wipesEtcd() bool {
	on := talos.Ephemeral
	if slices.Contains(r.separate, talos.Etcd) {
		on = talos.Etcd
	}

	return r.o.Reset.Graceful || r.wipesPartition(on)
}

// losesConfig reports whether a reset erases the machine configuration.
func (r *run) losesConfig() bool { return r.wipesPartition(talos.State) }

func (r *run) wipesPartition(label string) bool {
	return r.o.Reset.Mode != talos.WipeUserDisks && (r.o.Reset.WholeDisk || slices.Contains(r.o.Reset.SystemLabels, label))
}

// gateKubernetes connects where Kubernetes is needed, and checks the disruption budgets before a drain.
func (r *run) gateKubernetes(ctx context.Context) []gate.Verdict {
	node := r.Target.Address

	switch {
	case !r.o.Drain && !r.o.DeleteKubernetesNode:
		return nil
	case r.K8sName == "":
		return []gate.Verdict{gate.New(gate.KubernetesAway, gate.Skip, node, "the node is not a Kubernetes member: nothing is drained or deleted")}
	}

	// A node that Kubernetes no longer knows was deleted by an earlier run.
	if _, _, err := r.Connect(ctx, disruption.ConnectFor); err != nil && !errors.Is(err, disruption.ErrNoNode) {
		return []gate.Verdict{r.Unreachable(err)}
	}

	if !r.o.Drain {
		return []gate.Verdict{gate.New(gate.KubernetesAway, gate.Pass, node, "the Kubernetes API answers")}
	}

	verdicts, err := r.GateDrain(ctx)
	if err != nil {
		return []gate.Verdict{gate.New(gate.KubernetesAway, gate.Refuse, node, "%v", err)}
	}

	return verdicts
}
