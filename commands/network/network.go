// Package network holds `talosmate network`: links, addresses, routes, names, peers and sockets.
package network

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("network", "Look at links, addresses, routes, peers and sockets", []string{"net"},
		newCmdInterfaces(f), newCmdAddresses(f), newCmdRoutes(f), newCmdResolvers(f), newCmdBGP(f), newCmdHostname(f), newCmdKubeSpan(f), newCmdNetstat(f), newCmdCapture(f))
}

// spec is that of a view over resources, which a node in maintenance mode shows too.
func spec() cmdutil.Spec {
	return cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers, Insecure: true}
}

func linkLocalFlag(fs *cmdutil.Flags, p *bool) {
	fs.BoolVar(p, "link-local", false, "show link-local addresses too")
}
