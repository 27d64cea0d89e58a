package cluster

import (
	"context"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// NewCmdAPIResources makes `talosmate api-resources`.
func NewCmdAPIResources(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "api-resources", Short: "List the resource types of the nodes with short names",
		Long: "List the types of resources that `talosmate get` reads, as the node itself defines them. All nodes of a\n" +
			"release have the same types, so one node is asked unless others are named. Only os:admin may read a type\n" +
			"that is sensitive.",
		Example: "  talosmate api-resources\n" +
			"  talosmate api-resources -o json --query '.items[] | select(.sensitivity == \"sensitive\") | .name'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultEndpoint, Insecure: true},
	}, cmdutil.ListOf[talos.ResourceType]("ResourceTypeList"), func(c *cmdutil.Call) error {
		nodes := map[string]bool{}

		rows, err := cmdutil.FetchRows(c, func(ctx context.Context, n *talos.Node) ([]talos.ResourceType, error) {
			return n.ResourceTypes(ctx)
		})
		for _, row := range rows {
			nodes[row.Node] = true
		}

		return cmdutil.PrintList(c, rows, err, typeColumns(len(nodes) > 1), func(t talos.ResourceType) string { return t.Name })
	})
}

// typeColumns has the node only where there are several, as in `kubectl api-resources` the name comes first.
func typeColumns(several bool) []output.Column[talos.ResourceType] {
	cols := []output.Column[talos.ResourceType]{
		{Header: "NAME", Value: func(t talos.ResourceType) string { return t.Name }},
		{Header: "SHORTNAMES", Value: shortNames},
		{Header: "NAMESPACE", Value: func(t talos.ResourceType) string { return t.Namespace }},
		{Header: "SENSITIVITY", Value: func(t talos.ResourceType) string { return t.Sensitivity }},
		{Header: "KIND", Wide: true, Value: func(t talos.ResourceType) string { return t.Kind }},
		{Header: "TYPE", Wide: true, Value: func(t talos.ResourceType) string { return t.Type }},
	}

	if several {
		return append(cmdutil.NodeColumns[talos.ResourceType](), cols...)
	}

	return cols
}

// shortNames omits the name of one resource, which everybody can guess.
func shortNames(t talos.ResourceType) string {
	return strings.Join(lists.Filter(t.Aliases, func(name string) bool { return !strings.EqualFold(name, t.Kind) }), ",")
}
