// Package service holds `talosmate service`: the node's own services.
package service

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("service", "Look at and control Talos services", []string{"svc"}, newCmdList(f), newCmdInfo(f),
		newCmdRestart(f), newCmdStart(f), newCmdStop(f))
}
