// Package fs holds `talosmate fs`: the files of nodes.
package fs

import (
	"context"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("fs", "Look at the files of nodes and copy them", []string{"file", "files"}, newCmdLs(f), newCmdRead(f), newCmdCp(f))
}

// completePath offers paths of the node.
func completePath(ctx context.Context, c *cmdutil.Call, args []string) []string {
	c.CompleteParts()

	return cmdutil.CompleteFrom(func(ctx context.Context, n *talos.Node) ([]string, error) {
		return n.CompletePath(ctx, c.Typed)
	})(ctx, c, args)
}

// completeCopy offers paths of the node, then files of the user.
func completeCopy(ctx context.Context, c *cmdutil.Call, args []string) []string {
	if len(args) > 0 {
		return cmdutil.CompleteFiles(ctx, c, args)
	}

	return completePath(ctx, c, args)
}

func absolute(path string) error {
	if !strings.HasPrefix(path, "/") {
		return errs.Usagef("%q is not an absolute path", path)
	}

	return nil
}
