package upgrade

import (
	"fmt"
	"io"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/generate"
	"github.com/talosmate/talosmate/internal/ops/kubeupgrade"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// kubernetesOptions are the command's flags.
type kubernetesOptions struct {
	to, from, talosctl, endpoint string
	prePull, kubelet             bool
}

func newCmdKubernetes(f *cmdutil.Factory) *cmdutil.Cmd {
	var o kubernetesOptions

	return cmdutil.New(f, cmdutil.Command{
		Use: "kubernetes", Short: "Upgrade Kubernetes, with talosctl as the engine", Aliases: []string{"k8s"},
		Long: "Upgrade Kubernetes on the whole cluster: first the gates (does every node's Talos run that version, do the\n" +
			"images exist, is the cluster's lock free), then talosctl's own upgrade-k8s, found on PATH or by --talosctl.\n" +
			"What it says becomes progress events and the steps of the result, and its exit code is kept.\n\n" +
			"-n names the control plane node to work through; the first one by default. With --dry-run talosctl says what\n" +
			"it would do.",
		Example: "  talosmate upgrade kubernetes --to v1.35.4 --dry-run\n" +
			"  talosmate upgrade kubernetes --to v1.35.4 --talosctl ./talosctl -o json --query .result.updated",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Admins(), Named: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVar(&o.to, "to", "", "Kubernetes `version`")
			fs.Words("to", "v"+generate.DefaultKubernetesVersion())
			fs.StringVar(&o.from, "from", "", "the `version` that runs (default: talosctl finds it)")
			fs.StringVar(&o.talosctl, "talosctl", "", "the talosctl `program` (default: the one on PATH)")
			fs.StringVar(&o.endpoint, "kubernetes-endpoint", "", "Kubernetes `endpoint` for talosctl, in place of the cluster's own")
			fs.BoolVar(&o.prePull, "pre-pull-images", true, "pull the images before the first component is touched")
			fs.BoolVar(&o.kubelet, "upgrade-kubelet", true, "upgrade the kubelets too")
			fs.Bool("check-images", true, "ask the registries whether the images exist")
		},
	}, cmdutil.ResultOf[kubeupgrade.Result]("UpgradeKubernetesResult"), func(c *cmdutil.Call) error { return runKubernetes(c, o) })
}

func runKubernetes(c *cmdutil.Call, o kubernetesOptions) error {
	if !release.Same(o.to, o.to) {
		return errs.Usagef("--to wants a Kubernetes version").WithHint("%s", c.Again("--to", "v1.35.4"))
	}

	talosctl, err := kubeupgrade.FindTalosctl(o.talosctl)
	if err != nil {
		return err
	}

	fleet, _, err := Fleet(c, "talosmate upgrade kubernetes")
	if err != nil {
		return err
	}

	for _, m := range fleet.Members { // talosctl changes all of them
		if err = c.Permit(m.Target()); err != nil {
			return err
		}
	}

	node, err := throughNode(c, fleet.Members)
	if err != nil {
		return err
	}

	file, remove, err := c.TalosconfigFile()
	if err != nil {
		return err
	}
	defer remove()

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	res, err := kubeupgrade.Run(c.Context(), fleet, kubeupgrade.Options{
		To: o.to, Talosctl: talosctl, DryRun: c.DryRun, Overrides: c.Overrides, BeforeChange: c.Begin,
		Arguments: []string{
			"--talosconfig", file, "--context", cluster.Context.Name, "--endpoints", strings.Join(cluster.Endpoints(), ","), "--nodes", node,
		},
		Extra: o.extra(),
	}, c.Progress())

	return cmdutil.PrintResult(c, res, err, string(res.Status), showKubernetes)
}

// throughNode is the control plane node that talosctl works through.
func throughNode(c *cmdutil.Call, members []talos.Member) (string, error) {
	if c.Selection().Explicit() {
		targets, err := c.Targets()
		if err != nil {
			return "", err
		}

		if len(targets.Nodes) != 1 || !target.IsControlPlane(members, targets.Nodes[0]) {
			return "", errs.Usagef("-n wants one control plane node to work through")
		}

		return targets.Nodes[0].Address, nil
	}

	for _, m := range members {
		if m.Type == target.ControlPlane {
			return m.Node, nil
		}
	}

	return "", errs.Usagef("discovery knows no control plane node").WithHint("%s", c.Again("-n", "NODE"))
}

func (o kubernetesOptions) extra() []string {
	var out []string

	if o.from != "" {
		out = append(out, "--from", strings.TrimPrefix(o.from, "v"))
	}

	if o.endpoint != "" {
		out = append(out, "--endpoint", o.endpoint)
	}

	return append(out, fmt.Sprintf("--pre-pull-images=%t", o.prePull), fmt.Sprintf("--upgrade-kubelet=%t", o.kubelet))
}

func showKubernetes(w io.Writer, r kubeupgrade.Result) error {
	fmt.Fprintf(w, "Kubernetes %s -> %s: %s, %d updates, %s\n", output.Cell(output.Line(r.From)), r.To, r.Status, len(r.Updated), output.Seconds(r.ElapsedSeconds))

	for _, u := range r.Updated {
		fmt.Fprintf(w, "  %s\n", output.Line(u))
	}

	showGates(w, rollout.Plan{Gates: r.Gates})

	if r.DryRun {
		for _, s := range r.Steps {
			fmt.Fprintf(w, "  %s\n", output.Line(strings.TrimSpace(s.Node+" "+s.Message)))
		}
	}

	return nil
}
