// Package etcd holds `talosmate etcd`: looking after the cluster's etcd, one member at a time.
package etcd

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/etcd"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("etcd", "Look after etcd", nil,
		newCmdMembers(f),
		newCmdStatus(f),
		newCmdSnapshot(f),
		newCmdSnapshotStatus(f),
		newCmdVerifySnapshot(f),
		newCmdRestorePlan(f),
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

// viewOf asks the chosen control planes. whole says that none was left out. patience bounds each node's answer,
// of the timeout that the user gave.
func viewOf(c *cmdutil.Call, patience func(time.Duration) time.Duration) (v etcd.View, whole bool, err error) {
	cluster, err := c.Cluster()
	if err != nil {
		return v, false, err
	}

	timeout := patience(cluster.Options.Timeout)

	targets, err := c.Targets()
	if err != nil {
		return v, false, err
	}

	if sel := c.Selection(); len(sel.Nodes) > 0 || sel.Workers || sel.All {
		v = etcd.Gather(c.Context(), etcd.Sources(cluster, targets.Nodes), timeout)

		return v, false, context.Cause(c.Context())
	}

	v, err = etcd.LookFor(c.Context(), cluster, timeout)

	return v, true, err
}

// asGiven is the patience of a read: the user's timeout.
func asGiven(timeout time.Duration) time.Duration { return timeout }
