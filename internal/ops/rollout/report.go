package rollout

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/talos"
)

// WriteReport writes the run as Markdown, for a ticket or a chat. timeline is the picture's file, empty for
// none.
func WriteReport(w io.Writer, r ApplyResult, timeline string) error {
	var b strings.Builder

	fmt.Fprintf(&b, "# Upgrade of %s to %s: %s\n\n", cell(r.Cluster), cell(r.To), r.Status)
	fmt.Fprintf(&b, "%s to %s (%s). %d upgraded, %d failed, %d skipped, %d not started. %d pods drained. Plan `%.12s`.\n\n",
		r.StartedAt.Format(time.RFC3339), r.FinishedAt.Format("15:04:05Z07:00"), span(r.ElapsedSeconds),
		r.Upgraded, r.Failed, len(r.Skipped), len(r.Remaining), r.DrainedPods, r.PlanHash)

	if r.Error != "" {
		fmt.Fprintf(&b, "> **%s**\n", cell(r.Error))

		if r.Hint != "" {
			fmt.Fprintf(&b, "> %s\n", cell(r.Hint))
		}

		b.WriteString("\n")
	}

	if timeline != "" {
		fmt.Fprintf(&b, "![Who was down when](%s)\n\n", filepath.Base(timeline))
	}

	b.WriteString("| node | status | version | API away | took | pods drained | retries | boot |\n|---|---|---|---:|---:|---:|---:|---|\n")

	for _, n := range r.Nodes {
		fmt.Fprintf(&b, "| %s | %s | %s → %s | %s | %s | %d | %d | %s |\n", cell(nameOf(n)), n.Status, cell(n.ServerTag), cell(n.RunningTag),
			span(n.DowntimeSeconds), span(n.ElapsedSeconds), n.DrainedPods, n.Retries, cell(short(n.BootIDBefore)+" → "+short(n.BootIDAfter)))
	}

	b.WriteString("\n")
	list(&b, "Not started", r.Remaining)
	list(&b, "Nothing to do", r.Skipped)
	list(&b, "Gates passed on purpose", r.OverriddenGates)

	for _, n := range r.Nodes {
		if n.Error != "" {
			fmt.Fprintf(&b, "- **%s**: %s\n", cell(nameOf(n)), cell(n.Error))
		}
	}

	if r.Snapshot != nil {
		fmt.Fprintf(&b, "\nSnapshot of etcd before: `%s` (%d bytes, SHA-256 `%s`).\n", r.Snapshot.Path, r.Snapshot.SizeBytes, r.Snapshot.SHA256)
	}

	if len(r.Checks) > 0 {
		b.WriteString("\n| waited for | before | took | held | |\n|---|---|---:|---|---|\n")

		for _, c := range r.Checks {
			fmt.Fprintf(&b, "| %s | %s | %s | %t | %s |\n", cell(c.Kind), cell(c.Next), span(c.WaitedSeconds), c.OK, cell(c.Message))
		}
	}

	_, err := io.WriteString(w, b.String())

	return err
}

func nameOf(n upgrade.Result) string {
	return talos.Target{Address: n.Node, Hostname: n.Hostname}.Name()
}

// cell writes text so that Markdown shows it: as text, not as markup, link or mention, and stays in its cell.
func cell(s string) string {
	return strings.NewReplacer(
		"&", "&amp;", "<", "&lt;", ">", "&gt;", `\`, `\\`, "|", `\|`, "`", "\\`", "*", `\*`, "_", `\_`, "~", `\~`, "[", `\[`, "]", `\]`,
		"!", `\!`, "#", `\#`, "@", `\@`, "://", `:\//`, "www.", `www\.`,
	).Replace(iostreams.Line(s))
}

func list(b *strings.Builder, title string, items []string) {
	if len(items) > 0 {
		fmt.Fprintf(b, "%s: %s.\n\n", title, cell(strings.Join(items, ", ")))
	}
}

func short(id string) string { return id[:min(8, len(id))] }

func span(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond).String()
}

// WriteTimeline draws who did what when as an SVG: a row a node, a bar a stage, the API's absence in red.
func WriteTimeline(w io.Writer, r ApplyResult) error {
	const (
		left, right, row, width = 160, 20, 26, 1000
		top                     = 46
	)

	total := max(r.FinishedAt.Sub(r.StartedAt).Seconds(), 0.001)
	x := func(at time.Time) float64 {
		return left + at.Sub(r.StartedAt).Seconds()/total*(width-left-right)
	}

	names := []string{}
	for _, n := range r.Nodes {
		if !slices.Contains(names, nameOf(n)) {
			names = append(names, nameOf(n))
		}
	}

	height := top + len(names)*row + 40

	var b strings.Builder

	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="10" y="20" font-size="14">%s to %s: %s, %s</text>`+"\n", escape(r.Cluster), escape(r.To), r.Status, span(total))

	for i := range 11 {
		at := left + float64(i)/10*(width-left-right)
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#dddddd"/><text x="%.1f" y="%d" fill="#666666" text-anchor="middle" font-size="10">%s</text>`+"\n",
			at, top-8, at, height-32, at, height-18, span(total*float64(i)/10))
	}

	for i, name := range names {
		y := top + i*row
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-8, y+14, escape(name))

		for _, n := range r.Nodes {
			if nameOf(n) == name {
				for _, bar := range bars(n) {
					fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"><title>%s: %s, %s</title></rect>`+"\n",
						x(bar.from), y, max(0.5, x(bar.to)-x(bar.from)), row-8, bar.colour, escape(name), bar.what, span(bar.to.Sub(bar.from).Seconds()))
				}
			}
		}
	}

	at := float64(left)
	for _, k := range legend() {
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="10" height="10" fill="%s"/><text x="%.1f" y="%d" font-size="10">%s</text>`+"\n", at, height-12, k.colour, at+14, height-3, k.what)
		at += 80
	}

	b.WriteString("</svg>\n")

	_, err := io.WriteString(w, b.String())

	return err
}

type bar struct {
	what, colour string
	from, to     time.Time
}

func legend() []bar {
	return []bar{
		{what: "pull", colour: "#9ecae1"},
		{what: "drain", colour: "#fdd0a2"},
		{what: "install", colour: "#a1d99b"},
		{what: "API away", colour: "#d73027"},
		{what: "verify", colour: "#c7b9e2"},
		{what: "other", colour: "#d9d9d9"},
	}
}

// bars are the stages of a node in time; the API's absence, which ends with the new boot's first answer,
// lies over the wait.
func bars(n upgrade.Result) []bar {
	colours := map[string]string{}
	for _, k := range legend() {
		colours[k.what] = k.colour
	}

	var out []bar

	for i, s := range n.Stages {
		end := s.Time
		if i+1 < len(n.Stages) {
			end = n.Stages[i+1].Time
		} else if len(n.Stages) > 0 {
			end = n.Stages[0].Time.Add(time.Duration(n.ElapsedSeconds * float64(time.Second)))
		}

		out = append(out, bar{what: s.Stage, colour: cmp.Or(colours[s.Stage], colours["other"]), from: s.Time, to: end})
	}

	for _, s := range n.Stages {
		if s.Stage == "wait" && strings.HasPrefix(s.Message, disruption.Back) && n.DowntimeSeconds > 0 {
			out = append(out, bar{
				what: "API away", colour: colours["API away"], to: s.Time, from: s.Time.Add(-time.Duration(n.DowntimeSeconds * float64(time.Second))),
			})
		}
	}

	return out
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(iostreams.Line(s))
}
