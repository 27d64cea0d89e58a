package network

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdHostname(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "hostname", Aliases: []string{"hostnames"}, Short: "Show what each node calls itself",
		Example: "  talosmate network hostname\n" +
			"  talosmate network hostname -n 10.0.0.21 --insecure -o json --query '.items[].fqdn'",
		Spec: spec(),
	}, "HostnameList", cmdutil.NodeList[talos.Hostname]{
		PerNode: true,
		Columns: []output.Column[talos.Hostname]{
			{Header: "HOSTNAME", Value: func(h talos.Hostname) string { return h.Name }},
			{Header: "DOMAIN", Value: func(h talos.Hostname) string { return h.Domain }},
			{Header: "FQDN", Value: func(h talos.Hostname) string { return h.FQDN }},
		},
		Name: func(h talos.Hostname) string { return h.FQDN },
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Hostname, error) {
		return n.HostnameStatus(ctx)
	})
}
