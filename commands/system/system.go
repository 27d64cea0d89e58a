// Package system holds `talosmate system`: a node's hardware, kernel counters and clock.
package system

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("system", "Look at disks, memory, processors, the clock and the kernel", []string{"sys"},
		newCmdDisks(f), newCmdMounts(f), newCmdMemory(f), newCmdCPU(f), newCmdLoad(f), newCmdUsage(f), newCmdTime(f), newCmdModules(f),
		newCmdSecurity(f))
}

func spec() cmdutil.Spec {
	return cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers}
}

// one makes the single row of a node a list.
func one[T any](read func(*talos.Node, context.Context) (T, error)) func(context.Context, *cmdutil.Call, *talos.Node) ([]T, error) {
	return func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]T, error) {
		row, err := read(n, ctx)

		return []T{row}, err
	}
}
