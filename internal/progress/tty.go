package progress

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/lists"
)

// ttySink shows one line a node and redraws them; one goroutine owns the terminal.
type ttySink struct {
	w      io.Writer
	events chan Event
	warned chan string
	once   sync.Once
	stop   chan struct{}
	done   chan struct{}
}

func newTTY(w io.Writer, screen Screen) Sink {
	s := &ttySink{w: w, events: make(chan Event, 64), warned: make(chan string), stop: make(chan struct{}), done: make(chan struct{})}
	go s.draw(screen)

	return s
}

// Emit implements Sink. After Close, nothing more is shown.
func (s *ttySink) Emit(e Event) {
	select {
	case s.events <- e:
	case <-s.done:
	}
}

// Warn implements Warner: the line goes above the block.
func (s *ttySink) Warn(text string) {
	select {
	case s.warned <- text:
	case <-s.done:
		_, _ = io.WriteString(s.w, warning(text))
	}
}

func warning(text string) string { return "warning: " + iostreams.Line(text) + "\n" }

// Close implements Sink.
func (s *ttySink) Close() {
	s.once.Do(func() { close(s.stop) })
	<-s.done
}

type ttyLine struct {
	event   Event
	started time.Time
}

// block is what is drawn: the lines of all nodes, sorted by name.
type block struct {
	screen Screen
	lines  map[string]*ttyLine
	order  []string
	shown  int
}

func (b *block) take(e Event) {
	if b.lines[e.Node] == nil {
		b.lines[e.Node] = &ttyLine{started: e.Time}
		b.order = append(b.order, e.Node)
		slices.Sort(b.order)
	}

	b.lines[e.Node].event = e
}

// paint draws the block over the previous one, with a text above it.
func (b *block) paint(w io.Writer, now time.Time, above string) {
	if len(b.order) == 0 && above == "" {
		return // somebody may be typing an answer
	}

	var out strings.Builder

	out.WriteString(above)

	back := iostreams.EraseBelow
	if b.shown > 0 {
		back = iostreams.CursorUp(b.shown) + back
	}

	visible := b.visible()
	for _, node := range visible {
		out.WriteString(b.lines[node].render(now, b.screen.Width) + "\n")
	}

	b.shown = len(visible)

	if hidden := len(b.order) - len(visible); hidden > 0 {
		fmt.Fprintf(&out, "… and %d more\n", hidden)
		b.shown++
	}

	_ = iostreams.Draw(w, back, out.String()) // best effort: a closed stderr must not fail the work
}

// visible returns the lines that fit: a block higher than the terminal could not be redrawn. Nodes in progress come
// first.
func (b *block) visible() []string {
	room := b.screen.Height - 2 // One line for "… and N more", one for the cursor.
	if b.screen.Height <= 0 || len(b.order) <= room+1 {
		return b.order
	}

	ranked := slices.Clone(b.order)
	lists.Sort(ranked, func(x, y string) int {
		return b.lines[x].rank() - b.lines[y].rank()
	})

	ranked = ranked[:max(room, 1)]
	slices.Sort(ranked)

	return ranked
}

// rank is 0 for a node that is in progress or failed, 1 for one that is done.
func (l *ttyLine) rank() int {
	if l.event.Done && !l.event.Failed {
		return 1
	}

	return 0
}

func (s *ttySink) draw(screen Screen) {
	defer close(s.done)

	b := block{screen: screen, lines: map[string]*ttyLine{}}
	tick := time.NewTicker(200 * time.Millisecond)

	defer tick.Stop()

	for {
		select {
		case e := <-s.events:
			b.take(e)
		case text := <-s.warned:
			b.paint(s.w, time.Now(), warning(text))
		case now := <-tick.C:
			b.paint(s.w, now, "")
		case <-s.stop:
			for len(s.events) > 0 {
				b.take(<-s.events)
			}

			b.paint(s.w, time.Now(), "")

			return
		}
	}
}

func (l *ttyLine) render(now time.Time, width int) string {
	e := l.event
	end := now

	if e.Done {
		end = e.Time
	}

	text := fmt.Sprintf("%-16s %-10s %6s ", iostreams.Line(e.Node), iostreams.Line(e.Stage), end.Sub(l.started).Round(time.Second))

	if e.Total > 0 {
		const bar = 20

		filled := int(min(e.Current, e.Total) * bar / e.Total)
		text += "[" + strings.Repeat("=", filled) + strings.Repeat(" ", bar-filled) + "] "
	}

	text += iostreams.Line(e.Message)

	if r := []rune(text); len(r) > width-1 && width > 1 {
		text = string(r[:width-1])
	}

	return text
}
