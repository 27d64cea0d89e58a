package machineconfig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// changeOptions are what apply, patch and edit have in common.
type changeOptions struct {
	machineconfig.ApplyOptions
}

func (o *changeOptions) flags(fs *cmdutil.Flags) {
	fs.Choice(&o.Mode, "mode", talos.ApplyAuto, "how to apply", talos.ApplyModes()...)
	fs.Positive(&o.TryTimeout, "try-timeout", time.Minute, "with --mode try: after which the node reverts automatically")
	fs.BoolVar(&o.Wait, "wait", true, "wait for a reboot that is needed, and for the node to be healthy after it; with --insecure until it runs with the configuration")
	fs.Positive(&o.RebootTimeout, "reboot-timeout", 15*time.Minute, "how long the node may take to boot")
	fs.Renamed("boot-timeout", "reboot-timeout")
	fs.Positive(&o.ReadyTimeout, "ready-timeout", 10*time.Minute, "how long the node may take to be healthy after the boot")
	fs.BoolVar(&o.ShowSecrets, "show-secrets", false, "show secrets in the difference")
}

// What a patch or an edit starts from while a configuration is staged.
const (
	replaceStaged = "replace"
	keepStaged    = "keep"
)

// partOptions are those of patch and edit, which start from what the node has.
type partOptions struct {
	changeOptions

	onStaged string
}

func (o *partOptions) flags(fs *cmdutil.Flags) {
	o.changeOptions.flags(fs)
	fs.Choice(&o.onStaged, "on-staged", replaceStaged, "what to do with a configuration that is staged: replace it, or keep it and start from it", replaceStaged, keepStaged)
}

// check settles what the change starts from.
func (o *partOptions) check(*cmdutil.Call) error {
	o.KeepsStaged = o.onStaged == keepStaged

	return nil
}

// base reads the configuration that the change starts from.
func (o *partOptions) base(ctx context.Context, n *talos.Node) ([]byte, error) {
	if o.KeepsStaged {
		if text, known, err := n.PersistedConfig(ctx); known || err != nil {
			return text, err
		}
	}

	return n.MachineConfig(ctx)
}

const modesLong = "Modes: auto reboots if the change needs it, no-reboot refuses a change that does, reboot reboots in any case,\n" +
	"staged waits for the next reboot, try reverts automatically after --try-timeout. From Talos 1.14 on no change\n" +
	"needs a reboot. A control plane that would reboot stands behind the quorum gates, and is waited for.\n\n" +
	"Nodes are changed one after another, and the first that fails ends the run. The configuration is judged by\n" +
	"Talos's own validator first, compared path by path with what the node has (secrets redacted), and read back\n" +
	"afterwards."

// source gives the configuration for a node.
type source func(ctx context.Context, n *talos.Node) ([]byte, error)

// change configures the chosen nodes one after another.
func (o *changeOptions) change(c *cmdutil.Call, from source) error {
	targets, err := c.Targets()
	if err != nil {
		return err
	}

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	o.DryRun, o.Overrides, o.BeforeChange, o.Maintenance = c.DryRun, c.Overrides, c.BeginChange, cluster.Options.Insecure
	rows := []machineconfig.Applied{}
	failed := &errs.Nodes{}

	for i, t := range targets.Nodes {
		if c.Context().Err() != nil {
			rows = append(rows, o.notBegun(c, targets.Nodes[i:], "of the interruption")...)

			break
		}

		var row machineconfig.Applied

		err := errs.Safely(func() (err error) {
			row, err = o.one(c, cluster, t, from)

			return err
		})

		switch {
		case row.Node != "":
			rows = append(rows, row)
		case c.Context().Err() != nil:
			rows = append(rows, machineconfig.NotStarted(t, o.ApplyOptions))
		}

		if err == nil {
			failed.Succeeded++

			continue
		}

		if errs.ExitCode(err) == errs.Usage && i == 0 {
			return err // the input is wrong for every node
		}

		failed.Errors = append(failed.Errors, talos.AsNodeError(t, err))

		if !o.DryRun {
			why := t.Name() + " failed"
			if c.Context().Err() != nil {
				why = "of the interruption"
			}

			rows = append(rows, o.notBegun(c, targets.Nodes[i+1:], why)...)

			break
		}
	}

	if len(failed.Errors) > 0 {
		err = failed
	}

	if c.Context().Err() != nil {
		err = errors.Join(context.Cause(c.Context()), err)
	}

	return cmdutil.ListReading[machineconfig.Applied]{Rows: rows, Err: err, Name: machineconfig.Applied.NodeName, Human: writeChanges}.Print(c)
}

