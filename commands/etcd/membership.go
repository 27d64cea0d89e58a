package etcd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

const (
	actTimeout = time.Minute
	// The node repeats etcd's refusal of an unhealthy cluster for up to five minutes.
	leaveTimeout = 6 * time.Minute
)

func newCmdRemoveMember(f *cmdutil.Factory) *cmdutil.Cmd {
	ch := membershipChange(actTimeout)

	return ch.command(f, cmdutil.Command{
		Use: "remove-member ID|HOSTNAME", Short: "Remove a dead member from etcd",
		Long: "Remove a member from etcd, named by its hostname, its node's address or its ID in hex or decimal. It is\n" +
			"meant for members that are gone: a healthy one needs --override TM122 (it can leave on its own), the last\n" +
			"voting member is never removed, and quorum is counted as it would be afterwards. -n names the node to\n" +
			"ask; without it a healthy member is chosen.",
		Example: "  talosmate etcd remove-member cp-3 --dry-run\n" +
			"  talosmate etcd remove-member 8e9e05c52164694d --yes",
		Spec:     cmdutil.Spec{Kind: cmdutil.Destructive, Roles: cmdutil.Admins(), Named: true},
		Complete: cmdutil.CompleteFrom(memberNames),
	}, "EtcdMemberRemoval", func(c *cmdutil.Call) error {
		ch.plan = func(_ context.Context, _ etcd.Env, v etcd.View) (etcd.MembershipChange, error) {
			m, err := v.FindMember(c.Args[0])
			if err == nil {
				err = c.Permit(talos.Target{Address: m.Node, Hostname: m.Name})
			}

			if err != nil {
				return etcd.MembershipChange{}, err
			}

			return v.PlanRemove(m), nil
		}
		ch.confirm = func(r etcd.MembershipChange) (string, string) {
			return fmt.Sprintf("Removing etcd member %s (%s)", r.Member.ID, r.Member.MemberName), subject(r)
		}
		ch.act = func(ctx context.Context, env etcd.Env, v etcd.View, plan etcd.MembershipChange) (etcd.MembershipChange, error) {
			if !c.Selection().Explicit() {
				return env.Remove(ctx, v, plan, nil)
			}

			targets, err := c.Targets()
			if err != nil {
				return plan, err
			}

			return env.Remove(ctx, v, plan, &targets.Nodes[0])
		}

		return nil
	})
}

func newCmdLeave(f *cmdutil.Factory) *cmdutil.Cmd {
	ch := membershipChange(leaveTimeout)
	ch.confirm = func(r etcd.MembershipChange) (string, string) {
		return fmt.Sprintf("Taking %s out of etcd and removing its data", subject(r)), subject(r)
	}

	return newCmdOwnMember(f, &ch, cmdutil.Destructive, "EtcdLeave", cmdutil.Command{
		Use: "leave", Short: "Make a node's member leave etcd",
		Long: "Make a node's member leave etcd. The member's data is removed and etcd stops on the node. Quorum is\n" +
			"counted as it would be afterwards; the last voting member never leaves.",
		Example: "  talosmate etcd leave -n cp-3 --dry-run\n" +
			"  talosmate etcd leave -n cp-3 --yes -o json --query .result.leader_after.member_name",
	}, func(v etcd.View, m etcd.Member) (etcd.MembershipChange, error) { return v.PlanLeave(m), nil }, etcd.Env.Leave)
}

func newCmdForfeit(f *cmdutil.Factory) *cmdutil.Cmd {
	ch := membershipChange(actTimeout)

	return newCmdOwnMember(f, &ch, cmdutil.Change, "EtcdForfeitLeadership", cmdutil.Command{
		Use: "forfeit-leadership", Short: "Make a node's member hand over leadership",
		Long: "Make a node's member hand over leadership, and wait until another one is seen to lead. A member that\n" +
			"does not lead is left alone (status unchanged).",
		Example: "  talosmate etcd forfeit-leadership -n cp-1\n" +
			"  talosmate etcd forfeit-leadership -n cp-1 -o json --query .result.leader_after.member_name",
	}, etcd.View.PlanForfeit, etcd.Env.Forfeit)
}

