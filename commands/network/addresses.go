package network

import (
	"context"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdAddresses(f *cmdutil.Factory) *cmdutil.Cmd {
	var linkLocal bool

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "addresses", Aliases: []string{"address", "addr"}, Short: "List the addresses of each node",
		Example: "  talosmate network addresses -n worker-1\n" +
			"  talosmate network addresses -A --link-local -o json --query '.items[] | select(.family == \"inet6\") | .address'",
		Spec:  spec(),
		Flags: func(fs *cmdutil.Flags) { linkLocalFlag(fs, &linkLocal) },
	}, "AddressList", cmdutil.NodeList[talos.Address]{
		Columns: []output.Column[talos.Address]{
			{Header: "LINK", Value: func(a talos.Address) string { return a.Interface }},
			{Header: "IP", Value: func(a talos.Address) string { return a.Address }},
			{Header: "SCOPE", Value: func(a talos.Address) string { return a.Scope }},
			{Header: "FLAGS", Value: func(a talos.Address) string { return strings.Join(a.Flags, ",") }},
			{Header: "FAMILY", Wide: true, Value: func(a talos.Address) string { return a.Family }},
		},
		Name: func(a talos.Address) string { return a.Address },
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Address, error) {
		list, err := n.Addresses(ctx)

		return slices.DeleteFunc(list, func(a talos.Address) bool { return !linkLocal && a.LinkLocal() }), err
	})
}
