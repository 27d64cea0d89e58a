package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/drain"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// nameOfSilent finds the Kubernetes node of a machine that does not answer.
func nameOfSilent(ctx context.Context, k *kube.Client, t talos.Target, silent error) (string, error) {
	nodes, err := k.Nodes(ctx)
	if err != nil {
		return "", err
	}

	n, found := probe.FindNode(nodes, t, "")
	if !found {
		return "", silent
	}

	return n.Name, nil
}

const scheduleLong = "Nodes are named as everywhere else, by address, Talos hostname or Kubernetes name. Kubernetes is reached\n" +
	"with --kubeconfig, else with the admin kubeconfig from the Talos API (os:admin), else with your own current one."

func newCmdCordon(f *cmdutil.Factory) *cmdutil.Cmd {
	return newCmdSchedule(f, drain.Options{}, "cordon", "Keep new pods off nodes",
		"Keep new pods off nodes. The cordon is yours: no command lifts it but `node uncordon`.",
		"  talosmate node cordon -n worker-1\n"+
			"  talosmate node cordon --workers --dry-run -o json --query '.items[].unschedulable'", nil)
}

func newCmdUncordon(f *cmdutil.Factory) *cmdutil.Cmd {
	return newCmdSchedule(f, drain.Options{Schedulable: true}, "uncordon", "Let new pods onto nodes again",
		"Let new pods onto nodes again, whoever cordoned them.",
		"  talosmate node uncordon -n worker-1\n"+
			"  talosmate node uncordon --workers -o json --query '.items[] | select(.changed) | .k8s_node_name'", nil)
}

func newCmdDrain(f *cmdutil.Factory) *cmdutil.Cmd {
	o := drain.Options{Evict: true}

	return newCmdSchedule(f, o, "drain", "Cordon nodes and evict their pods",
		"Cordon nodes and evict their pods, with kubectl's own drain library and talosctl's policy: unmanaged pods\n"+
			"too, emptyDir data is lost, DaemonSets stay. Disruption budgets that hold a pod are listed before; one that\n"+
			"can never be met is refused (TM140). Then the volumes of the pods must be detached. An interrupt lifts the\n"+
			"cordon again; a drain that fails leaves it.",
		"  talosmate node drain -n worker-1 --drain-timeout 10m\n"+
			"  talosmate node drain -n worker-1 --dry-run -o json --query '.items[].blockers'",
		func(fs *cmdutil.Flags, o *drain.Options) { fs.Drain(&o.Timeout, &o.Volumes) })
}

func newCmdSchedule(f *cmdutil.Factory, o drain.Options, use, short, long, example string, flags func(*cmdutil.Flags, *drain.Options)) *cmdutil.Cmd {
	return cmdutil.NewNodeChange(f, cmdutil.Command{
		Use: use, Short: short, Long: long + "\n\n" + scheduleLong, Example: example,
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Readers()},
		Flags: func(fs *cmdutil.Flags) {
			if flags != nil {
				flags(fs, &o)
			}
		},
		Check: func(c *cmdutil.Call) error {
			cluster, err := c.Cluster()
			if err == nil {
				cluster.Elsewhere = inKubernetes(c)
			}

			return err
		},
	}, "NodeScheduleList", cmdutil.NodeChange[drain.Change]{
		Before: func(c *cmdutil.Call) error {
			members, err := c.Members()
			o.Nodes = len(members)

			return err
		},
		Begun: func(r drain.Change) bool { return r.K8sNodeName != "" },
		Columns: []output.Column[drain.Change]{
			{Header: "KUBERNETES NODE", Value: func(r drain.Change) string { return r.K8sNodeName }},
			{Header: "STATUS", State: true, Value: func(r drain.Change) string { return string(r.Status) }},
			{Header: "CORDONED", Value: func(r drain.Change) string { return output.YesNo(r.Unschedulable) }},
			{Header: "PODS MOVED", Value: func(r drain.Change) string { return fmt.Sprint(r.DrainedPods) }},
			{Header: "HELD BY", Value: func(r drain.Change) string {
				return lists.Join(r.Blockers, ", ", func(b kube.Blocker) string { return b.Budget })
			}},
			{Header: "TOOK", Wide: true, Value: func(r drain.Change) string { return output.Seconds(r.ElapsedSeconds) }},
		},
		Name: func(r drain.Change) string { return r.K8sNodeName },
	}, func(ctx context.Context, c *cmdutil.Call, n *talos.Node) (drain.Change, error) {
		name, err := n.KubernetesName(ctx)
		if err != nil && (ctx.Err() != nil || !conn.Transient(err)) {
			return drain.Change{}, err
		}

		silent := err

		if name == "" && silent == nil {
			return drain.Change{}, errs.New(errs.Failed, "cannot %s %s: the node is not a Kubernetes member", use, n.Name())
		}

		k, err := c.Kubernetes(c.Context())
		if err != nil {
			return drain.Change{}, drain.Unreachable(n.Address, errors.Join(silent, err))
		}

		if silent != nil {
			if name, err = nameOfSilent(ctx, k, n.Target, silent); err != nil {
				return drain.Change{}, err
			}
		}

		own := o
		own.Overrides, own.DryRun = c.Overrides, c.DryRun

		res, err := drain.Schedule(ctx, k, n.Target, name, own, c.Progress())
		res.K8sCredentials = k.Source

		return res, err
	})
}
