package network

import (
	"context"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdResolvers(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "resolvers", Aliases: []string{"resolver", "dns"}, Short: "Show how each node resolves names",
		Example: "  talosmate network resolvers\n" +
			"  talosmate network resolvers -A -o json --query '[.items[].dns_servers[]] | unique'",
		Spec: spec(),
	}, "ResolverList", cmdutil.NodeList[talos.Resolvers]{
		PerNode: true,
		Columns: []output.Column[talos.Resolvers]{
			{Header: "DNS SERVERS", Value: func(r talos.Resolvers) string { return strings.Join(r.DNSServers, ",") }},
			{Header: "SEARCH DOMAINS", Value: func(r talos.Resolvers) string { return strings.Join(r.SearchDomains, ",") }},
		},
		Name: func(r talos.Resolvers) string { return strings.Join(r.DNSServers, "\n") },
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Resolvers, error) {
		return n.Resolvers(ctx)
	})
}
