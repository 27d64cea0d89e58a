// Package image holds `talosmate image`: the images of a node's two containerd instances.
package image

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cobra.Command {
	return cmdutil.Group("image", "List, pull, remove and prune images", []string{"images", "img"},
		newCmdList(f),
		newCmdPrune(f),
		newCmdPull(f),
		newCmdRemove(f),
	)
}

func namespaceFlag(fs *pflag.FlagSet, to *string) {
	fs.StringVar(to, "namespace", talos.NamespaceCRI, "containerd instance: cri (Kubernetes) or system (Talos itself)")
}

func checkNamespace(ns string) error {
	if ns != talos.NamespaceCRI && ns != talos.NamespaceSystem {
		return errs.Usagef("unknown namespace %q, want cri or system", ns)
	}

	return nil
}
