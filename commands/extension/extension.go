// Package extension holds `talosmate extension`: the system extensions of the running system.
package extension

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("extension", "Look at system extensions", []string{"extensions", "ext"}, newCmdList(f))
}
