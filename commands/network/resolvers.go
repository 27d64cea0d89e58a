package network

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdResolvers(f *cmdutil.Factory) *cobra.Command {
	return cmdutil.NewNodeList(f, cmdutil.NodeList[talos.Resolvers]{
		Use: "resolvers", Aliases: []string{"resolver", "dns"}, Short: "Show how each node resolves names",
		Example: "  talosmate network resolvers\n" +
			"  talosmate network resolvers -A -o json --query '[.items[].dns_servers[]] | unique'",
		Spec: spec("ResolverList"),
		Columns: []output.Column[talos.Resolvers]{
			{Header: "DNS SERVERS", Value: func(r talos.Resolvers) string { return strings.Join(r.DNSServers, ",") }},
			{Header: "SEARCH DOMAINS", Value: func(r talos.Resolvers) string { return strings.Join(r.SearchDomains, ",") }},
		},
		Name: func(r talos.Resolvers) string { return strings.Join(r.DNSServers, "\n") },
		Fetch: func(ctx context.Context, n *talos.Node, _ []string) ([]talos.Resolvers, error) {
			return n.Resolvers(ctx)
		},
	})
}
