package etcd

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdDowngrade(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("downgrade", "Prepare etcd for an older version", nil,
		newCmdDowngradeAct(f, etcd.DowngradeValidate, "Ask whether etcd can go down to a version",
			"Ask whether etcd can go down to a version. It changes nothing; the exit code is 3 when the answer is no."),
		newCmdDowngradeAct(f, etcd.DowngradeEnable, "Let etcd go down to a version",
			"Let etcd go down to a version: its storage is made readable for that version, and members of that version\n"+
				"may then join. Every member must be healthy (TM121). It ends when every member's storage shows it."),
		newCmdDowngradeAct(f, etcd.DowngradeCancel, "End a downgrade that was enabled",
			"End a downgrade that was enabled and not carried out. It ends when every member's storage is that of its own\n"+
				"version again, and does no harm where none was enabled."),
	)
}

func newCmdDowngradeAct(f *cmdutil.Factory, action, short, long string) *cmdutil.Cmd {
	spec := cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Admins(), OneNode: true}

	if action == etcd.DowngradeValidate {
		spec.Kind, spec.Question, spec.OneNode, spec.Default = cmdutil.Read, true, false, target.DefaultControlPlanes
	}

	ch := change[etcd.Downgrade]{
		deadline: actTimeout,
		gates:    func(r etcd.Downgrade) []gate.Verdict { return r.Gates },
		status:   func(r *etcd.Downgrade) *runbook.Status { return &r.Status },
		name:     func(r etcd.Downgrade) string { return r.ClusterVersion },
		show:     showDowngrade,
	}

	use, argument := action, ""

	if action != etcd.DowngradeCancel {
		use, argument = action+" VERSION", " 3.5"
	}

	return ch.command(f, cmdutil.Command{
		Use: use, Short: short, Long: long,
		Example: "  talosmate etcd downgrade " + action + argument + " -n cp-1\n" +
			"  talosmate etcd downgrade " + action + argument + " -n cp-1 -o json --query .result.cluster_version",
		Spec: spec,
	}, "EtcdDowngrade", func(c *cmdutil.Call) error {
		target := ""

		if len(c.Args) > 0 {
			if err := etcd.CheckDowngradeVersion(c.Args[0]); err != nil {
				return err
			}

			target = strings.TrimPrefix(c.Args[0], "v")
		}

		var node talos.Target

		ch.plan = func(ctx context.Context, env etcd.Env, v etcd.View) (etcd.Downgrade, error) {
			t, err := answering(c, v)
			if err != nil {
				return etcd.Downgrade{}, err
			}

			node = t

			return env.Prepare(ctx, v.PlanDowngrade(action, target), t)
		}
		ch.act = func(ctx context.Context, env etcd.Env, _ etcd.View, plan etcd.Downgrade) (etcd.Downgrade, error) {
			return env.Downgrade(ctx, plan, node)
		}

		return nil
	})
}

func showDowngrade(w io.Writer, r etcd.Downgrade) error {
	if _, err := fmt.Fprintf(w, "Action:   %s\nStatus:   %s\nTarget:   %s\nCluster:  %s\n\n",
		r.Action, r.Status, output.Cell(r.TargetVersion), output.Cell(r.ClusterVersion)); err != nil {
		return err
	}

	return output.WriteTable(w, []output.Column[etcd.MemberOf]{
		{Header: "MEMBER", Value: func(m etcd.MemberOf) string { return m.MemberName }},
		{Header: "ID", Value: func(m etcd.MemberOf) string { return m.ID }},
		{Header: "VERSION", Value: func(m etcd.MemberOf) string { return m.Version }},
		{Header: "STORAGE", Value: func(m etcd.MemberOf) string { return m.StorageVersion }},
	}, r.Members)
}
