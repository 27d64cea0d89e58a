package extension

import (
	"context"
	"sync"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdList(f *cmdutil.Factory) *cmdutil.Cmd {
	var diff bool

	answered := &roll{}

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the system extensions of each node",
		Long: "List the system extensions of the running system with the node's Image Factory schematic. The schematic\n" +
			"is an extension of its own: its version is the ID.\n\n" +
			"--diff shows only what is not the same on all nodes, and answers with exit code 3 when anything is.",
		Example: "  talosmate extension list -n worker-1\n" +
			"  talosmate extension list --workers --diff",
		Spec:  cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers},
		Flags: func(fs *cmdutil.Flags) { fs.BoolVar(&diff, "diff", false, "show only what differs between the nodes") },
		Check: func(c *cmdutil.Call) error {
			c.Spec.Question = diff // a node that does not answer may be the one that differs

			return nil
		},
	}, "ExtensionList", cmdutil.NodeList[talos.NodeExtension]{
		Columns: []output.Column[talos.NodeExtension]{
			{Header: "EXTENSION", Value: func(e talos.NodeExtension) string { return e.Name }},
			{Header: "VERSION", Value: func(e talos.NodeExtension) string { return output.Short(e.Version) }},
			{Header: "AUTHOR", Value: func(e talos.NodeExtension) string { return e.Author }},
			{Header: "DIFFERENCE", Value: func(e talos.NodeExtension) string { return e.Difference }},
			{Header: "DESCRIPTION", Wide: true, Value: func(e talos.NodeExtension) string { return e.Description }},
			{Header: "SCHEMATIC", Wide: true, Value: func(e talos.NodeExtension) string { return e.Schematic }},
		},
		Name: func(e talos.NodeExtension) string { return e.Name },
		Finish: func(rows []talos.NodeExtension) ([]talos.NodeExtension, error) {
			if !diff {
				return rows, nil
			}

			rows = talos.DiffExtensions(answered.nodes(), rows)
			if len(rows) > 0 {
				return rows, errs.New(errs.Negative, "the nodes do not have the same extensions")
			}

			return rows, nil
		},
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.NodeExtension, error) {
		list, err := n.NodeExtensions(ctx)
		if err == nil {
			answered.add(n.Whole())
		}

		return list, err
	})
}

// roll is the nodes that answered, those without a single extension included.
type roll struct {
	mu  sync.Mutex
	all []talos.NodeRef
}

func (r *roll) add(t talos.Target) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.all = append(r.all, talos.NodeRef{Node: t.Address, Hostname: t.Hostname})
}

func (r *roll) nodes() []talos.NodeRef {
	r.mu.Lock()
	defer r.mu.Unlock()

	lists.Sort(r.all, func(a, b talos.NodeRef) int { return target.CompareAddresses(a.Node, b.Node) })

	return r.all
}
