// Package container holds `talosmate container`: pods and containers as the node's runtime sees them.
package container

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/talos"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("container", "Look at containers and pods", []string{"ctr"}, newCmdList(f), newCmdStats(f))
}

func namespaceFlag(fs *cmdutil.Flags, p *string) {
	fs.Choice(p, "namespace", talos.NamespaceCRI, "which containers, Kubernetes' or Talos's own", talos.NamespaceCRI, talos.NamespaceSystem)
}

// tree sets a pod's containers under it.
func tree(sandbox bool, pod, id, name string) string {
	if sandbox || pod == "" || pod == id {
		return id
	}

	return "└─ " + name
}
