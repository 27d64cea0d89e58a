// Package progress reports long work while it runs. Operations emit events; a sink shows them on stderr as lines, as a
// block on a terminal that is redrawn, or as JSON.
package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/iostreams"
)

// Event is one thing that happened.
type Event struct {
	Type    string    `json:"type"`              // Always "progress".
	Schema  string    `json:"schema,omitempty"`  // The schema's name, in the first event only.
	Time    time.Time `json:"time"`              // When it happened.
	Node    string    `json:"node,omitempty"`    // The node, empty for the whole run.
	Stage   string    `json:"stage"`             // The phase: preflight, pull, cordon, drain, install, reboot, wait, …
	Message string    `json:"message,omitempty"` // What is happening.
	Current int64     `json:"current,omitempty"` // Bytes or steps so far.
	Total   int64     `json:"total,omitempty"`   // Bytes or steps in total, 0 when unknown.
	Done    bool      `json:"done,omitempty"`    // Whether the node is finished.
	Failed  bool      `json:"failed,omitempty"`  // Whether it failed.
}

// Sink receives events. Emit may be called from several goroutines. Close ends the display and waits until everything
// is written; it may be called more than once.
type Sink interface {
	Emit(Event)
	Close()
}

// Discard is the sink that shows nothing.
type Discard struct{}

// Emit implements Sink.
func (Discard) Emit(Event) {}

// Close implements Sink.
func (Discard) Close() {}

// Part passes the events of a part of an operation on, but not its end.
type Part struct{ Sink }

// Emit implements Sink.
func (p Part) Emit(e Event) {
	if !e.Done {
		p.Sink.Emit(e)
	}
}

// Modes lists the values of --progress.
func Modes() []string { return []string{"auto", "tty", "plain", "json", "none"} }

// Screen describes the terminal that a sink writes to.
type Screen struct {
	TTY           bool
	Width, Height int // In cells; 0 when unknown.
}

// New makes the sink for a mode; auto is tty on a terminal and plain elsewhere.
func New(mode string, w io.Writer, screen Screen) Sink {
	if mode == "auto" {
		mode = "plain"
		if screen.TTY {
			mode = "tty"
		}
	}

	switch mode {
	case "json":
		return &jsonSink{w: w}
	case "none":
		return Discard{}
	case "tty":
		return newTTY(w, screen)
	default:
		return &plainSink{w: w, last: map[string]string{}}
	}
}

// Warner is a sink that places warnings so that they do not disturb its display.
type Warner interface{ Warn(text string) }

type jsonSink struct {
	mu    sync.Mutex
	w     io.Writer
	begun bool
}

func (s *jsonSink) Emit(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()

	e.Type = "progress"
	if !s.begun {
		e.Schema, s.begun = "talosmate/v1/ProgressEvent", true
	}

	line, err := json.Marshal(e)
	if err != nil {
		return
	}

	// Progress is best effort: a closed stderr must not fail the operation.
	_, _ = s.w.Write(append(iostreams.EscapeJSON(line), '\n'))
}

// Warn implements Warner: every line is an event.
func (s *jsonSink) Warn(text string) {
	s.Emit(Event{Time: time.Now(), Stage: "warning", Message: text})
}

func (s *jsonSink) Close() {}

// plainSink writes a line for each new message; a change of counters alone is not shown.
type plainSink struct {
	mu   sync.Mutex
	w    io.Writer
	last map[string]string
}

func (s *plainSink) Emit(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()

	text := describe(e)
	if s.last[e.Node] == text {
		return
	}

	s.last[e.Node] = text
	fmt.Fprintf(s.w, "%s %s\n", e.Time.UTC().Format("15:04:05"), text)
}

func (s *plainSink) Close() {}

func describe(e Event) string {
	parts := slices.DeleteFunc([]string{e.Node, e.Stage, e.Message}, func(p string) bool { return p == "" })

	return iostreams.Line(strings.Join(parts, ": "))
}
