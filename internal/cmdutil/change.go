package cmdutil

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

// NodeChange is the shape of a change of each chosen node by itself: it differs from its siblings in the
// act, the row and the columns. Every node that was begun has its row, also when it failed.
type NodeChange[T any] struct {
	Use, Short, Long, Example string
	Aliases                   []string
	Args                      cobra.PositionalArgs
	Spec                      Spec
	Flags                     func(*cobra.Command)
	Columns                   []output.Column[T]
	Name                      func(T) string // For -o name.
	Validate                  func(args []string) error
	// Before runs once the nodes are known, before any of them is asked.
	Before func(*Call) error
	// Confirm phrases what a destructive command is about to do; the node's or the cluster's name is asked.
	Confirm func(args []string, targets string) string
	// Begun says whether the row is one of a node where something was tried; nil for every row.
	Begun    func(T) bool
	Act      func(ctx context.Context, c *Call, n *talos.Node) (T, error)
	Complete CompletionFunc
}

// NewNodeChange makes the command.
func NewNodeChange[T any, P Row[T]](f *Factory, l NodeChange[T]) *cobra.Command {
	if l.Args == nil {
		l.Args = ExactArgs()
	}

	l.Spec.Document = output.List[T]{}

	cmd := &cobra.Command{
		Use: l.Use, Short: l.Short, Long: l.Long, Example: l.Example, Aliases: l.Aliases, Args: l.Args,
		ValidArgsFunction: completion(f, l.Complete),
		RunE: f.RunE(l.Spec, func(c *Call) error {
			if l.Validate != nil {
				if err := l.Validate(c.Args); err != nil {
					return errs.AsUsage(err)
				}
			}

			targets, err := c.Targets()
			if err != nil {
				return err
			}

			if l.Before != nil {
				if err = l.Before(c); err != nil {
					return err
				}
			}

			if l.Confirm != nil {
				if err = c.ConfirmTargets(l.Confirm(c.Args, c.DescribeTargets())); err != nil {
					return err
				}
			}

			rows, err := changeNodes[T, P](c, l, targets)

			return PrintList(c, rows, err, columns[T, P](l.Columns), l.Name)
		}),
	}

	f.Declare(cmd, l.Spec)

	if l.Flags != nil {
		l.Flags(cmd)
		completeChoices(cmd)
	}

	return cmd
}

func changeNodes[T any, P Row[T]](c *Call, l NodeChange[T], targets talos.Targets) ([]T, error) {
	if err := c.Begin(); err != nil {
		return nil, err
	}

	return ChangeRows[T, P](c, targets, l.Begun, func(ctx context.Context, n *talos.Node) (T, error) {
		return l.Act(ctx, c, n)
	})
}

// ChangeRows carries out act on every target. Every node that was begun has its row, also when it failed; a nil begun
// takes every node for begun.
func ChangeRows[T any, P Row[T]](c *Call, targets talos.Targets, begun func(T) bool, act func(context.Context, *talos.Node) (T, error)) ([]T, error) {
	outcomes := talos.EachChange(c.ctx, c.cluster, targets.Nodes, act)

	rows := make([]T, 0, len(outcomes))

	for _, o := range outcomes {
		if o.Err != nil && begun != nil && !begun(o.Value) {
			continue
		}

		P(&o.Value).SetNode(o.Target)
		rows = append(rows, o.Value)
	}

	err := talos.Failed(outcomes)
	if c.ctx.Err() != nil {
		err = errors.Join(context.Cause(c.ctx), err)
	}

	return rows, err
}

// Members are the cluster's members as discovery knows them.
func (c *Call) Members() ([]talos.Member, error) {
	cluster, err := c.Cluster()
	if err != nil {
		return nil, err
	}

	return cluster.Members(c.ctx)
}

// ConfirmTargets asks for the name of the one node, or of the cluster when there are several.
func (c *Call) ConfirmTargets(action string) error {
	subject := clusterName(c.cluster.Context)
	if len(c.targets.Nodes) == 1 {
		subject = c.targets.Nodes[0].Name()
	}

	return c.Confirm(action, subject)
}

// DescribeTargets names what was chosen, for a question to the user.
func (c *Call) DescribeTargets() string {
	if len(c.targets.Nodes) == 1 {
		return c.targets.Nodes[0].Name()
	}

	return fmt.Sprintf("%d nodes of cluster %s (%s)", len(c.targets.Nodes), clusterName(c.cluster.Context), targetNames(c.targets.Nodes))
}

func targetNames(all []talos.Target) string {
	text := ""

	for i, t := range all {
		switch {
		case i == 8:
			return text + fmt.Sprintf(" and %d more", len(all)-i)
		case i > 0:
			text += ", "
		}

		text += t.Name()
	}

	return text
}

// WaitFlags are the flags of a change that can be waited for.
type WaitFlags struct {
	Wait    bool
	Timeout time.Duration
}

// Add puts --wait and --wait-timeout on a command.
func (w *WaitFlags) Add(fs *pflag.FlagSet, what string, timeout time.Duration) {
	fs.BoolVar(&w.Wait, "wait", true, "wait until "+what)
	fs.DurationVar(&w.Timeout, "wait-timeout", timeout, "how long to wait for that")
}

// Check rejects a timeout that cannot be waited for.
func (w *WaitFlags) Check() error {
	if w.Timeout <= 0 {
		return errs.Usagef("--wait-timeout must be positive")
	}

	return nil
}
