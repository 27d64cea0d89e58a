// Package fs holds `talosmate fs`: the files of nodes.
package fs

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cobra.Command {
	return cmdutil.Group("fs", "Look at the files of nodes and copy them", []string{"file", "files"}, newCmdLs(f), newCmdRead(f), newCmdCp(f))
}

// completePath completes the first argument with paths of the node and, where local is set, the second with
// local files.
func completePath(f *cmdutil.Factory, local bool) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		switch {
		case len(args) == 1 && local:
			return nil, cobra.ShellCompDirectiveDefault
		case len(args) > 0:
			return nil, cobra.ShellCompDirectiveNoFileComp
		}

		paths := f.Complete(cmd, args, cmdutil.CompleteFrom(func(ctx context.Context, n *talos.Node) ([]string, error) {
			return n.CompletePath(ctx, typed)
		}))

		return paths, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

func absolute(path string) error {
	if !strings.HasPrefix(path, "/") {
		return errs.Usagef("%q is not an absolute path", path)
	}

	return nil
}
