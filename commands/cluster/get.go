package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/redact"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

type getOptions struct {
	typ, id, namespace string
	selectors          []string
	showSecrets        bool
	watch              cmdutil.Watch
}

// NewCmdGet makes `talosmate get`.
func NewCmdGet(f *cmdutil.Factory) *cmdutil.Cmd {
	var o getOptions

	return cmdutil.New(f, cmdutil.Command{
		Use: "get TYPE [ID]", Short: "Get Talos resources of any type",
		Long: "Get Talos resources by type: the full name, an alias or the short name, as the node itself defines\n" +
			"them. Specs pass through exactly as Talos names their fields, also for types of newer releases; a table\n" +
			"has the columns that the type defines. `talosmate api-resources` lists the types. Without -n all members are asked.\n" +
			"--watch lists again every --interval; with -o ndjson the nodes themselves report every change. The specs of types that Talos calls\n" +
			"sensitive (machine configurations, certificates, keys), and secrets in other specs, are hidden unless\n" +
			"--show-secrets is given; `talosmate machineconfig get` shows a configuration with its secrets redacted.",
		Example: "  talosmate get members\n" +
			"  talosmate get machinestatus machine -n worker-1 -o json --query '.items[0].spec.stage'\n" +
			"  talosmate get services -n cp-1 --watch -o ndjson",
		ArgsHint: "talosmate api-resources",
		Spec:     cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers, Insecure: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVar(&o.namespace, "namespace", "", "the resources' namespace (default: the type's own)")
			fs.Complete("namespace", completeNamespaces)
			fs.StringSliceVar(&o.selectors, "selector", nil, "label selector: key, key! or key=value; all must match")
			fs.BoolVar(&o.showSecrets, "show-secrets", false, "show the specs of sensitive types, and secrets in others")
			o.watch.Add(fs)
		},
		Complete: completeGet,
	}, cmdutil.ListOf[talos.Resource]("ResourceList"), func(c *cmdutil.Call) error {
		o.typ = c.Args[0]
		if len(c.Args) == 2 {
			o.id = c.Args[1]
		}

		if slices.Contains(definitions(), strings.ToLower(o.typ)) {
			c.Spec.Default = target.DefaultEndpoint // every node has the same
		}

		if o.watch.On() && c.Printer.Format == output.NDJSON && c.Printer.Query == "" && c.Printer.Limit == (output.Limit{}) {
			return o.stream(c)
		}

		return o.watch.Run(c, func() (cmdutil.Reading, error) { return o.read(c), nil })
	})
}

// definitions are the names of the type that lists the types.
func definitions() []string {
	return []string{"rd", "rds", "resourcedefinition", "resourcedefinitions", "resourcedefinitions.meta", "resourcedefinitions.meta.cosi", "resourcedefinitions.meta.cosi.dev"}
}

func (o getOptions) read(c *cmdutil.Call) cmdutil.Reading {
	var kinds sync.Map // By the address of the node: releases differ.

	rows, err := cmdutil.FetchRows(c, func(ctx context.Context, n *talos.Node) ([]talos.Resource, error) {
		kind, err := o.resolve(ctx, c, n)
		if err != nil {
			return nil, err
		}

		kinds.Store(n.Address, kind)

		var list []talos.Resource

		if o.id == "" {
			list, err = n.Resources(ctx, kind.DefaultNamespace, kind.Type, o.selectors...)
		} else {
			list = make([]talos.Resource, 1)
			list[0], err = n.Resource(ctx, kind.DefaultNamespace, kind.Type, o.id)
		}

		for i := range list {
			list[i].Spec = o.shown(kind, list[i].Spec)
		}

		return list, err
	})

	var own []talos.PrintColumn

	if len(rows) > 0 {
		if kind, ok := kinds.Load(rows[0].Node); ok {
			own = kind.(talos.ResourceKind).Columns
		}
	}

	columns := resourceColumns(own)
	if !c.IO.OutTTY {
		columns = inPipe(columns, len(own), rows)
	}

	return cmdutil.ListReading[talos.Resource]{
		Rows: rows, Err: err, Columns: columns, Name: func(r talos.Resource) string { return r.Metadata.Type + "/" + r.Metadata.ID },
	}
}

// shown hides the spec of a sensitive type, and the secrets that other types hold, unless they were asked for.
func (o getOptions) shown(kind talos.ResourceKind, spec any) any {
	switch {
	case o.showSecrets || spec == nil:
		return spec
	case kind.Sensitive:
		return redact.Hidden
	default:
		return redact.Plain(spec)
	}
}

// resolve finds the type among those that the node knows; the wanted namespace replaces the type's own.
func (o getOptions) resolve(ctx context.Context, c *cmdutil.Call, n *talos.Node) (talos.ResourceKind, error) {
	cluster, err := c.Cluster()
	if err != nil {
		return talos.ResourceKind{}, err
	}

	kinds, err := cluster.ResourceKinds(ctx, n)
	if err != nil {
		return talos.ResourceKind{}, err
	}

	kind, err := talos.FindKind(kinds, o.typ)
	if err == nil && o.namespace != "" {
		kind.DefaultNamespace = o.namespace
	}

	return kind, err
}

