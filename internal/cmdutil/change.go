package cmdutil

import (
	"context"
	"errors"
	"fmt"

	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// NodeChange is the shape of a change of each chosen node on its own: it differs from its siblings in the
// operation, the row and the columns. Every node that was begun has its row, also when it failed.
type NodeChange[T any] struct {
	Columns []output.Column[T]
	Name    func(T) string // For -o name.
	// Before runs once the nodes are known, before any of them is asked.
	Before func(*Call) error
	// Confirm phrases what a destructive command is about to do; the node's or the cluster's name is asked.
	Confirm func(args []string, targets string) string
	// Begun reports whether something was tried on the row's node; nil for every row.
	Begun func(T) bool
}

// NewNodeChange makes a command that changes every node with act.
func NewNodeChange[T any, P Row[T]](f *Factory, d Command, schema string, l NodeChange[T], act func(context.Context, *Call, *talos.Node) (T, error)) *Cmd {
	l.Columns = columns[T, P](l.Columns)

	return New(f, d, ListOf[T](schema), func(c *Call) error {
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

		if err = c.Begin(); err != nil {
			return PrintList(c, nil, err, l.Columns, l.Name)
		}

		rows, err := ChangeRows[T, P](c, targets, l.Begun, func(ctx context.Context, n *talos.Node) (T, error) { return act(ctx, c, n) })

		return PrintList(c, rows, err, l.Columns, l.Name)
	})
}

// ChangeRows carries out act on every target. Every node that was begun has its row, also when it failed; a nil begun
// takes every node for begun.
func ChangeRows[T any, P Row[T]](c *Call, targets target.Set, begun func(T) bool, act func(context.Context, *talos.Node) (T, error)) ([]T, error) {
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

func targetNames(all []talos.Target) string { return lists.First(lists.Map(all, talos.Target.Name), 8) }
