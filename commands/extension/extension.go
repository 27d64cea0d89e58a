// Package extension holds `talosmate extension`: the system extensions of the running system.
package extension

import (
	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cobra.Command {
	return cmdutil.Group("extension", "Look at system extensions", []string{"extensions", "ext"}, newCmdList(f))
}
