package config

import (
	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/talosconfig"
)

func newCmdUse(f *cmdutil.Factory) *cobra.Command {
	return newEdit(f, edit{
		Use: "use NAME", Short: "Make a context the current one",
		Example: "  talosmate config use prod\n" +
			"  talosmate config use test --talosconfig ./talosconfig",
		Args: cmdutil.ExactArgs("NAME"), Complete: completeOne,
		Apply: func(c *cmdutil.Call, file *talosconfig.File) (Edit, error) {
			return Edit{Context: c.Args[0], Action: "used"}, file.Use(c.Args[0])
		},
	})
}
