// Package image holds `talosmate image`: the images of a node's two containerd instances.
package image

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/talos"
)

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
	fs.Choice(to, "namespace", talos.NamespaceCRI, "containerd instance, that of Kubernetes or of Talos itself",
		append([]string{talos.NamespaceCRI, talos.NamespaceSystem}, more...)...)
}
