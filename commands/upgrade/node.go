package upgrade

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/output"
)

func newCmdNode(f *cmdutil.Factory) *cmdutil.Cmd {
	var o upgrade.Options

	return cmdutil.New(f, cmdutil.Command{
		Use: "node", Short: "Upgrade one node and prove it",
		Long: "Upgrade one node: preflight, pull, cordon, drain, install, reboot, wait, verify, uncordon. Both of\n" +
			"Talos's upgrade APIs are used as the node has them (before 1.13 install and reboot are one request).\n\n" +
			"A failed pull disturbs nothing; a failed drain leaves nothing installed and the node uncordoned; a failed\n" +
			"install uncordons and does not reboot. The end is proved: a new boot, the wanted version and schematic,\n" +
			"nothing unmet, etcd healthy, the Kubernetes node Ready. A node that fell back to its old version is exit\n" +
			"code 8, one that did not come back 9.",
		Example: "  talosmate upgrade node -n worker-1 --image factory.talos.dev/metal-installer/SCHEMATIC:v1.14.1\n" +
			"  talosmate upgrade node -n cp-1 --image REF --dry-run -o json --query '.result.gates[] | select(.verdict == \"refuse\")'",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Admins(), OneNode: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVar(&o.Image, "image", "", "installer image, with a version tag")
			fs.BoolVar(&o.InstallOnly, "install-only", false, "install now and do not reboot (Talos 1.13 and newer)")
			fs.Negated("auto-reboot", "install-only")
			fs.BoolVar(&o.Wait, "wait", true, "wait for the node and verify it")
			fs.BoolVar(&o.Drain, "drain", true, "cordon and drain the Kubernetes node first")
			fs.Negated("skip-drain", "drain")
			fs.Positive(&o.PullTimeout, "pull-timeout", 15*time.Minute, "how long a node's pull of the image may take")
			fs.Positive(&o.InstallTimeout, "install-timeout", 30*time.Minute, "how long a node's install may take")
			fs.Drain(&o.DrainTimeout, &o.Volumes)
			fs.Bool("check-images", true, "ask the registry whether the image exists, before a node is found to run it")
			fs.RebootMode(&o.RebootMode)
			fs.Positive(&o.RebootTimeout, "reboot-timeout", 15*time.Minute, "how long the node may take to boot")
			fs.Positive(&o.ReadyTimeout, "ready-timeout", 10*time.Minute, "how long the node may take to be healthy after the boot")
		},
	}, cmdutil.ResultOf[upgrade.Result]("UpgradeNodeResult"), func(c *cmdutil.Call) error { return runNode(c, o) })
}

func drainFlag(fs *cmdutil.Flags, skip *bool) {
	fs.Inverse(skip, "drain", "cordon and drain the Kubernetes node first")
	fs.Negated("skip-drain", "drain")
}

func runNode(c *cmdutil.Call, o upgrade.Options) error {
	if o.Image == "" {
		return errs.Usagef("--image is missing").WithHint("%s", c.Again("--image", "factory.talos.dev/metal-installer/SCHEMATIC:v1.14.1"))
	}

	targets, err := c.Targets()
	if err != nil {
		return err
	}

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	connect, holder := c.Kubernetes, kube.ThisHolder("talosmate upgrade node")

	members, err := cluster.Members(c.Context())
	if err != nil {
		return err
	}

	n := probe.Nodes(c.Context(), cluster, members, c.ConnectKubernetes)(targets.Nodes[0])
	n.Notes, n.Locks = notes(c), notes(c)
	o.Overrides, o.DryRun, o.BeforeChange, o.Lock = c.Overrides, c.DryRun, c.BeginChange, locker(c, connect, holder)

	if o.Digest, err = digests(c); err != nil {
		return err
	}

	o.Reason = holder.Reason(upgrade.Purpose(), "to "+o.Image)

	res, err := upgrade.Run(c.Context(), n, o, c.Progress())

	return cmdutil.PrintResult(c, res, err, string(res.Status), showNode)
}

func showNode(w io.Writer, r upgrade.Result) error {
	fmt.Fprintf(w, "%s: %s\n", output.Line(cmp.Or(r.Hostname, r.Node)), r.Status)

	rows := [][2]string{
		{"version", r.Way()},
		{"image", cmp.Or(r.PulledImage, r.Image)},
		{"boot", r.BootIDBefore + " -> " + r.BootIDAfter},
		{"kubernetes", kubernetesLine(r)},
		{"downtime", output.Seconds(r.DowntimeSeconds)},
		{"elapsed", output.Seconds(r.ElapsedSeconds)},
	}

	for _, row := range rows {
		fmt.Fprintf(w, "  %-11s %s\n", row[0]+":", output.Cell(row[1]))
	}

	for _, g := range r.Gates {
		if g.Notable() {
			fmt.Fprintf(w, "  %-11s %s %s\n", g.Gate+":", g.Verdict, output.Line(g.Message))
		}
	}

	return nil
}

func kubernetesLine(r upgrade.Result) string {
	if r.K8sNodeName == "" {
		return "not a member"
	}

	return fmt.Sprintf("%s, ready: %s, %d pods drained", r.K8sNodeName, output.YesNo(r.K8sReady), r.DrainedPods)
}
