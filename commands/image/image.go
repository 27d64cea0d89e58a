// Package image holds `talosmate image`: the images of a node's two containerd instances.
package image

import "github.com/talosmate/talosmate/internal/cmdutil"

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("image", "List, pull, remove and prune images", []string{"images", "img"},
		newCmdList(f),
		newCmdPrune(f),
		newCmdPull(f),
		newCmdRemove(f),
	)
}

func namespaceFlag(fs *cmdutil.Flags, to *string, more ...string) {
	fs.Containerd(to, "containerd instance, that of Kubernetes or of Talos itself", more...)
}
