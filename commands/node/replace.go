package node

import (
	"context"
	"fmt"
	"io"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/join"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdReplace(f *cmdutil.Factory) *cmdutil.Cmd {
	var (
		o       = &joinOptions{}
		with    string
		removal = removal()
	)

	return cmdutil.New(f, cmdutil.Command{
		Use: "replace OLD", Short: "Replace a lost control plane by a new machine",
		Long: "Replace a lost control plane by a machine in maintenance mode: the old member is removed from\n" +
			"etcd, its Kubernetes node is deleted, and the new machine joins as `node add` does it. OLD is a hostname, an\n" +
			"address or an etcd member ID. The voters are counted at every step and stand in the result.\n\n" +
			"Everything is checked before the old one is touched: quorum without it and with the new one, whether the\n" +
			"configuration is this cluster's, and whether the new machine takes it. An old one that still answers is\n" +
			"drained and wiped as by `node remove`; one whose member is healthy is refused (TM122): add the new one\n" +
			"first and remove the old one then, so that there is never a voter less.",
		Example: "  talosmate node replace cp-3 --with 10.0.0.14 -f controlplane.yaml --dry-run\n" +
			"  talosmate node replace cp-3 --with 10.0.0.14 -f controlplane.yaml --yes -o json --query '.result.voters[] | .step + \" \" + (.voters | tostring)'",
		Spec: cmdutil.Spec{Kind: cmdutil.Destructive, Roles: cmdutil.Admins(), Named: true},
		Flags: func(fs *cmdutil.Flags) {
			o.flags(fs)
			o.Wait = true
			fs.StringVar(&with, "with", "", "the `ADDRESS` of the new machine, which is in maintenance mode")
			fs.Drain(&removal.DrainTimeout, &removal.Volumes)
			silenceFlag(fs, &removal)
		},
		Complete: cmdutil.CompleteFrom(etcdMembers),
	}, cmdutil.ResultOf[join.Replacement]("NodeReplaceResult"), func(c *cmdutil.Call) error { return o.replace(c, with, removal) })
}

func (o *joinOptions) replace(c *cmdutil.Call, with string, removal node.Options) error {
	if with == "" {
		return errs.Usagef("--with is missing").WithHint("%s", c.Again("--with", "ADDRESS"))
	}

	text, err := o.text(c)
	if err != nil {
		return err
	}

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	if c.Selection().Explicit() {
		return errs.Usagef("the nodes are OLD and --with: --nodes and similar flags are not allowed")
	}

	machine, err := o.machine(c, talos.Target{Address: with})
	if err != nil {
		return err
	}

	old, err := join.NewOld(c.Context(), cluster, machine, c.Args[0], c.ConnectKubernetes)
	if err == nil {
		err = c.Permit(old.Target)
	}

	if err != nil {
		return err
	}

	old.Removal = removal
	old.Removal.RebootTimeout, old.Removal.ReadyTimeout = o.RebootTimeout, o.ReadyTimeout
	o.DryRun, o.Overrides, o.BeforeChange = c.DryRun, c.Overrides, c.BeginChange

	exchange, err := join.Plan(c.Context(), machine, old, text, o.Options)
	if errs.ExitCode(err) == errs.Usage {
		return err
	}

	res := exchange.Result()

	if err == nil && !c.DryRun {
		what := fmt.Sprintf("taking %s out of etcd for good, and %s in", old.Target.Name(), with)
		if err = c.Confirm(what, old.Target.Name()); err != nil {
			return err
		}

		res, err = exchange.Run(c.Context())
	}

	return cmdutil.PrintResult(c, res, err, res.NodeName(), showReplaced)
}

// etcdMembers completes OLD.
func etcdMembers(ctx context.Context, n *talos.Node) ([]string, error) {
	list, err := n.EtcdMembers(ctx, false)

	return lists.Map(list, func(m talos.EtcdMember) string { return cmdutil.Described(m.MemberName, m.ID) }), err
}

func showReplaced(w io.Writer, r join.Replacement) error {
	member := "-"
	if r.Etcd != nil {
		member = string(r.Etcd.Status)
	}

	_, err := fmt.Fprintf(w, "Old:         %s, member %s\nNew:         %s, %s\nStatus:      %s\nEtcd:        %s\nKubernetes:  %s\nTook:        %s\n",
		output.Line(r.NodeName()), member, output.Line(r.New.NodeName()), r.New.Status, r.Status, describeVoters(r.Voters),
		output.Cell(r.New.K8sNodeName), output.Seconds(r.ElapsedSeconds))

	return err
}
