package node

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdRemove(f *cmdutil.Factory) *cobra.Command {
	a := &act{
		use: "remove", short: "Take nodes out of the cluster for good",
		long: "Take nodes out of the cluster for good, one at a time and control planes last: the Kubernetes node is\n" +
			"cordoned and drained, the etcd member of a control plane leaves behind the quorum gates, the partitions\n" +
			"STATE and EPHEMERAL are wiped, and the Kubernetes node is deleted once the machine is off (with --reboot:\n" +
			"in maintenance mode, ready for `node add`). A second run goes on where the first was broken off.\n\n" +
			"A control plane that does not answer any more is replaced: `talosmate node replace`.",
		example: "  talosmate node remove -n worker-2\n" +
			"  talosmate node remove -n cp-3 --reboot --yes -o json --query '.items[].etcd.voters_after'",
		spec:  cmdutil.Spec{Kind: cmdutil.Destructive, Roles: cmdutil.Admins()},
		waits: true,
	}
	a.o = removal()
	a.flags = func(fs *pflag.FlagSet) {
		fs.DurationVar(&a.o.DrainTimeout, "drain-timeout", a.o.DrainTimeout, "how long all evictions together may take")
		fs.BoolVar(&a.o.Reset.Reboot, "reboot", false, "reboot into maintenance mode afterwards instead of powering off")
	}
	a.confirm = func(targets string) string {
		return "taking " + targets + " out of the cluster and wiping its partitions STATE, EPHEMERAL"
	}

	return newCmdAct(f, a)
}

// removal is what a node is removed with. The reset is not graceful: what that would do is done before, where
// its failures show.
func removal() node.Options {
	return node.Options{
		Action: node.Remove, Drain: true, DrainTimeout: drainTimeout, Wait: true, DeleteKubernetesNode: true,
		Reset: talos.Reset{Mode: talos.WipeAll, SystemLabels: []string{"STATE", "EPHEMERAL"}},
	}
}
