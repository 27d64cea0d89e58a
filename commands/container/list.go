package container

import (
	"context"
	"strconv"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdList(f *cmdutil.Factory) *cmdutil.Cmd {
	var namespace string

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the pods and containers of each node",
		Long: "List pods with their containers (-k, the default) or Talos's own containers (--namespace system). The\n" +
			"runtime shows only pods whose sandbox is ready: a completed or restarting pod is not among them.",
		Example: "  talosmate container list -n worker-1\n" +
			"  talosmate container list -A -o json --query '.items[] | select(.sandbox | not) | .image'",
		Spec:  cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers},
		Flags: func(fs *cmdutil.Flags) { namespaceFlag(fs, &namespace) },
	}, "ContainerList", cmdutil.NodeList[talos.Container]{
		Columns: []output.Column[talos.Container]{
			{Header: "CONTAINER", Value: func(c talos.Container) string { return tree(c.Sandbox, c.PodID, c.ID, c.Name) }},
			{Header: "STATUS", State: true, Value: func(c talos.Container) string { return c.Status }},
			{Header: "PID", Value: func(c talos.Container) string { return strconv.FormatUint(uint64(c.PID), 10) }},
			{Header: "IMAGE", Value: func(c talos.Container) string { return c.Image }},
			{Header: "POD UID", Wide: true, Value: func(c talos.Container) string { return c.UID }},
			{Header: "NETWORK", Wide: true, Value: func(c talos.Container) string { return c.NetworkNamespace }},
		},
		Name:    func(c talos.Container) string { return c.ID },
		Watched: true,
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Container, error) {
		list, err := n.Containers(ctx, namespace)

		return talos.SortContainers(list), err
	})
}
