// Package node holds `talosmate node`: what happens to whole nodes.
package node

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("node", "Add, remove and replace nodes; reboot, shut down, roll back, reset and wipe them; cordon and drain them", []string{"nodes"},
		newCmdReboot(f),
		newCmdShutdown(f),
		newCmdRollback(f),
		newCmdReset(f),
		newCmdWipe(f),
		newCmdAdd(f),
		newCmdRemove(f),
		newCmdReplace(f),
		newCmdCordon(f),
		newCmdUncordon(f),
		newCmdDrain(f),
		newCmdBootAudit(f),
	)
}
