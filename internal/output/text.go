package output

import (
	"io"
	"strings"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/lists"
)

// Layout is how text for people is laid out.
type Layout struct {
	Width   int  // The columns of the terminal, which a table must fit; 0 in a pipe and for -o wide: nothing is cut.
	Color   bool // The terminal shows colours.
	Wide    bool // Columns of -o wide are shown.
	Headers bool // Tables have a line of headers.
}

// Text is stdout for people. It is neutral in a pipe too, because it may still be shown on a terminal.
type Text struct {
	*iostreams.Terminal

	Layout Layout
}

// Text is where the result is written for people.
func (p *Printer) Text() *Text {
	layout := Layout{Wide: p.Format == Wide, Headers: !p.NoHeaders}

	if p.Screen != nil {
		layout.Width, layout.Color = p.Screen()
	}

	if layout.Wide {
		layout.Width = 0
	}

	return &Text{Terminal: iostreams.NewTerminal(p.Out), Layout: layout}
}

// layoutOf is the layout of a writer: that of a pipe for anything but a Text.
func layoutOf(w io.Writer) Layout {
	if t, ok := w.(*Text); ok {
		return t.Layout
	}

	return Layout{Headers: true}
}

// Paint writes spans, in their styles where the writer is a terminal in colour.
func Paint(w io.Writer, spans ...iostreams.Span) error {
	if t, ok := w.(*Text); ok && t.Layout.Color {
		return t.WriteSpans(spans...)
	}

	_, err := io.WriteString(w, lists.Join(spans, "", func(s iostreams.Span) string { return s.Text }))

	return err
}

// Plain is text without a style.
func Plain(text string) iostreams.Span { return iostreams.Span{Text: text} }

// State is a state word in its colour.
func State(word string) iostreams.Span { return iostreams.Span{Style: stateStyle(word), Text: word} }

// WithoutHeaders returns the writer for what continues a table.
func WithoutHeaders(w io.Writer) io.Writer {
	layout := layoutOf(w)
	layout.Headers = false

	if t, ok := w.(*Text); ok {
		return &Text{Terminal: t.Terminal, Layout: layout}
	}

	return &Text{Terminal: iostreams.NewTerminal(w), Layout: layout}
}

// Heading writes a heading, and ends the line.
func Heading(w io.Writer, text string) error {
	return Paint(w, iostreams.Span{Style: iostreams.Bold, Text: Line(text)}, iostreams.Span{Text: "\n"})
}

// Facts writes names and values below each other. Empty values are left out. A value that begins with a state word has
// its colour.
func Facts(w io.Writer, facts [][2]string) error {
	const name = 14

	room := layoutOf(w).Width - name - 1

	for _, f := range facts {
		if f[1] == "" {
			continue
		}

		value := Cell(f[1])
		if room > minimum {
			value = fitCell(value, room)
		}

		label := f[0] + ":" + strings.Repeat(" ", max(0, name-len(f[0])-1)) + " "

		if err := Paint(w, iostreams.Span{Style: iostreams.Bold, Text: label}, iostreams.Span{Style: stateStyle(value), Text: value}, iostreams.Span{Text: "\n"}); err != nil {
			return err
		}
	}

	return nil
}

// Fit cuts a line for a terminal on which it stands at a column; in a pipe it stays whole.
func Fit(w io.Writer, line string, column int) string {
	if room := layoutOf(w).Width - column; room > minimum {
		return fitCell(line, room)
	}

	return line
}

// stateStyle is the colour of a state word: of the whole text, or of what is before its first comma or colon.
func stateStyle(text string) iostreams.Style {
	text = strings.ToLower(strings.TrimSpace(text))

	if style := wordStyle(text); style != "" {
		return style
	}

	if at := strings.IndexAny(text, ",:"); at > 0 {
		return wordStyle(text[:at])
	}

	return ""
}

func wordStyle(word string) iostreams.Style {
	switch word {
	case "ok", "healthy", "running", "ready", "pass", "passed", "done", "upgraded", "rebooted", "applied", "joined", "verified", "finished",
		"complete", "active", "up", "mounted", "does-not-apply", "met":
		return iostreams.Green
	case "fail", "failed", "unhealthy", "not healthy", "refuse", "refused", "error", "down", "unreachable", "not ready", "running, not ready",
		"no answer", "lost", "halted", "stopped", "broken off", "timed out", "corrupt", "applies", "not met", "not available":
		return iostreams.Red
	case "warn", "warning", "unknown", "skip", "skipped", "pending", "planned", "waiting", "cordoned", "ready, cordoned", "degraded",
		"preparing", "starting", "booting", "rebooting", "upgrading", "installing", "draining", "interrupted", "maintenance", "stopping",
		"learner", "partial", "shutting down", "resetting":
		return iostreams.Yellow
	default:
		return ""
	}
}
