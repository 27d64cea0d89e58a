package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdReset(f *cmdutil.Factory) *cmdutil.Cmd {
	a := &act{o: node.Options{Action: node.Reset}}
	a.confirm = func(targets string) string { return describeReset(a.o.Reset, targets) }

	return newCmdAct(f, cmdutil.Command{
		Use: "reset", Short: "Wipe nodes",
		Long: "Wipe nodes, one at a time and control planes last. By default the partitions STATE (the machine\n" +
			"configuration) and EPHEMERAL (images, etcd's data, everything under /var) are wiped, and with EPHEMERAL the\n" +
			"partitions ETCD, CRI, KUBELET and LOG that Talos 1.14 can have, after the node has cordoned and drained itself\n" +
			"and left etcd; --graceful=false skips that, for nodes that cannot. --system-labels names exactly what is wiped.\n" +
			"The node powers off; with --reboot it comes back, in maintenance mode once STATE is wiped.\n\n" +
			"--wipe-all wipes the whole system disk, Talos included (gate TM151).",
		Example: "  talosmate node reset -n worker-1 --reboot --delete-kubernetes-node\n" +
			"  talosmate node reset -n cp-1 --graceful=false --system-labels EPHEMERAL --reboot --override TM120 --override TM121",
		Spec: cmdutil.Spec{Kind: cmdutil.Destructive, Roles: cmdutil.Admins()},
		Flags: func(fs *cmdutil.Flags) {
			r := &a.o.Reset
			fs.BoolVar(&r.Graceful, "graceful", true, "cordon, drain and leave etcd first")
			fs.BoolVar(&r.Reboot, "reboot", false, "reboot afterwards instead of powering off")
			fs.Choice(&r.Mode, "wipe-mode", talos.WipeAll, "what to wipe", talos.WipeAll, talos.WipeSystemDisk, talos.WipeUserDisks)
			fs.StringSliceVar(&r.SystemLabels, "system-labels", []string{talos.State, talos.Ephemeral}, "partitions of the system disk to wipe")
			fs.Words("system-labels", talos.State, talos.Ephemeral, talos.Etcd, "CRI", "KUBELET", "LOG", "META")
			fs.BoolVar(&r.WholeDisk, "wipe-all", false, "wipe the whole system disk")
			fs.StringSliceVar(&r.UserDisks, "user-disks", nil, "further disks to wipe, /dev/sdb")
			fs.BoolVar(&a.o.DeleteKubernetesNode, "delete-kubernetes-node", false, "delete the Kubernetes node afterwards")
		},
		Check: func(c *cmdutil.Call) error {
			given := c.Cmd.Flags().Changed("system-labels")
			a.o.AllData = !given

			return checkReset(&a.o.Reset, given)
		},
	}, a)
}

// checkReset refuses what Talos would read in another way than it was meant.
func checkReset(r *talos.Reset, labelsGiven bool) error {
	r.SystemLabels = slices.DeleteFunc(r.SystemLabels, func(l string) bool { return strings.TrimSpace(l) == "" })

	if r.Mode == talos.WipeUserDisks && !labelsGiven {
		r.SystemLabels = nil
	}

	switch {
	case r.WholeDisk && labelsGiven:
		return errs.Usagef("give --wipe-all or --system-labels, not both")
	case r.Mode == talos.WipeUserDisks && (len(r.SystemLabels) > 0 || r.WholeDisk):
		return errs.Usagef("--wipe-mode user-disks leaves the system disk alone: omit --system-labels and --wipe-all")
	case r.Mode == talos.WipeUserDisks && len(r.UserDisks) == 0:
		return errs.Usagef("--wipe-mode user-disks wants --user-disks")
	case r.Mode == talos.WipeSystemDisk && len(r.UserDisks) > 0:
		return errs.Usagef("--wipe-mode system-disk leaves other disks alone: omit --user-disks")
	case r.Mode != talos.WipeUserDisks && !r.WholeDisk && len(r.SystemLabels) == 0:
		return errs.Usagef("an empty --system-labels would mean the whole system disk to the node").
			WithHint("name partitions, such as STATE,EPHEMERAL; for the whole disk: --wipe-all")
	}

	for i, d := range r.UserDisks {
		if !strings.HasPrefix(d, "/dev/") {
			r.UserDisks[i] = "/dev/" + d
		}
	}

	return nil
}

func describeReset(r talos.Reset, targets string) string {
	what := "the partitions " + strings.Join(r.SystemLabels, ", ")

	switch {
	case r.Mode == talos.WipeUserDisks:
		what = ""
	case r.WholeDisk:
		what = "the WHOLE system disk"
	}

	if len(r.UserDisks) > 0 {
		if what != "" {
			what += " and "
		}

		what += strings.Join(r.UserDisks, ", ")
	}

	return fmt.Sprintf("wiping %[2]s of %[1]s", targets, what)
}
