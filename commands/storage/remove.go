package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/wipe"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdRemove(f *cmdutil.Factory) *cmdutil.Cmd {
	var limit time.Duration

	return cmdutil.New(f, cmdutil.Command{
		Use: "remove KIND NAME", Short: "Remove an LVM device or RAID array (from Talos 1.14)",
		Long: "Remove an LVM device or a RAID array of a node with its data. KIND is vg (a volume group with all its logical\n" +
			"volumes), lv (GROUP/NAME), pv (LVM's label on a device that no group has) or raid (an array; its members are\n" +
			"cleared). What is open, used or declared in the machine configuration is refused (TM150): Talos would make it\n" +
			"again. It is read again afterwards.",
		Example: "  talosmate storage remove lv data/scratch -n worker-1\n" +
			"  talosmate storage remove vg data -n worker-1 --yes -o json --query .items[].status",
		Spec: cmdutil.Spec{Kind: cmdutil.Destructive, Roles: cmdutil.Admins(), OneNode: true, Insecure: true, Since: "v1.14"},
		Flags: func(fs *cmdutil.Flags) {
			fs.DurationVar(&limit, "wait-timeout", 0, "how long to wait for the node's answer (0 as long as the node is there)")
			fs.NotNegative("wait-timeout")
		},
		Complete: func(ctx context.Context, c *cmdutil.Call, args []string) []string {
			if len(args) == 0 {
				return slices.Sorted(maps.Keys(wipe.Kinds()))
			}

			return cmdutil.CompleteFrom(func(ctx context.Context, n *talos.Node) ([]string, error) { return wipe.Names(ctx, n, args[0]) })(ctx, c, args)
		},
	}, cmdutil.ListOf[wipe.Layer]("StorageRemoveList"), func(c *cmdutil.Call) error { return runRemove(c, limit) })
}

func runRemove(c *cmdutil.Call, limit time.Duration) error {
	of, known := wipe.Kinds()[c.Args[0]]
	if !known {
		return errs.Usagef("%q is not a kind", c.Args[0]).WithHint("it is one of %s", strings.Join(slices.Sorted(maps.Keys(wipe.Kinds())), ", "))
	}

	targets, err := c.Targets()
	if err != nil {
		return err
	}

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	node := targets.Nodes[0]
	n := cluster.ChangingNode(node)

	l, err := wipe.PlanLayer(c.Context(), n, node, of, c.Args[1])
	if err != nil {
		return err
	}

	if err = gate.Apply(l.Gates, c.Overrides); err != nil {
		l.Status = runbook.Refused
	}

	if err == nil && !c.DryRun {
		if err = c.ConfirmTargets(fmt.Sprintf("removing %s on %s", describe(l), node.Name())); err != nil {
			return err
		}

		if err = c.Begin(); err == nil {
			err = wipe.RemoveLayer(c.Context(), n, &l, limit)
		}
	}

	return cmdutil.PrintList(c, []wipe.Layer{l}, err, layerColumns(), func(l wipe.Layer) string { return l.Name })
}

func describe(l wipe.Layer) string {
	out := kind(l.Kind) + " " + output.Line(l.Name)
	if len(l.Holds) > 0 {
		out += " with " + strings.Join(lists.Map(l.Holds, output.Line), ", ")
	}

	return out
}

func layerColumns() []output.Column[wipe.Layer] {
	return []output.Column[wipe.Layer]{
		{Header: "NODE", Value: wipe.Layer.NodeName},
		{Header: "KIND", Value: func(l wipe.Layer) string { return kind(l.Kind) }},
		{Header: "NAME", Value: func(l wipe.Layer) string { return l.Name }},
		{Header: "SIZE", Value: func(l wipe.Layer) string { return size(l.SizeBytes) }},
		{Header: "HOLDS", Value: func(l wipe.Layer) string { return strings.Join(l.Holds, ", ") }},
		{Header: "STATUS", State: true, Value: func(l wipe.Layer) string { return string(l.Status) }},
		{Header: "USED BY", Value: func(l wipe.Layer) string { return strings.Join(l.UsedBy, ", ") }},
		{Header: "DEVICE", Wide: true, Value: func(l wipe.Layer) string { return l.Device }},
	}
}
