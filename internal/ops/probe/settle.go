// Package probe observes nodes: which boot a node is in, by every way that reaches it; whether it rebooted, powered
// off, settled; whether its etcd member votes and its Kubernetes node is Ready. Events are not used: a stream of events
// ends with the node that sends it. Every operation that waits for a node waits here.
package probe

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos"
)

// EtcdMinimum is the shortest deadline for etcd: a member may have to catch up with what it missed.
const EtcdMinimum = 2 * time.Minute

// Await asks the node a question until it is answered without an error.
func (p Prober) Await(ctx context.Context, what string, deadline time.Duration, question func(context.Context, API) error) error {
	return poll.Until(ctx, what+" of "+p.Name, VerifyPoll, deadline, func(ctx context.Context) (bool, string, error) {
		return p.Ask(ctx, func(ctx context.Context, n API) (string, bool, error) {
			err := question(ctx, n)

			return "", err == nil, err
		})
	})
}

// AwaitSettled waits until the machine runs with nothing unmet but problems that are known from before
// (talos.MachineStatus.SettledBut).
func (p Prober) AwaitSettled(ctx context.Context, deadline time.Duration, known ...string) error {
	return poll.Until(ctx, p.Name+" to be settled", VerifyPoll, deadline, func(ctx context.Context) (bool, string, error) {
		return p.Ask(ctx, func(ctx context.Context, n API) (string, bool, error) {
			status, err := n.MachineStatus(ctx)

			return status.String(), err == nil && status.SettledBut(known), err
		})
	})
}

// AwaitEtcd waits until the node's etcd member votes and knows a leader.
func AwaitEtcd(ctx context.Context, t talos.Target, look func(context.Context) (etcd.View, error), deadline time.Duration) error {
	return poll.Until(ctx, "etcd on "+t.Name(), VerifyPoll, max(deadline, EtcdMinimum), func(ctx context.Context) (bool, string, error) {
		view, err := look(ctx)
		if err != nil {
			return false, err.Error(), nil
		}

		m, ok := view.MemberOn(t)

		switch {
		case !ok:
			return false, "the node is not an etcd member", nil
		case m.Learner:
			return false, "the member is a learner", nil
		case !m.Healthy:
			return false, "the member knows no leader", nil
		default:
			return true, "", nil
		}
	})
}

// AwaitKubernetes waits until a Kubernetes node is Ready in another boot than before; the zero Boot accepts any. A
// kubelet reports the boot that it runs in, so that a Ready from before the reboot does not count.
func AwaitKubernetes(ctx context.Context, k Kube, name string, before talos.Boot, deadline time.Duration) error {
	return poll.Until(ctx, "Kubernetes node "+name+" to be Ready", VerifyPoll, deadline, func(ctx context.Context) (bool, string, error) {
		node, found, err := k.Node(ctx, name)

		switch {
		case err != nil:
			return false, err.Error(), nil
		case !found:
			return false, "Kubernetes does not know the node", nil
		case before.Proof == "boot_id" && node.BootID != "" && node.BootID == before.ID: // only a kernel's boot ID is comparable
			return false, "the kubelet has not reported the new boot", nil
		default:
			return node.Ready, node.ReadyMessage, nil
		}
	})
}

// GateSettled refuses a node that is not healthy before what is to be done to it (TM161).
func (n *Node) GateSettled(status talos.MachineStatus, what string) gate.Verdict {
	if status.Settled() {
		return gate.New(gate.UnmetBefore, gate.Pass, n.Target.Address, "the node is healthy: %s", status)
	}

	return gate.New(gate.UnmetBefore, gate.Refuse, n.Target.Address, "the node is not healthy: %s", status).
		WithRemedy("wait until it is: otherwise nothing shows what the %s breaks", what)
}
