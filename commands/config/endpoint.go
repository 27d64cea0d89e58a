package config

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/talosconfig"
)

func newCmdEndpoint(f *cmdutil.Factory) *cmdutil.Cmd {
	return newEdit(f, cmdutil.Command{
		Use: "endpoint ADDRESS…", Short: "Set the endpoints of a context",
		Long: "Set the addresses that calls go through: control plane nodes, or a load balancer before them. A virtual IP is\n" +
			"a poor endpoint: it moves while a node reboots.",
		Example: "  talosmate config endpoint 10.0.0.11 10.0.0.12 10.0.0.13\n" +
			"  talosmate config endpoint --context test talos.test.example.com",
	}, edit{Apply: setList("endpoints")})
}

func newCmdNode(f *cmdutil.Factory) *cmdutil.Cmd {
	return newEdit(f, cmdutil.Command{
		Use: "node [ADDRESS…]", Short: "Set the nodes that reads of a context ask by default",
		Long: "Set the nodes that reads ask when no node is chosen; without an address none is set, and reads ask every\n" +
			"member. Commands that change something never use this default.",
		Example: "  talosmate config node 10.0.0.11\n" +
			"  talosmate config node --context test",
		Complete: cmdutil.CompleteNodes,
	}, edit{Apply: setList("nodes")})
}

func setList(field string) func(*cmdutil.Call, *talosconfig.File) (Edit, error) {
	return func(c *cmdutil.Call, file *talosconfig.File) (Edit, error) {
		name := contextOf(c, file)

		return Edit{Context: name, Action: field, Values: c.Args}, file.SetList(name, field, c.Args)
	}
}