// newCmdOwnMember makes a command about the member of the one node that it names.
func newCmdOwnMember(
	f *cmdutil.Factory, ch *change[etcd.MembershipChange], kind cmdutil.Kind, schema string, d cmdutil.Command,
	plan func(etcd.View, etcd.Member) (etcd.MembershipChange, error),
	act func(etcd.Env, context.Context, etcd.MembershipChange, talos.Target) (etcd.MembershipChange, error),
) *cmdutil.Cmd {
	d.Spec = cmdutil.Spec{Kind: kind, Roles: cmdutil.Admins(), OneNode: true}

	return ch.command(f, d, schema, func(c *cmdutil.Call) error {
		var node talos.Target

		ch.plan = func(_ context.Context, _ etcd.Env, v etcd.View) (etcd.MembershipChange, error) {
			targets, err := c.Targets()
			if err != nil {
				return etcd.MembershipChange{}, err
			}

			node = targets.Nodes[0]

			m, err := v.NodeMember(node)
			if err == nil && !m.Healthy {
				err = answers(c, node)
			}

			if err != nil {
				return etcd.MembershipChange{}, err
			}

			return plan(v, m)
		}
		ch.act = func(ctx context.Context, env etcd.Env, _ etcd.View, planned etcd.MembershipChange) (etcd.MembershipChange, error) {
			return act(env, ctx, planned, node)
		}

		return nil
	})
}

// answers asks a node whose member is not healthy for its version: only the node itself can carry out the request.
func answers(c *cmdutil.Call, node talos.Target) error {
	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	if _, err = cluster.Node(node).Version(c.Context()); conn.Transient(err) {
		err = errs.New(errs.ExitCode(err), "%w", err).WithHint("the others can remove the member of a dead node: talosmate etcd remove-member %s", node.Name())
	}

	return err
}

func membershipChange(deadline time.Duration) change[etcd.MembershipChange] {
	return change[etcd.MembershipChange]{
		deadline: deadline,
		gates:    func(r etcd.MembershipChange) []gate.Verdict { return r.Gates },
		status:   func(r *etcd.MembershipChange) *runbook.Status { return &r.Status },
		name:     func(r etcd.MembershipChange) string { return r.Member.ID },
		show:     showMembership,
	}
}

func waitFlag(fs *cmdutil.Flags, to *time.Duration) {
	fs.Positive(to, "wait-timeout", 30*time.Second, "how long to wait until the cluster shows the result")
}

// subject is what has to be typed to confirm.
func subject(r etcd.MembershipChange) string {
	return cmp.Or(r.Member.MemberName, r.Member.ID)
}

func memberNames(ctx context.Context, n *talos.Node) ([]string, error) {
	list, err := n.EtcdMembers(ctx, false)

	out := make([]string, 0, 2*len(list))
	for _, m := range list {
		out = append(out, cmdutil.Described(m.ID, m.MemberName))

		if m.MemberName != "" {
			out = append(out, cmdutil.Described(m.MemberName, m.ID))
		}
	}

	return out, err
}

func showMembership(w io.Writer, r etcd.MembershipChange) error {
	_, err := fmt.Fprintf(w, "Action:  %s\nStatus:  %s\nMember:  %s %s\nVoters:  %d -> %d (quorum %d)\nLeader:  %s\n",
		r.Action, r.Status, output.Line(r.Member.MemberName), r.Member.ID, r.VotersBefore, r.VotersAfter, r.QuorumAfter,
		leaders(r.LeaderBefore, r.LeaderAfter))

	return err
}

func leaders(before, after *etcd.MemberRef) string {
	name := func(m *etcd.MemberRef) string {
		if m == nil {
			return "-"
		}

		return output.Cell(m.MemberName)
	}

	if after == nil {
		return name(before)
	}

	return name(before) + " -> " + name(after)
}
