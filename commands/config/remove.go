package config

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/talosconfig"
)

func newCmdRemove(f *cmdutil.Factory) *cmdutil.Cmd {
	return newEdit(f, cmdutil.Command{
		Use: "remove NAME", Short: "Remove a context from the talosconfig",
		Long: "Remove a context. The file as it was stays beside it as .bak, since the credentials may exist nowhere else.",
		Example: "  talosmate config remove old-cluster\n" +
			"  talosmate config remove old-cluster --dry-run -o json",
		Complete: cmdutil.CompleteContexts,
	}, edit{Backup: true, Apply: func(c *cmdutil.Call, file *talosconfig.File) (Edit, error) {
		return Edit{Context: c.Args[0], Action: "removed"}, file.Remove(c.Args[0])
	}})
}
