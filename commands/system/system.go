// Package system holds `talosmate system`: a node's hardware, kernel counters and clock.
package system

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/talos"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cobra.Command {
	return cmdutil.Group("system", "Look at disks, memory, processors and the clock", []string{"sys"},
		newCmdDisks(f), newCmdMounts(f), newCmdMemory(f), newCmdCPU(f), newCmdLoad(f), newCmdUsage(f), newCmdTime(f))
}

func spec(schema string) cmdutil.Spec {
	return cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Schema: schema, Default: talos.DefaultMembers}
}

// one makes the single row of a node a list.
func one[T any](read func(*talos.Node, context.Context) (T, error)) func(context.Context, *talos.Node, []string) ([]T, error) {
	return func(ctx context.Context, n *talos.Node, _ []string) ([]T, error) {
		row, err := read(n, ctx)

		return []T{row}, err
	}
}
