package etcd

import (
	"cmp"
	"errors"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdMembers(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "members", Aliases: []string{"member", "member-list"}, Short: "List the etcd members and who lists them",
		Long: "List the etcd members, one row a member. Every chosen control plane is asked for the list of its own\n" +
			"member; a list that differs from the cluster's is an error (exit code 3), and listed_by and missing_on\n" +
			"say who knows which member.",
		Example: "  talosmate etcd members\n" +
			"  talosmate etcd members -o json --query '.items[] | select(.learner) | .id'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.EtcdReaders(), Default: target.DefaultControlPlanes},
	}, cmdutil.ListOf[etcd.ListedMember]("EtcdMemberList"), func(c *cmdutil.Call) error {
		v, _, err := viewOf(c, asGiven)
		if err != nil {
			return err
		}

		return cmdutil.PrintList(c, v.ListedMembers(), errors.Join(v.Err(false, etcd.PartMembers), v.Consistent()), []output.Column[etcd.ListedMember]{
			{Header: "NODE", Value: func(m etcd.ListedMember) string { return cmp.Or(m.Hostname, m.Node) }},
			{Header: "ADDRESS", Wide: true, Value: func(m etcd.ListedMember) string { return m.Node }},
			{Header: "ID", Value: func(m etcd.ListedMember) string { return m.ID }},
			{Header: "NAME", Value: func(m etcd.ListedMember) string { return m.MemberName }},
			{Header: "LEARNER", Value: func(m etcd.ListedMember) string { return output.YesNo(m.Learner) }},
			{Header: "PEER URLS", Value: func(m etcd.ListedMember) string { return strings.Join(m.PeerURLs, ",") }},
			{Header: "CLIENT URLS", Wide: true, Value: func(m etcd.ListedMember) string { return strings.Join(m.ClientURLs, ",") }},
			{Header: "MISSING ON", Value: func(m etcd.ListedMember) string { return strings.Join(m.MissingOn, ",") }},
		}, func(m etcd.ListedMember) string { return m.ID })
	})
}
