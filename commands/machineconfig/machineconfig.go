// Package machineconfig holds `talosmate machineconfig`: the configuration of nodes.
package machineconfig

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("machineconfig", "Look at and change the configuration of nodes", []string{"mc", "machineconfigs"},
		newCmdGet(f), newCmdDiff(f), newCmdMigrate(f), newCmdRollout(f),
		newCmdApply(f), newCmdPatch(f), newCmdEdit(f))
}
