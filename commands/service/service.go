// Package service holds `talosmate service`: the node's own services.
package service

import (
	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cobra.Command {
	return cmdutil.Group("service", "Look at and control Talos services", []string{"svc"}, newCmdList(f), newCmdInfo(f),
		newCmdRestart(f), newCmdStart(f), newCmdStop(f))
}
