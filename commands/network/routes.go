package network

import (
	"cmp"
	"context"
	"strconv"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdRoutes(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "routes", Aliases: []string{"route"}, Short: "List the routes of each node",
		Example: "  talosmate network routes -n worker-1\n" +
			"  talosmate network routes -A -o json --query '.items[] | select(.destination == \"\") | .node + \" \" + .gateway'",
		Spec: spec(),
	}, "RouteList", cmdutil.NodeList[talos.Route]{
		Columns: []output.Column[talos.Route]{
			{Header: "DESTINATION", Value: destination},
			{Header: "GATEWAY", Value: func(r talos.Route) string {
				return each(r, r.Gateway, func(h talos.NextHop) string { return h.Gateway })
			}},
			{Header: "LINK", Value: func(r talos.Route) string {
				return each(r, r.Interface, func(h talos.NextHop) string { return h.Interface })
			}},
			{Header: "METRIC", Value: func(r talos.Route) string { return strconv.FormatUint(uint64(r.Metric), 10) }},
			{Header: "SOURCE", Value: func(r talos.Route) string { return r.Source }},
			{Header: "TABLE", Value: func(r talos.Route) string { return r.Table }},
			{Header: "TYPE", Wide: true, Value: func(r talos.Route) string { return r.Type }},
			{Header: "PROTOCOL", Wide: true, Value: func(r talos.Route) string { return r.Protocol }},
			{Header: "SCOPE", Wide: true, Value: func(r talos.Route) string { return r.Scope }},
		},
		Name: destination,
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Route, error) { return n.Routes(ctx) })
}

func destination(r talos.Route) string { return cmp.Or(r.Destination, "default") }

// each is a value of the route, or of each of its next hops if it has several.
func each(r talos.Route, single string, of func(talos.NextHop) string) string {
	if len(r.NextHops) == 0 {
		return single
	}

	return strings.Join(lists.Map(r.NextHops, of), ",")
}