// stream writes every change as one JSON object a line.
func (o getOptions) stream(c *cmdutil.Call) error {
	targets, err := c.Targets()
	if err != nil {
		return err
	}

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	stream := output.NewStream(c.IO.Out, "ResourceEvent")
	failures := make([]error, len(targets.Nodes))

	var wg errs.Group

	for i, t := range targets.Nodes {
		wg.Go(func() {
			node := cluster.Node(t)

			failures[i] = node.Blame("watch", errs.Safely(func() error {
				kind, err := o.resolve(c.Context(), c, node)
				if err != nil {
					return err
				}

				return node.WatchResources(c.Context(), kind.DefaultNamespace, kind.Type, o.id, o.selectors, func(e talos.ResourceEvent) error {
					e.Spec = o.shown(kind, e.Spec)

					return stream.Event(e)
				})
			}))
		})
	}

	wg.Wait()

	return errors.Join(failures...)
}

// ownKept is how many of a type's own columns a narrow table keeps: Talos lists the most telling first.
const ownKept = 3

// inPipe leaves the last columns of a type to -o wide where a table would be wider than 100 columns: a terminal omits what
// does not fit, a pipe cuts nothing.
func inPipe(columns []output.Column[talos.Resource], own int, rows []talos.Resource) []output.Column[talos.Resource] {
	const widest = 100

	for last := len(columns) - 2; own > ownKept && output.Width(columns, rows) > widest; own, last = own-1, last-1 {
		columns[last].Wide = true
	}

	return columns
}

// resourceColumns are those of every resource, and those that the type defines. A type without any shows its spec.
func resourceColumns(own []talos.PrintColumn) []output.Column[talos.Resource] {
	cols := []output.Column[talos.Resource]{
		{Header: "NODE", Value: talos.Resource.NodeName},
		{Header: "NAMESPACE", Wide: true, Value: func(r talos.Resource) string { return r.Metadata.Namespace }},
		{Header: "TYPE", Wide: true, Value: func(r talos.Resource) string { t, _, _ := strings.Cut(r.Metadata.Type, "."); return t }},
		{Header: "ID", Value: func(r talos.Resource) string { return r.Metadata.ID }},
		{Header: "VERSION", Wide: true, Value: func(r talos.Resource) string { return r.Metadata.Version }},
		{Header: "PHASE", Wide: true, Value: func(r talos.Resource) string { return r.Metadata.Phase }},
		{Header: "OWNER", Wide: true, Value: func(r talos.Resource) string { return r.Metadata.Owner }},
	}

	for i, c := range own {
		drop := 0
		if i >= ownKept {
			drop = 1
		}

		if value, err := output.ColumnPath(c.JSONPath); err == nil { // without its column a resource is shown all the same
			cols = append(cols, output.Column[talos.Resource]{
				Header: strings.ToUpper(output.Cell(c.Name)), Drop: drop, Value: func(r talos.Resource) string { return value(r.Spec) },
			})
		}
	}

	return append(cols, output.Column[talos.Resource]{Header: "SPEC", Wide: len(own) > 0, Value: summarize})
}

// summarize shows a spec on one line; the whole of it is in -o yaml.
func summarize(r talos.Resource) string {
	raw, err := json.Marshal(r.Spec)
	if err != nil {
		return fmt.Sprint(r.Spec)
	}

	const limit = 80

	if text := []rune(string(raw)); len(text) > limit {
		return string(text[:limit-1]) + "…"
	}

	return string(raw)
}

func completeGet(ctx context.Context, c *cmdutil.Call, args []string) []string {
	return cmdutil.CompleteFrom(func(ctx context.Context, n *talos.Node) ([]string, error) {
		kinds, err := n.ResourceKinds(ctx)
		if err != nil {
			return nil, err
		}

		if len(args) == 0 {
			names := lists.Map(kinds, func(k talos.ResourceKind) string { return strings.ToLower(firstLabel(k.Type)) })
			slices.Sort(names)

			return names, nil
		}

		kind, err := talos.FindKind(kinds, args[0])
		if err != nil {
			return nil, err
		}

		list, err := n.Resources(ctx, kind.DefaultNamespace, kind.Type)

		return lists.Map(list, func(r talos.Resource) string { return r.Metadata.ID }), err
	})(ctx, c, nil)
}

// completeNamespaces offers the namespaces that the types have.
func completeNamespaces(ctx context.Context, c *cmdutil.Call, _ []string) []string {
	return cmdutil.CompleteFrom(func(ctx context.Context, n *talos.Node) ([]string, error) {
		kinds, err := n.ResourceKinds(ctx)
		names := lists.Map(kinds, func(k talos.ResourceKind) string { return k.DefaultNamespace })
		slices.Sort(names)

		return slices.Compact(names), err
	})(ctx, c, nil)
}

func firstLabel(typ string) string {
	label, _, _ := strings.Cut(typ, ".")

	return label
}
