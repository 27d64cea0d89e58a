package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/fleet"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// NewCmdDescribe makes `talosmate describe` and `talosmate describe node`.
func NewCmdDescribe(f *cmdutil.Factory) *cmdutil.Cmd {
	report := ""

	cmd := cmdutil.New(f, cmdutil.Command{
		Use: "describe", Short: "Describe the cluster on one page",
		Long: "Describe the cluster on one page: versions, types, health, etcd, disks, extensions, schematics, image\n" +
			"drift, certificate and alerts. What cannot be read is left empty and reported as an error; what the\n" +
			"certificate may not read is left empty.",
		Example: "  talosmate describe\n" +
			"  talosmate describe --report cluster.html\n" +
			"  talosmate describe --workers -o json --query '.result.nodes[] | select(.image_drift) | .hostname'",
		Spec:  cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultCluster},
		Flags: func(fs *cmdutil.Flags) { reportFlag(fs, &report) },
		Check: func(*cmdutil.Call) error { return checkReport(report) },
	}, cmdutil.ResultOf[fleet.Description]("ClusterDescription"), func(c *cmdutil.Call) error {
		seen, err := gatherFleet(c, f.Now)
		if len(seen.Nodes) == 0 {
			return err
		}

		d := fleet.Describe(seen, certificate(c))
		err = errors.Join(err, saveReport(c, report, f.Build, describePage(d)))

		return cmdutil.PrintResult(c, d, err, seen.Context, showDescription)
	})
	cmd.AddCommand(newCmdDescribeNode(f))

	return cmd
}

func certificate(c *cmdutil.Call) fleet.Certificate {
	out := fleet.Certificate{Roles: []string{}}

	if cluster, err := c.Cluster(); err == nil && cluster.Context != nil {
		out.Roles = append(out.Roles, cluster.Context.Roles...)

		if at := cluster.Context.NotAfter; !at.IsZero() {
			at = at.UTC()
			out.Expires = &at
		}
	}

	return out
}

func showDescription(w io.Writer, d fleet.Description) error {
	word := "healthy"
	if !d.Health.Healthy {
		word = fmt.Sprintf("NOT healthy: %d checks failed, %d have no answer", d.Health.Failed, d.Health.Unknown)
	}

	lines := [][2]string{
		{"Cluster", d.Context},
		{"Versions", strings.Join(d.Versions, ", ")},
		{"Health", word},
		{"etcd", etcdLine(d.Etcd)},
		{"Kubernetes", kubernetesLine(d.Kubernetes)},
		{"Certificate", certificateLine(d.Certificate)},
	}

	if err := output.Facts(w, lines); err != nil {
		return err
	}

	fmt.Fprintln(w)

	if err := output.WriteTable(w, describeColumns(), d.Nodes); err != nil {
		return err
	}

	for _, n := range d.Nodes {
		for _, a := range n.Alerts {
			fmt.Fprintf(w, "\nalert on %s: %s: %s", output.Cell(n.NodeName()), output.Cell(a.ID), output.Cell(a.Message))
		}
	}

	return showFindings(w, d.Health.Checks)
}

func showFindings(w io.Writer, found []fleet.Finding) error {
	for _, f := range found {
		fmt.Fprintf(w, "\n%s %s: %s", f.Status, output.Cell(strings.TrimSpace(f.ID+" "+cmp.Or(f.Hostname, f.Node))), output.Cell(f.Message))
	}

	if len(found) == 0 {
		return nil
	}

	_, err := fmt.Fprintln(w)

	return err
}

func describeColumns() []output.Column[fleet.Node] {
	return []output.Column[fleet.Node]{
		{Header: "NODE", Value: fleet.Node.NodeName},
		{Header: "TYPE", Value: func(n fleet.Node) string { return n.Type }},
		{Header: "VERSION", Value: func(n fleet.Node) string { return n.Version }},
		{Header: "STAGE", State: true, Value: stageOf},
		{Header: "KUBERNETES", State: true, Value: func(n fleet.Node) string { return kubeWord(n.Kubernetes) }},
		{Header: "SCHEMATIC", Value: func(n fleet.Node) string { return n.Schematic[:min(8, len(n.Schematic))] }},
		{Header: "EXTENSIONS", Drop: 1, Value: func(n fleet.Node) string { return number(len(n.Extensions)) }},
		{Header: "DISKS", Drop: 2, Value: func(n fleet.Node) string { return fmt.Sprint(len(n.Disks)) }},
		{Header: "DRIFT", Value: drifts},
		{Header: "EXTENSION NAMES", Wide: true, Value: extensionsOf},
		{Header: "INSTALL IMAGE", Wide: true, Value: driftOf},
	}
}

func stageOf(n fleet.Node) string {
	switch {
	case !n.Reachable:
		return "no answer"
	case !n.Ready:
		return n.Stage + ", not ready"
	default:
		return n.Stage
	}
}

func kubeWord(k fleet.KubeNode) string {
	switch {
	case k.Name == "":
		return ""
	case !k.Known:
		return "unknown"
	case !k.Ready:
		return "not ready"
	case !k.Schedulable:
		return "ready, cordoned"
	default:
		return "ready"
	}
}

func extensionsOf(n fleet.Node) string {
	return lists.Join(n.Extensions, ",", func(e fleet.Extension) string { return e.Name })
}

// number shows a count, nothing for none.
func number(n int) string {
	if n == 0 {
		return ""
	}

	return fmt.Sprint(n)
}

func drifts(n fleet.Node) string {
	if !n.Reachable {
		return ""
	}

	return output.YesNo(n.ImageDrift)
}

func driftOf(n fleet.Node) string {
	if n.ImageDrift {
		return n.InstallImage
	}

	return ""
}

func etcdLine(e fleet.Etcd) string {
	if e.Healthy {
		return fmt.Sprintf("healthy, %d members", len(e.Members))
	}

	return "NOT healthy: " + strings.Join(e.Problems, "; ")
}

func kubernetesLine(k fleet.Kubernetes) string {
	if k.Available {
		return "its API answers"
	}

	return "not available: " + strings.TrimPrefix(k.Reason, "cannot list Kubernetes nodes: ")
}

func certificateLine(c fleet.Certificate) string {
	line := strings.Join(c.Roles, ", ")
	if c.Expires != nil {
		line += ", expires " + c.Expires.Format(time.RFC3339)
	}

	return line
}
