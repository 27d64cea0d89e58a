package node

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdRemove(f *cmdutil.Factory) *cmdutil.Cmd {
	a := &act{o: removal(), waits: true}
	a.find = func(c *cmdutil.Call, cluster *talos.Cluster) {
		if a.o.Dead {
			cluster.Elsewhere = inKubernetes(c)
		}
	}
	a.confirm = func(targets string) string {
		if a.o.Dead {
			return "taking " + targets + " out of the cluster as dead, without wiping"
		}

		return "taking " + targets + " out of the cluster and wiping its partitions STATE, EPHEMERAL"
	}

	return newCmdAct(f, cmdutil.Command{
		Use: "remove", Short: "Take nodes out of the cluster for good",
		Long: "Take nodes out of the cluster for good, one at a time and control planes last: the Kubernetes node is\n" +
			"cordoned and drained, the etcd member of a control plane leaves behind the quorum gates, the partitions\n" +
			"STATE and EPHEMERAL (with ETCD, CRI, KUBELET and LOG) are wiped, and the Kubernetes node is deleted once the\n" +
			"machine is off (with --reboot: in maintenance mode, ready for `node add`). A second run continues where the first\n" +
			"was interrupted.\n\n" +
			"With --dead a node that is gone for good, and cannot be asked any more, is taken out without it: its etcd\n" +
			"member is removed and its Kubernetes node deleted; it is neither drained nor wiped. That it is dead is not\n" +
			"believed at once (TM149): Kubernetes must have given its kubelet up, its Talos API be silent for a while,\n" +
			"and the member of a control plane be unhealthy. A dead control plane is better replaced: `talosmate node replace`.",
		Example: "  talosmate node remove -n worker-2\n" +
			"  talosmate node remove -n cp-3 --reboot --yes -o json --query '.items[].etcd.voters_after'\n" +
			"  talosmate node remove -n worker-2 --dead --yes",
		Spec: cmdutil.Spec{Kind: cmdutil.Destructive, Roles: cmdutil.Admins()},
		Flags: func(fs *cmdutil.Flags) {
			fs.Drain(&a.o.DrainTimeout, &a.o.Volumes)
			fs.BoolVar(&a.o.Dead, "dead", false, "the node is gone for good: take it out of etcd and Kubernetes without it")
			fs.BoolVar(&a.o.Reset.Reboot, "reboot", false, "reboot into maintenance mode afterwards instead of powering off")
		},
		Check: func(*cmdutil.Call) error {
			if a.o.Dead && a.o.Reset.Reboot {
				return errs.Usagef("--reboot is for a node that answers: --dead excludes it")
			}

			return nil
		},
	}, a)
}

// removal is what a node is removed with. The reset is not graceful: what that would do is done before, where
// its failures show.
func removal() node.Options {
	return node.Options{
		Options: disruption.Options{Drain: true, Wait: true},
		Action:  node.Remove, DeleteKubernetesNode: true, AllData: true,
		Reset: talos.Reset{Mode: talos.WipeAll, SystemLabels: []string{talos.State, talos.Ephemeral}},
	}
}

// inKubernetes finds by the name of its Kubernetes node what discovery has forgotten, half an hour after it was
// heard of last.
func inKubernetes(c *cmdutil.Call) func(context.Context, string) (talos.Target, bool, error) {
	return func(ctx context.Context, name string) (talos.Target, bool, error) {
		k, err := c.Kubernetes(ctx)
		if err != nil {
			return talos.Target{}, false, err
		}

		nodes, err := k.Nodes(ctx)
		if err != nil {
			return talos.Target{}, false, err
		}

		n, ok := probe.FindNode(nodes, talos.Target{Hostname: name}, "")
		if !ok || len(n.Addresses) == 0 {
			return talos.Target{}, false, nil
		}

		return talos.Target{Address: n.Addresses[0], Addresses: n.Addresses, Hostname: n.Name}, true, nil
	}
}