// notBegun says of the nodes that are left that they are.
func (o *changeOptions) notBegun(c *cmdutil.Call, left []talos.Target, why string) []machineconfig.Applied {
	rows, names := make([]machineconfig.Applied, len(left)), make([]string, len(left))
	for i, t := range left {
		rows[i], names[i] = machineconfig.NotStarted(t, o.ApplyOptions), t.Name()
	}

	if len(left) > 0 {
		c.Warn("not begun, because %s: %s", why, strings.Join(names, ", "))
	}

	return rows
}

func (o *changeOptions) one(c *cmdutil.Call, cluster *talos.Cluster, t talos.Target, from source) (machineconfig.Applied, error) {
	node := cluster.ChangingNode(t)

	text, err := from(c.Context(), node)
	if err != nil {
		return machineconfig.Applied{}, err
	}

	var members []talos.Member

	own := o.ApplyOptions
	if o.Maintenance {
		own.Joined = joined(c, t, text)
	} else if members, err = cluster.Members(c.Context()); err != nil {
		return machineconfig.Applied{}, err
	}

	n := probe.Nodes(c.Context(), cluster, members, c.ConnectKubernetes)(t)

	return machineconfig.Apply(c.Context(), n, text, own, c.Progress())
}

// joined waits for a node with the talosconfig at hand, where that is the cluster's which the configuration is
// of; nil where it is not.
func joined(c *cmdutil.Call, t talos.Target, text []byte) machineconfig.Joined {
	want, err := machineconfig.Parse(text)
	if err != nil {
		return nil
	}

	own := c.OwnCluster(want.At("machine", "ca", "crt"))
	if own == nil {
		return nil
	}

	return func(ctx context.Context, deadline time.Duration) (bool, string, error) {
		if want.Type() == target.ControlPlane {
			// The first control plane of a new cluster waits for somebody to bootstrap it.
			if view, err := etcd.Look(ctx, own); (err != nil || !view.Known) && ctx.Err() == nil {
				return false, "etcd has no members yet: the node waits for `talosmate bootstrap`", nil
			}
		}

		err := probe.Nodes(ctx, own, nil, c.ConnectKubernetes)(t).Prober().AwaitSettled(ctx, deadline)

		return err == nil, "", err
	}
}

func writeChanges(w io.Writer, rows []machineconfig.Applied) error {
	for _, r := range rows {
		line := fmt.Sprintf("%s: %s", r.NodeName(), r.Status)

		if r.AppliedMode != "" {
			line += ", mode " + r.AppliedMode
		}

		if r.RebootNeeded {
			line += ", needs a reboot"
		}

		if r.RevertsAt != nil {
			line += ", reverts automatically at " + output.Time(*r.RevertsAt)
		}

		if err := output.Heading(w, line); err != nil {
			return err
		}

		if r.Details != "" {
			fmt.Fprintln(w, "  "+strings.ReplaceAll(r.Details, "\n", "\n  "))
		}

		for _, warning := range r.Warnings {
			fmt.Fprintln(w, "  warning: "+output.Cell(warning))
		}

		for _, change := range r.Changes {
			if err := writeChange(w, "  ", change); err != nil {
				return err
			}
		}
	}

	return nil
}
