package service

import (
	"context"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/service"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

const controlLong = "Talos allows this for few services: kubelet can be restarted, services of extensions can be started,\n" +
	"stopped and restarted; etcd, apid, machined and trustd cannot, and a reboot restarts those. --wait sees that\n" +
	"the service is healthy again (or has stopped); one without a health check only has to run."

func newCmdRestart(f *cmdutil.Factory) *cmdutil.Cmd {
	return newCmdControl(f, talos.ServiceRestart, "Restart a service and see it healthy again", "running and healthy",
		"  talosmate service restart kubelet -n worker-1\n"+
			"  talosmate service restart kubelet --workers --concurrency 1 -o json --query '.items[] | .node + \" \" + .status'")
}

func newCmdStart(f *cmdutil.Factory) *cmdutil.Cmd {
	return newCmdControl(f, talos.ServiceStart, "Start a service that is stopped", "running and healthy",
		"  talosmate service start ext-iscsid -n worker-1\n"+
			"  talosmate service start kubelet -n worker-1 --wait-timeout 5m")
}

func newCmdStop(f *cmdutil.Factory) *cmdutil.Cmd {
	return newCmdControl(f, talos.ServiceStop, "Stop a service", "stopped",
		"  talosmate service stop ext-iscsid -n worker-1\n"+
			"  talosmate service stop ext-iscsid --workers --dry-run")
}

func newCmdControl(f *cmdutil.Factory, act, short, what, example string) *cmdutil.Cmd {
	var wait cmdutil.WaitFlags

	return cmdutil.NewNodeChange(f, cmdutil.Command{
		Use: act + " ID", Short: short, Long: short + ".\n\n" + controlLong, Example: example,
		Spec:     cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Operators()},
		Flags:    func(fs *cmdutil.Flags) { wait.Add(fs, "the service is "+what, 2*time.Minute) },
		Check:    func(c *cmdutil.Call) error { return service.Refused(act, c.Args[0]) },
		Complete: cmdutil.CompleteFrom(ids),
	}, "ServiceChangeList", cmdutil.NodeChange[service.Change]{
		Begun: func(s service.Change) bool { return s.State != "" || s.Status == runbook.Interrupted },
		Columns: []output.Column[service.Change]{
			{Header: "SERVICE", Value: func(s service.Change) string { return s.ID }},
			{Header: "ACTION", Value: func(s service.Change) string { return s.Action }},
			{Header: "STATUS", State: true, Value: func(s service.Change) string { return string(s.Status) }},
			{Header: "STATE", State: true, Value: func(s service.Change) string { return s.State }},
			{Header: "HEALTH", State: true, Value: func(s service.Change) string { return s.Health }},
			{Header: "TOOK", Value: func(s service.Change) string { return fmt.Sprintf("%.1fs", s.ElapsedSeconds) }},
			{Header: "MESSAGE", Wide: true, Value: func(s service.Change) string { return s.Message }},
		},
		Name: func(s service.Change) string { return s.ID },
	}, func(ctx context.Context, c *cmdutil.Call, n *talos.Node) (service.Change, error) {
		return service.Control(ctx, n, n.Name(), c.Args[0], service.Options{Act: act, Wait: wait.Wait, Deadline: wait.Timeout, DryRun: c.DryRun})
	})
}
