// Package factory holds `talosmate factory`: the Image Factory.
package factory

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/factory"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("factory", "Work with the Image Factory: schematics and asset URLs", nil,
		cmdutil.Group("schematic", "Compute, register and read schematics", nil, newCmdID(f), newCmdCreate(f), newCmdGet(f)),
		newCmdURL(f), newCmdVersions(f), newCmdExtensions(f))
}

func addFactoryFlag(fs *cmdutil.Flags) {
	fs.String("factory", factory.DefaultURL, "the Image Factory's `URL`")
}

func clientOf(c *cmdutil.Call) (*factory.Client, error) {
	base, _ := c.Cmd.Flags().GetString("factory")
	timeout, _ := c.Cmd.Flags().GetDuration("timeout")

	return factory.New(base, timeout)
}
