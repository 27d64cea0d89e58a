// Package etcd holds `talosmate etcd`: looking after the cluster's etcd, one member at a time.
package etcd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/talos"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cobra.Command {
	return cmdutil.Group("etcd", "Look after etcd", nil,
		newCmdMembers(f),
		newCmdStatus(f),
		newCmdSnapshot(f),
		newCmdSnapshotStatus(f),
		cmdutil.Group("alarm", "List and disarm alarms", []string{"alarms"},
			newCmdAlarmList(f),
			newCmdAlarmDisarm(f),
		),
		newCmdDefrag(f),
		newCmdRemoveMember(f),
		newCmdForfeit(f),
		newCmdLeave(f),
		newCmdDowngrade(f),
	)
}

// viewOf asks the chosen control planes. whole says that none was left out.
func viewOf(c *cmdutil.Call) (v etcd.View, whole bool, err error) {
	cluster, err := c.Cluster()
	if err != nil {
		return v, false, err
	}

	targets, err := c.Targets()
	if err != nil {
		return v, false, err
	}

	if sel := c.Selection(); len(sel.Nodes) > 0 || sel.Workers || sel.All || targets.Source == talos.SourceContext {
		v = etcd.Gather(c.Context(), etcd.Sources(cluster, targets.Nodes), cluster.Options.Timeout)

		return v, false, context.Cause(c.Context())
	}

	v, err = etcd.Look(c.Context(), cluster)

	return v, true, err
}
