package cluster

import (
	"context"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// NewCmdMembers makes `talosmate members`.
func NewCmdMembers(f *cmdutil.Factory) *cmdutil.Cmd {
	var w cmdutil.Watch

	return cmdutil.New(f, cmdutil.Command{
		Use: "members", Short: "List the cluster's members as discovery knows them",
		Long: "List the cluster's members as discovery knows them. A member stands in the list because it announced\n" +
			"itself, not because it answers: --probe asks each one.",
		Example: "  talosmate members --probe\n" +
			"  talosmate members -o json --query '.items[] | select(.type == \"worker\") | .node'",
		Aliases: []string{"member"},
		Spec:    cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultEndpoint},
		Flags: func(fs *cmdutil.Flags) {
			fs.Bool("probe", false, "ask each member for its version and Kubernetes node name")
			w.Add(fs)
		},
	}, cmdutil.ListOf[talos.Member]("MemberList"), func(c *cmdutil.Call) error {
		return w.Run(c, func() (cmdutil.Reading, error) { return readMembers(c) })
	})
}

func readMembers(c *cmdutil.Call) (cmdutil.Reading, error) {
	cluster, err := c.Cluster()
	if err != nil {
		return nil, err
	}

	var rows []talos.Member

	if sel := c.Selection(); len(sel.Nodes) == 1 {
		// One named node: its own view of the cluster.
		targets, err := c.Targets()
		if err != nil {
			return nil, err
		}

		rows, err = cluster.Node(targets.Nodes[0]).Members(c.Context())
		if err != nil {
			return nil, err
		}
	} else if rows, err = cluster.Relist(c.Context()); err != nil {
		return nil, err
	}

	probe, _ := c.Cmd.Flags().GetBool("probe")
	if probe {
		rows, err = probeMembers(c, cluster, rows)
	}

	return cmdutil.ListReading[talos.Member]{
		Rows: rows, Err: err, Columns: memberColumns(probe), Name: func(m talos.Member) string { return m.Hostname },
	}, nil
}

type probed struct {
	version, kubernetes string
	seconds             float64
}

func probeMembers(c *cmdutil.Call, cluster *talos.Cluster, rows []talos.Member) ([]talos.Member, error) {
	outcomes := talos.Each(c.Context(), cluster, lists.Map(rows, talos.Member.Target), func(ctx context.Context, n *talos.Node) (probed, error) {
		start := time.Now()

		v, err := n.Version(ctx)
		if err != nil {
			return probed{}, err
		}

		name, err := n.KubernetesName(ctx)

		return probed{version: v.Tag, kubernetes: name, seconds: time.Since(start).Seconds()}, err
	})

	for i, o := range outcomes {
		reachable := o.Err == nil
		rows[i].APIReachable = &reachable

		if reachable {
			rows[i].TalosVersion, rows[i].KubernetesName, rows[i].ProbeSeconds = o.Value.version, o.Value.kubernetes, o.Value.seconds
		}
	}

	_, err := talos.Collect(outcomes, false)

	return rows, err
}

func memberColumns(probe bool) []output.Column[talos.Member] {
	cols := []output.Column[talos.Member]{
		{Header: "HOSTNAME", Value: func(m talos.Member) string { return m.Hostname }},
		{Header: "TYPE", Value: func(m talos.Member) string { return m.Type }},
		{Header: "ADDRESSES", Value: func(m talos.Member) string { return strings.Join(m.Addresses, ",") }},
		{Header: "VERSION", Value: func(m talos.Member) string { return m.TalosVersion }},
		{Header: "OS", Wide: true, Value: func(m talos.Member) string { return m.OperatingSystem }},
		{Header: "ID", Wide: true, Value: func(m talos.Member) string { return m.NodeID }},
	}

	if !probe {
		return cols
	}

	return append(cols,
		output.Column[talos.Member]{Header: "KUBERNETES", Value: func(m talos.Member) string { return m.KubernetesName }},
		output.Column[talos.Member]{Header: "REACHABLE", Value: func(m talos.Member) string {
			return output.YesNo(m.APIReachable != nil && *m.APIReachable)
		}},
	)
}
