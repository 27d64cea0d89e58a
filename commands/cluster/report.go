package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/fleet"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/page"
)

// reportFlag adds --report to a command with a page for people.
func reportFlag(fs *cmdutil.Flags, file *string) {
	fs.StringVar(file, "report", "", "also write the result as one HTML page to this `file`, to be sent to somebody")
	fs.Complete("report", cmdutil.CompleteFiles)
}

// checkReport refuses before anything is asked what cannot be written later.
func checkReport(file string) error {
	if file == "" {
		return nil
	}

	if !strings.HasSuffix(strings.ToLower(file), ".html") && !strings.HasSuffix(strings.ToLower(file), ".htm") {
		return errs.Usagef("a report is an HTML page, and %s is not named like one", file).WithHint("name it FILE.html")
	}

	return cmdutil.Writable(file)
}

// saveReport writes the page, if one is wanted.
func saveReport(c *cmdutil.Call, file string, build cmdutil.Build, p page.Page) error {
	if file == "" {
		return nil
	}

	p.Made, p.By = c.Printer.Now(), "talosmate "+build.Version

	return page.Save(file, p)
}

func pageState(status string) page.State {
	switch status {
	case health.OK:
		return page.Good
	case health.Fail:
		return page.Bad
	case health.Warn:
		return page.Warning
	case health.Unknown:
		return page.Unknown
	default:
		return page.Plain
	}
}

// healthPage shows what needs attention first, and every check below.
func healthPage(context string, r health.Result) page.Page {
	word, _, _ := strings.Cut(summaryLine(r), ":")
	p := page.Page{
		Title: "Health of " + cmp.Or(context, "the cluster"), Verdict: word, State: page.Good,
		Facts: []page.Fact{
			{Name: "Checked", Value: r.Scope + ", by the " + r.Source},
			{Name: "Checks", Value: fmt.Sprintf("%d ok, %d failed, %s, %d skipped, %d unknown",
				r.Summary.OK, r.Summary.Fail, output.Count(r.Summary.Warn, "warning"), r.Summary.Skip, r.Summary.Unknown)},
			{Name: "Not authorized", Value: strings.Join(r.NotAuthorized, ", ")},
		},
	}

	switch {
	case !r.Healthy:
		p.State = page.Bad
	case len(r.NotAuthorized) > 0 || r.Summary.Warn > 0:
		p.State = page.Warning
	}

	open := lists.Filter(r.Findings, func(f health.Finding) bool { return f.Status != health.OK && f.Status != health.Skip })
	worst := []string{health.Fail, health.Unknown, health.Warn}

	lists.Sort(open, func(a, b health.Finding) int {
		return cmp.Compare(slices.Index(worst, a.Status), slices.Index(worst, b.Status))
	})

	p.Sections = append(p.Sections, page.Section{
		Title: "Needs attention", Empty: "Nothing.", Columns: []string{"Status", "Check", "Node", "What was found"},
		Rows: lists.Map(open, func(f health.Finding) []page.Cell {
			return []page.Cell{{Text: f.Status, State: pageState(f.Status)}, {Text: f.Title, Note: f.ID}, {Text: nodeOf(f)}, {Text: found(f), Note: f.Hint}}
		}),
	})

	for _, level := range []string{"talos", "etcd", "kubernetes"} {
		own := lists.Filter(r.Findings, func(f health.Finding) bool { return f.Level == level })

		p.Sections = append(p.Sections, page.Section{
			Title: "Checks of " + levelName(level), Columns: []string{"Status", "Check", "Node", "What was found"},
			Rows: lists.Map(own, func(f health.Finding) []page.Cell {
				return []page.Cell{{Text: f.Status, State: pageState(f.Status)}, {Text: f.Title, Note: f.ID}, {Text: nodeOf(f)}, {Text: found(f)}}
			}),
		})
	}

	return p
}

func levelName(level string) string {
	if level == "etcd" {
		return level
	}

	return strings.ToUpper(level[:1]) + level[1:]
}

// found is what a check found, with the error behind it.
func found(f health.Finding) string {
	if f.LastError != "" && f.Status != health.OK && f.Status != health.Skip {
		return f.Message + ": " + f.LastError
	}

	return f.Message
}

// describePage is the description of the cluster.
func describePage(d fleet.Description) page.Page {
	p := page.Page{
		Title: "Cluster " + cmp.Or(d.Context, "without a name"), Verdict: "healthy", State: page.Good,
		Facts: []page.Fact{
			{Name: "Versions", Value: strings.Join(d.Versions, ", ")},
			{Name: "Nodes", Value: nodeCounts(d.Nodes)},
			{Name: "etcd", Value: etcdLine(d.Etcd)},
			{Name: "Kubernetes", Value: kubernetesLine(d.Kubernetes)},
			{Name: "Certificate", Value: certificateLine(d.Certificate)},
		},
	}

	if !d.Health.Healthy {
		p.State, p.Verdict = page.Bad, fmt.Sprintf("NOT healthy: %s failed, %d without an answer", output.Count(d.Health.Failed, "check"), d.Health.Unknown)
	}

	var alerts [][]page.Cell

	for _, n := range d.Nodes {
		for _, a := range n.Alerts {
			alerts = append(alerts, []page.Cell{{Text: n.NodeName()}, {Text: a.ID, State: page.Warning}, {Text: a.Message}})
		}
	}

	p.Sections = []page.Section{
		{
			Title: "Needs attention", Empty: "No check failed.", Columns: []string{"Status", "Check", "Node", "What was found"},
			Rows: lists.Map(d.Health.Checks, func(f fleet.Finding) []page.Cell {
				return []page.Cell{{Text: f.Status, State: pageState(f.Status)}, {Text: f.ID}, {Text: cmp.Or(f.Hostname, f.Node, "-")}, {Text: f.Message}}
			}),
		},
		{Title: "Alerts", Columns: []string{"Node", "Alert", "What was found"}, Rows: alerts},
		{
			Title: "Nodes", Columns: []string{"Node", "Type", "Talos", "Stage", "Kubernetes", "Disks", "Extensions", "Image"},
			Rows: lists.Map(d.Nodes, describeRow),
		},
	}

	return p
}

func describeRow(n fleet.Node) []page.Cell {
	stage := page.Cell{Text: stageOf(n), State: page.Good}

	switch {
	case !n.Reachable:
		stage.State = page.Bad
	case !n.Ready:
		stage.State = page.Warning
	}

	image := page.Cell{Text: n.Schematic[:min(12, len(n.Schematic))]}
	if n.ImageDrift {
		image.Note, image.State = "the install image is another one: "+n.InstallImage, page.Warning
	}

	return []page.Cell{
		{Text: n.NodeName(), Note: n.Node},
		{Text: n.Type},
		{Text: n.Version, Note: strings.Trim(n.Platform+"/"+n.Arch, "/")},
		stage,
		{Text: kubeWord(n.Kubernetes)},
		{Text: fmt.Sprint(len(n.Disks)), Note: lists.Join(n.Disks, ", ", func(disk fleet.Disk) string { return disk.Device + " " + output.Bytes(disk.SizeBytes) })},
		{Text: extensionsOf(n)},
		image,
	}
}

func nodeCounts(nodes []fleet.Node) string {
	types, order := map[string]int{}, []string{}

	for _, n := range nodes {
		word := cmp.Or(n.Type, "of unknown type")
		if types[word] == 0 {
			order = append(order, word)
		}

		types[word]++
	}

	slices.Sort(order)

	return lists.Join(order, ", ", func(word string) string { return fmt.Sprintf("%d %s", types[word], word) })
}
