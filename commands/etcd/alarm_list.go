package etcd

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdAlarmList(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the active alarms",
		Long: "List the active alarms, each once: the node of a row is that of the member which has the alarm, whoever\n" +
			"told of it. No rows means no alarm; the exit code is 0 either way (`etcd status` is the question).",
		Example: "  talosmate etcd alarm list\n" +
			"  talosmate etcd alarm list -o json --query '.items | length'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.EtcdReaders(), Default: target.DefaultControlPlanes},
	}, cmdutil.ListOf[talos.EtcdAlarm]("EtcdAlarmList"), func(c *cmdutil.Call) error {
		v, _, err := viewOf(c, asGiven)
		if err != nil {
			return err
		}

		return cmdutil.PrintList(c, v.Alarms(), v.Err(false, etcd.PartAlarms), alarmColumns(), func(a talos.EtcdAlarm) string { return a.ID + "/" + a.Alarm })
	})
}

func alarmColumns() []output.Column[talos.EtcdAlarm] {
	return []output.Column[talos.EtcdAlarm]{
		{Header: "NODE", Value: talos.EtcdAlarm.NodeName},
		{Header: "ADDRESS", Wide: true, Value: func(a talos.EtcdAlarm) string { return a.Node }},
		{Header: "ID", Value: func(a talos.EtcdAlarm) string { return a.ID }},
		{Header: "ALARM", Value: func(a talos.EtcdAlarm) string { return a.Alarm }},
	}
}
