// Package upgrade holds `talosmate upgrade`: bringing nodes to another version.
package upgrade

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/rollout"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	f.Publish("UpgradeHook", rollout.HookInput{})

	return cmdutil.Group("upgrade", "Upgrade Talos, node by node and with proof", nil,
		newCmdNode(f),
		newCmdImpact(f),
		newCmdPlan(f),
		newCmdApply(f),
		newCmdStatus(f),
		newCmdKubernetes(f),
	)
}
