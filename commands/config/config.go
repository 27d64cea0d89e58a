// Package config holds `talosmate config`: the local talosconfig.
package config

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("config", "Look at and edit the talosconfig", nil,
		newCmdInfo(f), newCmdContexts(f), newCmdUse(f), newCmdAdd(f), newCmdEndpoint(f), newCmdNode(f), newCmdMerge(f), newCmdRemove(f), newCmdCheck(f), newCmdNew(f),
	)
}
