package service

import (
	"context"
	"fmt"
	"io"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdInfo(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "info ID", Short: "Show one service of each node with what happened to it",
		Example: "  talosmate service info kubelet -n worker-1\n" +
			"  talosmate service info etcd --controlplanes --query '.items[] | .node + \" \" + .health'",
		Spec:     cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers},
		Complete: cmdutil.CompleteFrom(ids),
	}, "ServiceList", cmdutil.NodeList[talos.Service]{
		Name:  func(s talos.Service) string { return s.ID },
		Human: describe,
	}, func(ctx context.Context, c *cmdutil.Call, n *talos.Node) ([]talos.Service, error) {
		s, err := n.Service(ctx, c.Args[0])

		return []talos.Service{s}, err
	})
}

func ids(ctx context.Context, n *talos.Node) ([]string, error) {
	services, err := n.Services(ctx)

	return lists.Map(services, func(s talos.Service) string { return s.ID }), err
}

// describe shows each service as a block: its facts, then its events, the oldest first.
func describe(w io.Writer, services []talos.Service) error {
	for i, s := range services {
		if i > 0 {
			fmt.Fprintln(w)
		}

		if err := output.Facts(w, [][2]string{
			{"Node", s.Hostname + " (" + s.Node + ")"},
			{"Service", s.ID},
			{"State", s.State},
			{"Health", s.Health},
			{"Last change", since(s.LastChange)},
			{"Last message", s.LastMessage},
		}); err != nil {
			return err
		}

		if len(s.Events) == 0 {
			continue
		}

		fmt.Fprintln(w)

		if err := output.WriteTable(w, []output.Column[talos.ServiceEvent]{
			{Header: "TIME", Value: func(e talos.ServiceEvent) string { return output.Time(e.Time) }},
			{Header: "STATE", State: true, Value: func(e talos.ServiceEvent) string { return e.State }},
			{Header: "EVENT", Value: func(e talos.ServiceEvent) string { return e.Message }},
		}, s.Events); err != nil {
			return err
		}
	}

	return nil
}
