package service

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

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
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	line := func(cells ...string) {
		for i, c := range cells {
			cells[i] = output.Cell(c)
		}

		fmt.Fprintln(tw, strings.Join(cells, "\t")) // Flush reports a failure
	}

	for i, s := range services {
		if i > 0 {
			fmt.Fprintln(tw)
		}

		line("NODE", s.Node+" "+s.Hostname)
		line("SERVICE", s.ID)
		line("STATE", s.State)
		line("HEALTH", s.Health)
		line("LAST CHANGE", since(s.LastChange))
		line("LAST MESSAGE", s.LastMessage)

		for _, e := range s.Events {
			line("EVENT", output.Time(e.Time), e.State, e.Message)
		}
	}

	return tw.Flush()
}
