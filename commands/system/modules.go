package system

import (
	"context"
	"strconv"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdModules(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "modules", Aliases: []string{"module"}, Short: "List the kernel modules of each node",
		Example: "  talosmate system modules -n worker-1\n" +
			"  talosmate system modules -A -o json --query '.items[] | select(.name == \"drbd\") | .node + \" \" + .state'",
		Spec: spec(),
	}, "KernelModuleList", cmdutil.NodeList[talos.KernelModule]{
		Columns: []output.Column[talos.KernelModule]{
			{Header: "MODULE", Value: func(m talos.KernelModule) string { return m.Name }},
			{Header: "TYPE", Value: func(m talos.KernelModule) string { return m.Type }},
			{Header: "STATE", State: true, Value: func(m talos.KernelModule) string { return m.State }},
			{Header: "SIZE", Value: func(m talos.KernelModule) string { return output.Bytes(uint64(max(m.SizeBytes, 0))) }},
			{Header: "USED BY", Value: func(m talos.KernelModule) string { return strconv.Itoa(m.References) }},
			{Header: "NEEDS", Wide: true, Value: func(m talos.KernelModule) string { return strings.Join(m.Dependencies, ",") }},
		},
		Name: func(m talos.KernelModule) string { return m.Name },
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.KernelModule, error) {
		return n.KernelModules(ctx)
	})
}
