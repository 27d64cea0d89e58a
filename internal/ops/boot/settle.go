package boot

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos"
)

// EtcdMinimum is what etcd gets at least: it may have to catch up with what it missed.
const EtcdMinimum = 2 * time.Minute

// Machine also tells its state; *talos.Node is one.
type Machine interface {
	Booter
	MachineStatus(ctx context.Context) (talos.MachineStatus, error)
}

// AwaitSettled waits until the machine runs with nothing unmet (talos.MachineStatus.Settled).
func AwaitSettled[N Machine](ctx context.Context, w Witness[N], deadline time.Duration) error {
	return poll.Until(ctx, w.Name+" to be settled", VerifyPoll, deadline, func(ctx context.Context) (bool, string, error) {
		return w.Ask(ctx, func(ctx context.Context, n N) (string, bool, error) {
			status, err := n.MachineStatus(ctx)

			return status.String(), err == nil && status.Settled(), err
		})
	})
}

// AwaitEtcd waits until the node's member votes and knows a leader.
func AwaitEtcd(ctx context.Context, t talos.Target, look func(context.Context) (etcd.View, error), deadline time.Duration) error {
	return poll.Until(ctx, "etcd on "+t.Name(), VerifyPoll, max(deadline, EtcdMinimum), func(ctx context.Context) (bool, string, error) {
		view, err := look(ctx)
		if err != nil {
			return false, err.Error(), nil
		}

		m, ok := view.MemberOn(t)

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
}

// KubeNodes reads Kubernetes nodes; *kube.Client is one.
type KubeNodes interface {
	Node(ctx context.Context, name string) (kube.Node, bool, error)
}

// AwaitKubernetes waits until a Kubernetes node is Ready in a boot that counts: a Ready of before the reboot
// does not, and the kubelet reports the boot that it runs in.
func AwaitKubernetes(ctx context.Context, k KubeNodes, name string, counts func(bootID string) bool, deadline time.Duration) error {
	return poll.Until(ctx, "Kubernetes node "+name+" to be Ready", VerifyPoll, deadline, func(ctx context.Context) (bool, string, error) {
		node, found, err := k.Node(ctx, name)

		switch {
		case err != nil:
			return false, err.Error(), nil
		case !found:
			return false, "Kubernetes does not know the node", nil
		case !counts(node.BootID):
			return false, "the kubelet has not reported the new boot", nil
		default:
			return node.Ready, node.ReadyMessage, nil
		}
	})
}

// Other gives the rule of AwaitKubernetes: any boot but the one before. Only a kernel's boot ID can be held
// against what the kubelet reports, and a kubelet that reports none is believed.
func Other(before talos.Boot) func(string) bool {
	return func(reported string) bool {
		return before.Proof != "boot_id" || reported == "" || reported != before.ID
	}
}
