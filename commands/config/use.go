package config

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/talosconfig"
)

func newCmdUse(f *cmdutil.Factory) *cmdutil.Cmd {
	return newEdit(f, cmdutil.Command{
		Use: "use NAME", Short: "Make a context the current one",
		Example: "  talosmate config use prod\n" +
			"  talosmate config use test --talosconfig ./talosconfig",
		Complete: cmdutil.CompleteContexts,
	}, edit{Apply: func(c *cmdutil.Call, file *talosconfig.File) (Edit, error) {
		return Edit{Context: c.Args[0], Action: "used"}, file.Use(c.Args[0])
	}})
}
