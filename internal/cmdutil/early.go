package cmdutil

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

// How a list is shown before it is whole.
const (
	earlyAfter = time.Second            // A list that takes less is shown once.
	earlyEvery = 500 * time.Millisecond // How often it is drawn again, if rows have come.
)

// early draws on a terminal the rows of the nodes that have answered while others have not. The whole list replaces it.
type early struct {
	call    *Call
	targets []talos.Target
	reading func(ended []talos.Target) Reading

	mu    sync.Mutex
	ended map[string]bool // By address.
	drawn int             // The lines on the screen.
}

// drawsEarly reports whether a list is for a person at a terminal, and drawn nowhere else.
func (c *Call) drawsEarly() bool {
	format := c.Printer.Format
	people := !c.Printer.Structured() && c.Printer.View == nil && (format == output.Table || format == output.Wide)
	mode, _ := c.Cmd.Flags().GetString("progress")

	return people && c.IO.CanRedraw() && c.notes == nil && c.Printer.Limit == (output.Limit{}) && (mode == "auto" || mode == "tty")
}

// add notes that a node has answered.
func (e *early) add(node string) {
	e.mu.Lock()
	defer e.mu.Unlock()

	e.ended[node] = true
}

// during draws until the function that it returns is called, which erases what was drawn and writes the warnings that came
// meanwhile.
func (e *early) during(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	e.call.notes = &notes{}

	go func() {
		defer close(done)

		next := time.NewTimer(earlyAfter)
		defer next.Stop()

		for shown := 0; ; next.Reset(earlyEvery) {
			select {
			case <-ctx.Done():
				return
			case <-next.C:
				shown = e.draw(shown)
			}
		}
	}()

	return func() {
		cancel()
		<-done

		if e.drawn > 0 {
			_ = iostreams.Overdraw(e.call.Printer.Out, e.drawn, nil) // what comes next fails too if the terminal is closed
		}

		e.call.writeNotes()
		e.call.notes = nil
	}
}

// draw shows the rows so far, if there are more than were shown, and which nodes are awaited. It returns how many nodes have
// ended.
func (e *early) draw(shown int) int {
	var (
		ended   []talos.Target
		awaited []string
	)

	targets := lists.Map(e.targets, talos.Target.Whole)

	e.mu.Lock()

	for _, t := range targets {
		if e.ended[t.Address] {
			ended = append(ended, t)
		} else {
			awaited = append(awaited, t.Name())
		}
	}

	e.mu.Unlock()

	if len(ended) == shown || len(awaited) == 0 {
		return shown // the whole list comes next
	}

	text, err := e.call.human(e.reading(ended), true)
	if err != nil {
		return shown // the whole list reports it
	}

	width, height := e.call.IO.Size()
	slices.Sort(awaited)

	body := append([]string{""}, lines(text)...)
	below := fmt.Sprintf("waiting for %s of %d: %s", output.Count(len(awaited), "node"), len(e.targets), output.Line(strings.Join(awaited, ", ")))
	screen := fit(body[min(1, len(body)-1)], body[min(2, len(body)):], []string{below}, width, height)

	if iostreams.Overdraw(e.call.Printer.Out, e.drawn, screen) == nil {
		e.drawn = len(screen)
	}

	return len(ended)
}

// eachEarly is talos.Each for rows, which are shown on a terminal as they come.
func eachEarly[T any, P Row[T]](c *Call, targets []talos.Target, fetch func(context.Context, *talos.Node) ([]T, error), reading func([]T, error) Reading) []talos.Outcome[[]T] {
	if reading == nil || len(targets) < 2 || !c.drawsEarly() {
		return talos.Each(c.ctx, c.cluster, targets, fetch)
	}

	var outcomes sync.Map // by address

	e := &early{call: c, targets: targets, ended: map[string]bool{}, reading: func(ended []talos.Target) Reading {
		return reading(rowsOf[T, P](c, lists.Map(ended, func(t talos.Target) talos.Outcome[[]T] {
			o, _ := outcomes.Load(t.Address)
			outcome, _ := o.(talos.Outcome[[]T]) //nolint:errcheck // it was stored before the node ended
			outcome.Target = t

			return outcome
		})))
	}}

	defer e.during(c.ctx)()

	return talos.Each(c.ctx, c.cluster, targets, func(ctx context.Context, n *talos.Node) ([]T, error) {
		rows, err := fetch(ctx, n)
		outcomes.Store(n.Address, talos.Outcome[[]T]{Value: rows, Err: err})
		e.add(n.Address)

		return rows, err
	})
}
