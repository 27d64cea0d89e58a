package etcd

import (
	"context"
	"io"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/runbook"
)

// change is the shape of every change of etcd: look at the whole cluster, plan, gates, confirmation, operation, report.
type change[T any] struct {
	settle, deadline time.Duration

	plan    func(context.Context, etcd.Env, etcd.View) (T, error)
	gates   func(T) []gate.Verdict
	status  func(*T) *runbook.Status
	confirm func(T) (action, subject string) // Nil for what is not destructive.
	act     func(context.Context, etcd.Env, etcd.View, T) (T, error)
	name    func(T) string
	show    func(io.Writer, T) error
}

// command makes the command of an operation; prepare sets what of it depends on the call, before anything is sent.
func (ch *change[T]) command(f *cmdutil.Factory, d cmdutil.Command, schema string, prepare func(*cmdutil.Call) error) *cmdutil.Cmd {
	d.Flags = func(fs *cmdutil.Flags) {
		waitFlag(fs, &ch.settle)
		fs.Positive(&ch.deadline, "request-timeout", ch.deadline, "how long the node may take to answer the request")
	}

	return cmdutil.New(f, d, cmdutil.ResultOf[T](schema), func(c *cmdutil.Call) error {
		if err := prepare(c); err != nil {
			return err
		}

		return ch.run(c)
	})
}

func (ch *change[T]) run(c *cmdutil.Call) error {
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
		*ch.status(&result) = runbook.Refused

		return cmdutil.PrintResult(c, result, err, ch.name(result), ch.show)
	}

	for _, verdict := range ch.gates(result) {
		if verdict.Verdict == gate.Warn {
			c.Warn("%s: %s", verdict.Gate, verdict.Message)
		}
	}

	if *ch.status(&result) == runbook.Planned && !c.DryRun {
		if ch.confirm != nil {
			if err = c.Confirm(ch.confirm(result)); err != nil {
				return err
			}
		}

		result, err = ch.act(c.Context(), env, v, result)
	}

	return cmdutil.PrintResult(c, result, err, ch.name(result), ch.show)
}
