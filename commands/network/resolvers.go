package network

import (
	"context"
	"fmt"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/lists"
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
			{Header: "DNS SERVERS", Value: servers},
			{Header: "SEARCH DOMAINS", Value: func(r talos.Resolvers) string { return strings.Join(r.SearchDomains, ",") }},
		},
		Name: func(r talos.Resolvers) string { return strings.Join(r.DNSServers, "\n") },
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Resolvers, error) {
		return n.Resolvers(ctx)
	})
}

// servers lists the servers, those that are asked over TLS with the name in their certificate.
func servers(r talos.Resolvers) string {
	return strings.Join(lists.Map(r.DNSServers, func(address string) string {
		s, found := lists.Find(r.NameServers, func(s talos.NameServer) bool { return s.Address == address })
		if !found || s.Protocol == talos.PlainDNS {
			return address
		}

		return fmt.Sprintf("%s (%s)", address, strings.TrimSpace(s.Protocol+" "+s.TLSServerName))
	}), ",")
}
