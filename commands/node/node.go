// Package node holds `talosmate node`: what happens to whole nodes.
package node

import (
	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cobra.Command {
	return cmdutil.Group("node", "Reboot, shut down, roll back, reset and wipe nodes; cordon and drain them", []string{"nodes"},
		newCmdReboot(f),
		newCmdShutdown(f),
		newCmdRollback(f),
		newCmdReset(f),
		newCmdWipe(f),
		newCmdCordon(f),
		newCmdUncordon(f),
		newCmdDrain(f),
	)
}
