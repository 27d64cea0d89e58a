package service

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdList(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the services of each node",
		Long: "List Talos's own services with their state and health. A service without a health check is\n" +
			"\"unknown\", not unhealthy.",
		Example: "  talosmate service list -n cp-1\n" +
			"  talosmate service list -n cp-1 --watch\n" +
			"  talosmate service list -o json --query '.items[] | select(.health != \"healthy\") | .id'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers},
	}, "ServiceList", cmdutil.NodeList[talos.Service]{
		Columns: []output.Column[talos.Service]{
			{Header: "SERVICE", Value: func(s talos.Service) string { return s.ID }},
			{Header: "STATE", State: true, Value: func(s talos.Service) string { return s.State }},
			{Header: "HEALTH", State: true, Value: func(s talos.Service) string { return s.Health }},
			{Header: "LAST CHANGE", Value: func(s talos.Service) string { return since(s.LastChange) }},
			{Header: "LAST EVENT", Wide: true, Value: lastEvent},
			{Header: "LAST MESSAGE", Wide: true, Value: func(s talos.Service) string { return s.LastMessage }},
		},
		Name:    func(s talos.Service) string { return s.ID },
		Watched: true,
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Service, error) {
		return n.Services(ctx)
	})
}

func since(t *time.Time) string {
	if t == nil {
		return ""
	}

	return output.Time(*t)
}

func lastEvent(s talos.Service) string {
	if len(s.Events) == 0 {
		return ""
	}

	return s.Events[len(s.Events)-1].Message
}
