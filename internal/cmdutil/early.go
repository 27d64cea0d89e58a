package cmdutil

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

// How a list is shown before it is whole.
const (
	earlyAfter = time.Second            // A list that takes less is shown once.
	earlyEvery = 500 * time.Millisecond // How often it is drawn again, if rows have come.
)

// early draws on a terminal the rows of the nodes that have answered while others have not. The whole list replaces it.
type early[T any] struct {
	call    *Call
	targets []talos.Target
	reading func([]talos.Outcome[[]T]) Reading

	mu       sync.Mutex
	outcomes map[string]talos.Outcome[[]T] // By address.
	drawn    int                           // The lines on the screen.
}

// drawsEarly reports whether a list is for a person at a terminal, and drawn nowhere else.
func (c *Call) drawsEarly() bool {
	format := c.Printer.Format
	people := !c.Printer.Structured() && c.Printer.View == nil && (format == output.Table || format == output.Wide)
	mode, _ := c.Cmd.Flags().GetString("progress")

	return people && c.IO.CanRedraw() && c.notes == nil && c.Printer.Limit == (output.Limit{}) && (mode == "auto" || mode == "tty")
}

// add notes the answer of a node.
func (e *early[T]) add(n *talos.Node, rows []T, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()

	e.outcomes[n.Address] = talos.Outcome[[]T]{Target: n.Target, Value: rows, Err: err}
}

// during draws until the function that it returns is called, which erases what was drawn and writes the warnings that came
// meanwhile.
func (e *early[T]) during(ctx context.Context) (end func()) {
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
func (e *early[T]) draw(shown int) int {
	var (
		ended   []talos.Outcome[[]T]
		awaited []string
	)

	e.mu.Lock()

	for _, t := range e.targets {
		if o, ok := e.outcomes[t.Address]; ok {
			ended = append(ended, o)
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

	e := &early[T]{
		call: c, targets: targets, outcomes: map[string]talos.Outcome[[]T]{},
		reading: func(ended []talos.Outcome[[]T]) Reading { return reading(rowsOf[T, P](c, ended)) },
	}

	defer e.during(c.ctx)()

	return talos.Each(c.ctx, c.cluster, targets, func(ctx context.Context, n *talos.Node) ([]T, error) {
		rows, err := fetch(ctx, n)
		e.add(n, rows, err)

		return rows, err
	})
}
