package join

import (
	"context"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// NewWorld looks at a cluster from the side of a machine that is to join it. fingerprint pins the machine's
// certificate in maintenance mode, empty for none. The caller closes what it returns.
func NewWorld(ctx context.Context, c *talos.Cluster, t talos.Target, fingerprint string, k func(context.Context) (Kube, error), sink progress.Sink) (*World, func() error, error) {
	members, err := c.Members(ctx)
	if err != nil {
		return nil, nil, err
	}

	o := c.Options
	o.Insecure, o.Fingerprint = true, fingerprint

	bare, err := talos.NewCluster(nil, "--insecure", o)
	if err != nil {
		return nil, nil, err
	}

	w := &World{
		Target: t, Members: members, Kube: k, Now: time.Now, Sink: sink, Via: c.Node(t),
		Bare:      func() (Bare, func() error) { return bare.Fresh(t) },
		Fresh:     func() (Machine, func() error) { return c.Fresh(t) },
		Etcd:      func(ctx context.Context) (etcd.View, error) { return etcd.Look(ctx, c) },
		Alive:     func(ctx context.Context, t talos.Target) bool { return alive(ctx, c, t) },
		Reference: func(ctx context.Context) ([]byte, error) { return reference(ctx, c, members, t) },
	}

	return w, bare.Close, nil
}

// alive says whether a node's Talos API answers, by either way; a refusal is an answer.
func alive(ctx context.Context, c *talos.Cluster, t talos.Target) bool {
	ctx, cancel := context.WithTimeout(ctx, boot.ProbeLimit)
	defer cancel()

	_, err := c.Node(t).Version(ctx)

	return err == nil || (talos.KindOf(err) != "" && !talos.Transient(err))
}

// reference reads the machine configuration of a control plane that answers.
func reference(ctx context.Context, c *talos.Cluster, members []talos.Member, not talos.Target) ([]byte, error) {
	err := error(errs.New(errs.Failed, "no control plane is known whose configuration could be compared"))

	for _, m := range members {
		if m.Type != target.ControlPlane || m.Node == not.Address || slices.Contains(m.Addresses, not.Address) {
			continue
		}

		limited, cancel := context.WithTimeout(ctx, 2*boot.ProbeLimit)
		text, readErr := c.Node(m.Target()).MachineConfig(limited)

		cancel()

		if readErr == nil || ctx.Err() != nil {
			return text, readErr
		}

		err = readErr
	}

	return nil, err
}

// NewOld finds the control plane that is to go by its hostname, address or member ID.
func NewOld(ctx context.Context, c *talos.Cluster, w *World, name string, k func(context.Context) (node.Kube, error)) (Old, error) {
	view, err := w.Etcd(ctx)
	if err != nil {
		return Old{}, err
	}

	if !view.Known {
		return Old{}, errs.New(errs.Failed, "cannot read the etcd members: %w", view.Err(false)).WithHint("without a leader etcd lists no members; see `talosmate etcd status`")
	}

	m, err := view.FindMember(name)
	if err != nil {
		return Old{}, err
	}

	old := Old{Member: m, View: view, Target: talos.Target{Address: m.Node, Hostname: m.Name, Type: target.ControlPlane}}

	for _, known := range w.Members {
		if known.Node == m.Node || slices.Contains(known.Addresses, m.Node) {
			old.Target = known.Target()
		}
	}

	old.Remove = func(ctx context.Context, o node.Options) (node.Result, error) {
		worlds, err := node.Worlds(ctx, c, []talos.Target{old.Target}, k)
		if err != nil {
			return node.Result{}, err
		}

		return node.Run(ctx, worlds[0], o, w.Sink)
	}
	old.RemoveMember = func(ctx context.Context, v etcd.View, plan etcd.MembershipChange, begin func()) (etcd.MembershipChange, error) {
		env := etcd.Env{
			Access: etcd.Through(c), Now: w.Now, Progress: w.Sink, Begin: begin, Settle: runbook.ShownWithin, Deadline: runbook.AnswerWithin,
		}

		return env.Remove(ctx, v, plan, nil)
	}

	return old, nil
}
