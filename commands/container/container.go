// Package container holds `talosmate container`: pods and containers as the node's runtime sees them.
package container

import "github.com/talosmate/talosmate/internal/cmdutil"

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("container", "Look at containers and pods", []string{"ctr"}, newCmdList(f), newCmdStats(f))
}

func namespaceFlag(fs *cmdutil.Flags, p *string) {
	fs.Containerd(p, "which containers, Kubernetes' or Talos's own")
}

// tree sets a pod's containers under it.
func tree(sandbox bool, pod, id, name string) string {
	if sandbox || pod == "" || pod == id {
		return id
	}

	return "└─ " + name
}
