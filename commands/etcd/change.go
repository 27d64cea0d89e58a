package etcd

import (
	"context"
	"io"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/talos"
)

// change is the shape of every act on etcd: look at the whole cluster, plan, gates, confirmation, act, report.
type change[T any] struct {
	settle, deadline time.Duration

	plan    func(context.Context, etcd.Env, etcd.View) (T, error)
	gates   func(T) []gate.Verdict
	status  func(*T) *string
	confirm func(T) (action, subject string) // Nil for what is not destructive.
	act     func(context.Context, etcd.Env, etcd.View, T) (T, error)
	name    func(T) string
	show    func(io.Writer, T) error
}

func (ch change[T]) run(c *cmdutil.Call) error {
	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	env := etcd.Env{
		Access: etcd.Through(cluster), Now: c.Printer.Now, Progress: c.Progress(), Begin: c.BeginChange, Settle: ch.settle, Deadline: ch.deadline,
	}

	v, err := env.Access.Look(c.Context())
	if err != nil {
		return err
	}

	result, err := ch.plan(c.Context(), env, v)
	if err != nil {
		return err
	}

	if err = gate.Apply(ch.gates(result), c.Overrides); err != nil {
		*ch.status(&result) = etcd.StatusRefused

		return cmdutil.PrintResult(c, result, err, ch.name(result), ch.show)
	}

	for _, verdict := range ch.gates(result) {
		if verdict.Verdict == gate.Warn {
			c.Warn("%s: %s", verdict.Gate, verdict.Message)
		}
	}

	if *ch.status(&result) == etcd.StatusPlanned && !c.DryRun {
		if ch.confirm != nil {
			if err = c.Confirm(ch.confirm(result)); err != nil {
				return err
			}
		}

		result, err = ch.act(c.Context(), env, v, result)
	}

	return cmdutil.PrintResult(c, result, err, ch.name(result), ch.show)
}

// member finds the etcd member of the one node that a command names.
func member(c *cmdutil.Call, v etcd.View) (talos.Target, etcd.Member, error) {
	targets, err := c.Targets()
	if err != nil {
		return talos.Target{}, etcd.Member{}, err
	}

	t := targets.Nodes[0]
	m, err := v.NodeMember(t)

	return t, m, err
}
