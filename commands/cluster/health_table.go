package cluster

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/output"
)

// tableDelay is how long findings are collected before those that are known are shown. A cluster in which everything
// answers is one sorted table.
const tableDelay = time.Second

// healthTable shows findings while others are still missing.
type healthTable struct {
	printer *output.Printer

	mu      sync.Mutex
	pending []health.Finding // What was not shown yet.
	widths  [3]int           // Of the first columns, once something was shown.
	err     error
}

func newHealthTable(p *output.Printer) *healthTable {
	return &healthTable{printer: p}
}

// shown reports whether the output is a table: a document is written as a whole.
func (t *healthTable) shown() bool {
	return !t.printer.Structured() && t.printer.Format != output.Name
}

// add takes a finding.
func (t *healthTable) add(f health.Finding) {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.pending = append(t.pending, f)
}

// follow writes what was added at intervals, until stop is called.
func (t *healthTable) follow() (stop func()) {
	ticker, done := time.NewTicker(tableDelay), make(chan struct{})

	go func() {
		for {
			select {
			case <-ticker.C:
				t.flush()
			case <-done:
				return
			}
		}
	}()

	return func() {
		ticker.Stop()
		close(done)
	}
}

func (t *healthTable) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()

	if len(t.pending) == 0 || t.err != nil {
		return
	}

	first := !t.begun()
	if first {
		t.widths = [3]int{len(health.Unknown), 0, len("NODE")}
		for _, c := range health.IDs() {
			t.widths[1] = max(t.widths[1], len(c.ID))
		}
	}

	text := t.printer.Text()
	t.err = cmp.Or(t.write(text, t.pending, first), text.Flush())
	t.pending = nil
}

// begun reports whether something was shown.
func (t *healthTable) begun() bool { return t.widths[0] > 0 }

// write writes rows as part of the table.
func (t *healthTable) write(w io.Writer, rows []health.Finding, first bool) error {
	health.Sort(rows)

	for _, f := range rows {
		if t.begun() {
			t.widths[2] = max(t.widths[2], len(nodeOf(f)))
		}
	}

	padded := func(column int, text string) string {
		return text + strings.Repeat(" ", max(0, t.widths[column]-len(text)))
	}

	cols := healthColumns()
	for i := range t.widths {
		value := cols[i].Value
		cols[i].Value = func(f health.Finding) string { return padded(i, value(f)) }
	}

	if !first {
		w = output.WithoutHeaders(w)
	}

	return output.WriteTable(w, cols, rows)
}

func healthColumns() []output.Column[health.Finding] {
	return []output.Column[health.Finding]{
		{Header: "STATUS", State: true, Value: func(f health.Finding) string { return f.Status }},
		{Header: "CHECK", Value: func(f health.Finding) string { return f.ID }},
		{Header: "NODE", Value: nodeOf},
		{Header: "MESSAGE", Value: func(f health.Finding) string {
			if f.LastError != "" && f.Status != health.OK && f.Status != health.Skip {
				return f.Message + ": " + f.LastError
			}

			return f.Message
		}},
	}
}

// nodeOf is the name of a finding's node, a dash for the cluster.
func nodeOf(f health.Finding) string { return iostreams.Line(cmp.Or(f.Hostname, f.Node, "-")) }

// finish writes the rows that were not shown, each hint once, and the verdict.
func (t *healthTable) finish(w io.Writer, r health.Result) error {
	t.mu.Lock()
	defer t.mu.Unlock()

	rest := t.pending
	if !t.begun() {
		rest = r.Findings
	}

	t.pending = nil
	if err := cmp.Or(t.err, t.write(w, rest, !t.begun())); err != nil {
		return err
	}

	if _, err := fmt.Fprintln(w, strings.Join(hints(r), "")); err != nil {
		return err
	}

	return writeSummary(w, r)
}

// hints lists each hint once, each after a line end.
func hints(r health.Result) []string {
	var out []string

	for _, f := range r.Findings {
		if hint := fmt.Sprintf("\nhint (%s): %s", f.ID, output.Line(f.Hint)); f.Hint != "" && f.Status != health.OK && !slices.Contains(out, hint) {
			out = append(out, hint)
		}
	}

	return out
}

// summaryLine is the verdict, and how many findings have which status.
func summaryLine(r health.Result) string {
	word := "healthy"

	switch {
	case !r.Healthy:
		word = "NOT healthy"
	case len(r.NotAuthorized) > 0:
		word = "healthy, as far as this certificate is authorized to look"
	}

	return fmt.Sprintf("%s: %d ok, %d failed, %s, %d skipped, %d unknown",
		word, r.Summary.OK, r.Summary.Fail, output.Count(r.Summary.Warn, "warning"), r.Summary.Skip, r.Summary.Unknown)
}

func writeSummary(w io.Writer, r health.Result) error {
	word, counts, _ := strings.Cut(summaryLine(r), ":")

	return output.Paint(w, output.State(word), output.Plain(":"+counts+"\n"))
}

// liveHealth writes what needs attention first: a screen may be too low for all of it.
func liveHealth(w io.Writer, r health.Result) error {
	if err := writeSummary(w, r); err != nil {
		return err
	}

	if err := output.WriteTable(w, healthColumns(), bySeverity(r.Findings)); err != nil {
		return err
	}

	_, err := fmt.Fprintln(w, strings.Join(hints(r), ""))

	return err
}

// bySeverity sorts findings: what failed, what has no answer, warnings, what passed, what was skipped.
func bySeverity(found []health.Finding) []health.Finding {
	order := []string{health.Fail, health.Unknown, health.Warn, health.OK, health.Skip}
	found = slices.Clone(found)

	lists.Sort(found, func(a, b health.Finding) int {
		return slices.Index(order, a.Status) - slices.Index(order, b.Status)
	})

	return found
}
