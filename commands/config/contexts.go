package config

import (
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
)

func newCmdContexts(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "contexts", Aliases: []string{"list", "ls"}, Short: "List the contexts of the talosconfig",
		Example: "  talosmate config contexts\n" +
			"  talosmate config contexts -o name",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Offline: true},
	}, cmdutil.ListOf[Context]("ConfigContextList"), func(c *cmdutil.Call) error {
		cfg, err := f.LoadTalosconfig(c.Cmd.Flags())
		if err != nil {
			return err
		}

		current, _ := c.Cmd.Flags().GetString("context")
		if current == "" {
			current = cfg.Context
		}

		c.Printer.Context = current

		return cmdutil.PrintList(c, inspect(cfg, current, f.Now()).Contexts, nil, []output.Column[Context]{
			{Header: "*", Value: marked},
			{Header: "NAME", Value: func(r Context) string { return r.Name }},
			{Header: "ENDPOINTS", Value: func(r Context) string { return strings.Join(r.Endpoints, ",") }},
			{Header: "NODES", Value: func(r Context) string { return strings.Join(r.Nodes, ",") }},
			{Header: "ROLES", Wide: true, Value: func(r Context) string { return strings.Join(r.Roles, ",") }},
			{Header: "PROBLEM", Wide: true, Value: func(r Context) string { return r.Problem }},
		}, func(r Context) string { return r.Name })
	})
}
