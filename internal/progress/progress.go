// Package progress carries what long work tells while it goes on. Operations emit events; a sink shows them
// on stderr as lines, as a live block on a terminal, or as JSON.
package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Event is one thing that happened.
type Event struct {
	Type    string    `json:"type"`              // Always "progress".
	Schema  string    `json:"schema,omitempty"`  // The schema's name, in the first event only.
	Time    time.Time `json:"time"`              // When it happened.
	Node    string    `json:"node,omitempty"`    // The node, empty for the whole run.
	Stage   string    `json:"stage"`             // The phase: preflight, pull, cordon, drain, install, reboot, wait, …
	Message string    `json:"message,omitempty"` // What is going on.
	Current int64     `json:"current,omitempty"` // Bytes or steps so far.
	Total   int64     `json:"total,omitempty"`   // Bytes or steps in all, 0 when unknown.
	Done    bool      `json:"done,omitempty"`    // Whether the node is finished.
	Failed  bool      `json:"failed,omitempty"`  // Whether it failed.
}

// Sink receives events. Emit may be called from several goroutines. Close ends the display and waits until
// everything is written.
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

// Modes lists the values of --progress.
func Modes() []string { return []string{"auto", "tty", "plain", "json", "none"} }

// New makes the sink for a mode; auto is tty on a terminal and plain elsewhere.
func New(mode string, w io.Writer, tty bool, width int) Sink {
	if mode == "auto" {
		mode = "plain"
		if tty {
			mode = "tty"
		}
	}

	switch mode {
	case "json":
		return &jsonSink{enc: json.NewEncoder(w)}
	case "none":
		return Discard{}
	case "tty":
		return newTTY(w, width)
	default:
		return &plainSink{w: w, last: map[string]string{}}
	}
}

type jsonSink struct {
	mu    sync.Mutex
	enc   *json.Encoder
	begun bool
}

func (s *jsonSink) Emit(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()

	e.Type = "progress"
	if !s.begun {
		e.Schema, s.begun = "talosmate/v1/ProgressEvent", true
	}

	// Progress is best effort: a closed stderr must not fail the work.
	_ = s.enc.Encode(e)
}

func (s *jsonSink) Close() {}

// plainSink writes a line when something new is said; counters alone are not news.
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
	parts := []string{}
	for _, p := range []string{e.Node, e.Stage, e.Message} {
		if p != "" {
			parts = append(parts, p)
		}
	}

	return strings.Join(parts, ": ")
}

// ttySink shows one line a node and redraws them; one goroutine owns the terminal.
type ttySink struct {
	events chan Event
	done   chan struct{}
}

func newTTY(w io.Writer, width int) Sink {
	s := &ttySink{events: make(chan Event, 64), done: make(chan struct{})}
	go s.draw(w, width)

	return s
}

func (s *ttySink) Emit(e Event) { s.events <- e }

func (s *ttySink) Close() {
	close(s.events)
	<-s.done
}

type ttyLine struct {
	event   Event
	started time.Time
}

func (s *ttySink) draw(w io.Writer, width int) {
	defer close(s.done)

	lines := map[string]*ttyLine{}
	order := []string{}
	shown := 0
	tick := time.NewTicker(200 * time.Millisecond)

	defer tick.Stop()

	paint := func(now time.Time) {
		var b strings.Builder

		if shown > 0 {
			fmt.Fprintf(&b, "\x1b[%dA", shown)
		}

		for _, node := range order {
			b.WriteString("\x1b[2K" + lines[node].render(now, width) + "\n")
		}

		shown = len(order)
		_, _ = io.WriteString(w, b.String())
	}

	for {
		select {
		case e, open := <-s.events:
			if !open {
				paint(time.Now())

				return
			}

			if lines[e.Node] == nil {
				lines[e.Node] = &ttyLine{started: e.Time}
				order = append(order, e.Node)
				slices.Sort(order)
			}

			lines[e.Node].event = e
		case now := <-tick.C:
			paint(now)
		}
	}
}

func (l *ttyLine) render(now time.Time, width int) string {
	e := l.event
	end := now

	if e.Done {
		end = e.Time
	}

	text := fmt.Sprintf("%-16s %-10s %6s ", e.Node, e.Stage, end.Sub(l.started).Round(time.Second))

	if e.Total > 0 {
		const bar = 20

		filled := int(min(e.Current, e.Total) * bar / e.Total)
		text += "[" + strings.Repeat("=", filled) + strings.Repeat(" ", bar-filled) + "] "
	}

	text += strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}

		return r
	}, e.Message)

	if r := []rune(text); len(r) > width-1 && width > 1 {
		text = string(r[:width-1])
	}

	return text
}
