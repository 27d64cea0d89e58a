// Package page writes reports as one self-contained HTML page: no scripts, nothing from elsewhere, light and dark, on a screen of
// any width and on paper. All text is data and is escaped.
package page

import (
	"bytes"
	"fmt"
	"io"
	"time"

	template "github.com/DataDog/datadog-agent/pkg/template/html" // looks up no methods

	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/redact"
)

// State is how good something is. Each has a colour and a sign, so that the colour alone says nothing.
type State string

// The states.
const (
	Good    State = "good"
	Bad     State = "bad"
	Warning State = "warning"
	Unknown State = "unknown"
	Plain   State = ""
)

// Page is a report.
type Page struct {
	Title    string    // What it is about.
	Verdict  string    // The answer in one line.
	State    State     // How good that is.
	Made     time.Time // When.
	By       string    // The program and its version.
	Facts    []Fact
	Sections []Section
}

// Fact is a name with a value. One without a value is not shown.
type Fact struct{ Name, Value string }

// Section is a table with a title.
type Section struct {
	Title   string
	Empty   string // What stands in place of a table without rows; without it the section is omitted.
	Columns []string
	Rows    [][]Cell
}

// Cell is a value of a table.
type Cell struct {
	Text  string
	Note  string // Smaller, on a line of its own.
	State State
}

// Text makes cells without a state.
func Text(values ...string) []Cell {
	out := make([]Cell, len(values))
	for i, v := range values {
		out[i].Text = v
	}

	return out
}

// Save writes a page into a file that its owner alone can read, and that appears when it is complete.
func Save(path string, p Page) error {
	return fsutil.WriteFile(path, 0o600, func(w io.Writer) error { return Write(w, p) })
}

// Write writes a page.
func Write(w io.Writer, p Page) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"text":  func(s string) string { return iostreams.Line(redact.Text(s)) },
		"short": func(s string) bool { return len(s) <= 12 }, // a name of this length is not broken
		"sign":  sign,
		"stamp": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"label": func(s Section, i int) string {
			if i < len(s.Columns) {
				return s.Columns[i]
			}

			return ""
		},
	}).Parse(layout)
	if err != nil {
		return fmt.Errorf("cannot make the page: %w", err)
	}

	var out bytes.Buffer
	if err = t.Execute(&out, p); err != nil {
		return fmt.Errorf("cannot make the page: %w", err)
	}

	_, err = w.Write(out.Bytes())

	return err
}

func sign(s State) string {
	switch s {
	case Good:
		return "✓"
	case Bad:
		return "✗"
	case Warning:
		return "!"
	case Unknown:
		return "?"
	case Plain:
		return ""
	default:
		return ""
	}
}
