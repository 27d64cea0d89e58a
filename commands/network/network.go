// Package network holds `talosmate network`: links, addresses, routes, names, peers and sockets.
package network

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/talos"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cobra.Command {
	return cmdutil.Group("network", "Look at links, addresses, routes, peers and sockets", []string{"net"},
		newCmdInterfaces(f), newCmdAddresses(f), newCmdRoutes(f), newCmdResolvers(f), newCmdHostname(f), newCmdKubeSpan(f), newCmdNetstat(f), newCmdCapture(f))
}

// spec is that of a view over resources, which a node in maintenance mode shows too.
func spec(schema string) cmdutil.Spec {
	return cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Schema: schema, Default: talos.DefaultMembers, Insecure: true}
}

func linkLocalFlag(fs *pflag.FlagSet, p *bool) {
	fs.BoolVar(p, "link-local", false, "show link-local addresses too")
}
