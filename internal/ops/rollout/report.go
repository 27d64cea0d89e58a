package rollout

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/iostreams"
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

	b.WriteString("| node | status | version | API down | took | pods drained | retries | boot |\n|---|---|---|---:|---:|---:|---:|---|\n")

	for _, n := range r.Nodes {
		fmt.Fprintf(&b, "| %s | %s | %s → %s | %s | %s | %d | %d | %s |\n", cell(n.NodeName()), n.Status, cell(n.ServerTag), cell(n.RunningTag),
			span(n.DowntimeSeconds), span(n.ElapsedSeconds), n.DrainedPods, n.Retries, cell(short(n.BootIDBefore)+" → "+short(n.BootIDAfter)))
	}

	b.WriteString("\n")
	list(&b, "Not started", r.Remaining)
	list(&b, "Nothing to do", r.Skipped)
	list(&b, "Gates passed on purpose", r.OverriddenGates)

	for _, n := range r.Nodes {
		if n.Error != "" {
			fmt.Fprintf(&b, "- **%s**: %s\n", cell(n.NodeName()), cell(n.Error))
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
