package join

import (
	"context"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// New returns a machine that is to join a cluster. fingerprint pins its certificate in maintenance mode, empty for none.
func New(ctx context.Context, c *talos.Cluster, t talos.Target, fingerprint string, k probe.Connect, sink progress.Sink) (Candidate, error) {
	members, err := c.Members(ctx)
	if err != nil {
		return Candidate{}, err
	}

	nodes := probe.Nodes(ctx, c, members, k)
	at := func(t talos.Target) *probe.Node {
		n := nodes(t)
		n.Change = n.Read // the machine is not an endpoint
		n.Bare = func() (probe.API, probe.Close) { return c.Bare(t, fingerprint) }

		return n
	}

	return Candidate{
		Node: at(t), Sink: sink, At: at, Relist: c.Relist,
		Alive:     func(ctx context.Context, t talos.Target) bool { return probe.Alive(ctx, c, t) },
		Reference: func(ctx context.Context) ([]byte, error) { return reference(ctx, c, members, t) },
	}, nil
}

// reference reads the machine configuration of a control plane that answers.
func reference(ctx context.Context, c *talos.Cluster, members []talos.Member, not talos.Target) ([]byte, error) {
	err := error(errs.New(errs.Failed, "no control plane is known whose configuration could be compared"))

	for _, m := range members {
		if m.Type != target.ControlPlane || m.Is(not) {
			continue
		}

		limited, cancel := context.WithTimeout(ctx, 2*probe.Limit)
		text, readErr := c.Node(m.Target()).MachineConfig(limited)

		cancel()

		if readErr == nil || ctx.Err() != nil {
			return text, readErr
		}

		err = readErr
	}

	return nil, err
}

// NewOld finds the control plane that is to be replaced by its hostname, address or member ID.
func NewOld(ctx context.Context, c *talos.Cluster, m Candidate, name string, k probe.Connect) (Old, error) {
	view, err := m.Etcd(ctx)
	if err != nil {
		return Old{}, err
	}

	if !view.Known {
		return Old{}, errs.New(errs.Failed, "cannot read the etcd members: %w", view.Err(false)).WithHint("talosmate etcd status")
	}

	member, err := view.FindMember(name)
	if err != nil {
		return Old{}, err
	}

	old := Old{Member: member, View: view, Target: talos.Target{Address: member.Node, Hostname: member.Name, Type: target.ControlPlane}}

	for _, known := range m.Members {
		if known.Target().Has(member.Node) {
			old.Target = known.Target()
		}
	}

	old.Remove = func(ctx context.Context, o node.Options) (node.Result, error) {
		return node.Run(ctx, probe.Nodes(ctx, c, m.Members, k)(old.Target), o, m.Sink)
	}
	old.RemoveMember = func(ctx context.Context, v etcd.View, plan etcd.MembershipChange, begin func()) (etcd.MembershipChange, error) {
		env := etcd.Env{
			Access: etcd.Through(c), Now: m.Now, Progress: m.Sink, Begin: begin, Settle: runbook.ShownWithin, Deadline: runbook.AnswerWithin,
		}

		return env.Remove(ctx, v, plan, nil)
	}

	return old, nil
}
