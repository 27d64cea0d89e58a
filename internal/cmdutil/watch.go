package cmdutil

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/poll"
)

// Watch repeats a read until the user interrupts it. A terminal shows the last reading only. A pipe gets the first
// reading, and then a line for each row that appeared, changed or vanished. ndjson gets every reading, each followed by a
// summary line. A node that goes down is an error of the reading; the watch continues and finds it again.
type Watch struct {
	on       bool
	interval time.Duration
}

// Durations of a watch that the user did not choose.
const (
	watchInterval = 2 * time.Second
	watchTimeout  = 10 * time.Second // A silent node holds up the others for this time, so it is less than for one read.
)

// Add puts --watch on a command, and --interval unless the command has one of its own.
func (w *Watch) Add(fs *Flags) {
	w.interval = watchInterval

	fs.BoolVarP(&w.on, "watch", "w", false,
		fmt.Sprintf("read again until interrupted; a node then has %s unless --timeout is given", watchTimeout))

	if fs.Lookup("interval") == nil {
		fs.Positive(&w.interval, "interval", watchInterval, "with --watch: how often")
	}
}

// On reports whether --watch was given.
func (w *Watch) On() bool { return w.on }

// Run prints a reading, or, with --watch, one after the other. An error of read means that nothing could be read.
func (w *Watch) Run(c *Call, read func() (Reading, error)) error {
	if !w.on {
		reading, err := read()
		if err != nil {
			return err
		}

		return reading.Print(c)
	}

	if c.Printer.Limit != (output.Limit{}) {
		return errs.Usagef("a watch has no end, and --%s and --%s cut what has one", maxItems, maxBytes).WithHint("%s", c.Again("--"+maxItems+"=0", "--"+maxBytes+"=0"))
	}

	view, err := c.watchView(w.interval)
	if err != nil {
		return err
	}

	if !c.Cmd.Flags().Changed("timeout") {
		must(c.Cmd.Flags().Lookup("timeout").Value.Set(watchTimeout.String()))
	}

	c.notes = &notes{}

	for first := true; ; first = false {
		reading, err := read()

		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}

		switch {
		case err != nil && first:
			return err
		case err != nil:
			reading = nothing{err}
		case first && reading.empty() && reading.failure() != nil:
			return reading.failure()
		}

		c.printed = true

		if err = view.show(reading); err != nil {
			return err
		}

		if err = poll.Pause(c.ctx, w.interval); err != nil {
			return err
		}
	}
}

// Reading is what a read gave: a ListReading or a ResultReading.
type Reading interface {
	Print(c *Call) error // As a command without --watch prints it.

	failure() error                                    // What could not be read, and the answer of a question if it is no.
	empty() bool                                       // Whether nothing was read.
	people(p *output.Printer) error                    // Writes it for people.
	rows(wide bool) []watchedRow                       // What a pipe compares.
	verdict() string                                   // The answer in a line; empty for none.
	items(p *output.Printer, s *output.Stream) []error // Writes the item lines of ndjson; one error for each line.
}

// watchedRow is a row of a table, as a pipe compares and writes it.
type watchedRow struct {
	key, node string
	state     string // What makes a change.
	cells     []string
}

// ListReading is a reading of rows.
type ListReading[T any] struct {
	Rows    []T
	Err     error
	Columns []output.Column[T]
	Name    func(T) string
	PerNode bool                              // As in NodeList.
	Human   func(w io.Writer, rows []T) error // As in NodeList.
	// Volatile are the columns that change all the time: a row in which only they differ is the same.
	Volatile []string
	Verdict  string // The answer of a question, for the watch.
}

// Print implements Reading.
func (l ListReading[T]) Print(c *Call) error {
	forPeople := !c.Printer.Structured() && c.Printer.Format != output.Name

	c.Printer.PerNode = l.PerNode

	if l.Human == nil || !forPeople || len(l.Rows) == 0 {
		return PrintList(c, l.Rows, l.Err, l.Columns, l.Name)
	}

	c.printed = true

	c.endProgress()

	rows := output.First(c.Printer, l.Rows)

	return errors.Join(l.Err, c.Printer.People(func(w io.Writer) error { return l.Human(w, rows) }))
}

func (l ListReading[T]) failure() error { return l.Err }

func (l ListReading[T]) empty() bool { return len(l.Rows) == 0 }

func (l ListReading[T]) verdict() string { return l.Verdict }

func (l ListReading[T]) people(p *output.Printer) error {
	if l.Human != nil && len(l.Rows) > 0 {
		return p.People(func(w io.Writer) error { return l.Human(w, l.Rows) })
	}

	p.PerNode = l.PerNode

	return output.PrintList(p, l.Rows, l.Err, l.Columns, l.Name)
}

func (l ListReading[T]) rows(wide bool) []watchedRow {
	return tableRows(output.Rows(l.Rows), output.Columns(l.Columns), wide, func(row any) (name, node string) {
		return l.Name(output.Row[T](row)), refOf(row).Node
	}, func(header string, _ any) bool { return slices.Contains(l.Volatile, header) })
}

func (l ListReading[T]) items(_ *output.Printer, s *output.Stream) []error {
	return lists.Map(l.Rows, func(row T) error { return s.Item(row) })
}

// ResultReading is a reading of one result R, whose rows are of type T.
type ResultReading[R, T any] struct {
	Result  R
	Err     error
	Name    string                          // For -o name.
	Human   func(w io.Writer, r R) error    // For people.
	Live    func(w io.Writer, r R) error    // On a terminal that a watch redraws; nil for Human.
	Rows    []T                             // What a watch compares.
	Columns []output.Column[T]              // The columns of the rows.
	Key     func(T) (key, node string)      // What a row is about.
	Same    func(header string, row T) bool // Whether a change in the column is none in this row; nil for none.
	Answer  string                          // The answer in a line.
}

// Print implements Reading.
func (r ResultReading[R, T]) Print(c *Call) error {
	return PrintResult(c, r.Result, r.Err, r.Name, r.Human)
}

func (r ResultReading[R, T]) failure() error { return r.Err }

func (r ResultReading[R, T]) empty() bool { return false }

func (r ResultReading[R, T]) verdict() string { return r.Answer }

func (r ResultReading[R, T]) people(p *output.Printer) error {
	human := r.Human
	if r.Live != nil && p.Live {
		human = r.Live
	}

	return output.PrintResult(p, r.Result, nil, human, r.Name)
}

func (r ResultReading[R, T]) rows(wide bool) []watchedRow {
	return tableRows(output.Rows(r.Rows), output.Columns(r.Columns), wide, func(row any) (name, node string) {
		return r.Key(output.Row[T](row))
	}, func(header string, row any) bool {
		return r.Same != nil && r.Same(header, output.Row[T](row))
	})
}

func (r ResultReading[R, T]) items(p *output.Printer, s *output.Stream) []error {
	return []error{s.Item(output.ResultItem(p, r.Result, r.Err))}
}

// nothing is a reading that failed as a whole.
type nothing struct{ err error }

// Print implements Reading.
func (n nothing) Print(*Call) error { return n.err }

func (n nothing) failure() error                                { return n.err }
func (n nothing) empty() bool                                   { return true }
func (n nothing) verdict() string                               { return "" }
func (n nothing) people(*output.Printer) error                  { return nil }
func (n nothing) rows(bool) []watchedRow                        { return nil }
func (n nothing) items(*output.Printer, *output.Stream) []error { return nil }

// tableRows makes the rows of a table. key is what a row is about, same whether a change in a column is none.
func tableRows(rows []any, cols []output.Column[any], wide bool, key func(any) (name, node string), same func(header string, row any) bool) []watchedRow {
	shown := lists.Filter(cols, func(c output.Column[any]) bool { return wide || !c.Wide })
	seen := map[string]int{}

	return lists.Map(rows, func(row any) watchedRow {
		name, node := key(row)
		r := watchedRow{node: node, key: node + "\n" + name}

		if seen[r.key]++; seen[r.key] > 1 {
			r.key += fmt.Sprintf("\n%d", seen[r.key])
		}

		for _, c := range shown {
			cell := output.Cell(c.Value(row))
			r.cells = append(r.cells, cell)

			if !same(c.Header, row) {
				r.state += cell + "\n"
			}
		}

		return r
	})
}

// watchView shows readings.
type watchView interface{ show(r Reading) error }

// watchView makes the view that suits where the output goes.
func (c *Call) watchView(interval time.Duration) (watchView, error) {
	switch {
	case c.Printer.Format == output.NDJSON && c.Printer.Query == "":
		return &recordView{call: c, stream: output.NewStream(c.Printer.Out, c.Printer.Schema)}, nil
	case c.Printer.Structured() || c.Printer.Format == output.Name:
		return nil, errs.Usagef("a watch has no end, and -o %s wants one document", c.Printer.Format).WithHint("%s", c.Again("-o", "ndjson"))
	case c.IO.CanRedraw():
		return &screenView{call: c, interval: interval}, nil
	default:
		return &lineView{call: c, known: map[string]watchedRow{}, failing: map[string]string{}}, nil
	}
}

// human writes a reading for people into a text.
func (c *Call) human(r Reading, live bool) (string, error) {
	var buf bytes.Buffer

	p := *c.Printer
	p.Out, p.Live = &buf, live
	err := r.people(&p)

	return buf.String(), err
}

// failures lists what could not be read: a question's "no" is not among it, for the view shows the answer.
func failures(r Reading) []errs.Entry {
	return lists.Filter(errs.Entries(r.failure()), func(e errs.Entry) bool {
		return e.Code != string(errs.KindNegative) || r.verdict() == ""
	})
}

// recordView writes one JSON object a line.
type recordView struct {
	call   *Call
	stream *output.Stream
}

// refresh is the summary line that ends each reading.
type refresh struct {
	output.Summary

	Time time.Time `json:"time"` // When the reading was complete.
}

func (v *recordView) show(r Reading) error {
	v.call.writeNotes()

	err, written := r.failure(), 0

	for _, werr := range r.items(v.call.Printer, v.stream) {
		var unfit *errs.Error

		switch {
		case errors.As(werr, &unfit):
			err = errors.Join(err, unfit)
		case werr != nil:
			return werr
		default:
			written++
		}
	}

	entries := errs.Entries(err)
	for _, e := range entries {
		if werr := v.stream.Error(e); werr != nil {
			return werr
		}
	}

	return v.stream.Summary(refresh{output.Summary{Items: written, Errors: len(entries)}, v.call.factory.Now().UTC()})
}

// lineView writes the first reading as it is, and then what changed.
type lineView struct {
	call    *Call
	begun   bool
	known   map[string]watchedRow
	order   []string // Of the keys.
	widths  []int
	verdict string
	failing map[string]string // The names of the nodes that could not be read the last time, by address and cause.
}

// Marks of a changed row.
const (
	markNew     = "+"
	markChanged = "~"
	markGone    = "-"
)

func (v *lineView) show(r Reading) error {
	v.call.writeNotes()

	silent := v.tell(failures(r))
	rows := r.rows(v.call.Printer.Format == output.Wide)

	for _, row := range rows {
		v.widen(row.cells)
	}

	var text string

	if !v.begun {
		v.begun = true

		var err error
		if text, err = v.call.human(r, false); err != nil {
			return err
		}

		v.remember(rows)
	} else {
		text = v.changes(rows, silent)

		if verdict := r.verdict(); verdict != v.verdict && verdict != "" {
			text += v.now() + " " + output.Line(verdict) + "\n"
		}
	}

	v.verdict = cmp.Or(r.verdict(), v.verdict)

	if text == "" {
		return nil
	}

	_, err := io.WriteString(v.call.Printer.Out, text)

	return err
}

func (v *lineView) now() string { return v.call.factory.Now().UTC().Format(time.RFC3339) }

func (v *lineView) remember(rows []watchedRow) {
	for _, row := range rows {
		if _, known := v.known[row.key]; !known {
			v.order = append(v.order, row.key)
		}

		v.known[row.key] = row
	}
}

// changes returns a line for each row that differs. Rows of the silent nodes are as they were; an empty address stands for
// all nodes.
func (v *lineView) changes(rows []watchedRow, silent []string) string {
	var out strings.Builder

	present := map[string]bool{}

	for _, row := range rows {
		present[row.key] = true

		switch before, known := v.known[row.key]; {
		case !known:
			out.WriteString(v.line(markNew, row))
		case before.state != row.state:
			out.WriteString(v.line(markChanged, row))
		}
	}

	v.order = slices.DeleteFunc(v.order, func(key string) bool {
		row := v.known[key]
		if present[key] || slices.Contains(silent, row.node) || slices.Contains(silent, "") {
			return false
		}

		out.WriteString(v.line(markGone, row))
		delete(v.known, key)

		return true
	})

	v.remember(rows)

	return out.String()
}

func (v *lineView) widen(cells []string) {
	for i, cell := range cells {
		if i == len(v.widths) {
			v.widths = append(v.widths, 0)
		}

		v.widths[i] = max(v.widths[i], utf8.RuneCountInString(cell))
	}
}

func (v *lineView) line(mark string, row watchedRow) string {
	var out strings.Builder

	for i, cell := range row.cells {
		if i > 0 {
			out.WriteString("   ")
		}

		out.WriteString(cell)

		if i < len(row.cells)-1 {
			out.WriteString(strings.Repeat(" ", v.widths[i]-utf8.RuneCountInString(cell)))
		}
	}

	return v.now() + " " + mark + " " + out.String() + "\n"
}

// tell writes on stderr what fails now and did not before, and what answers again. It returns the nodes that fail.
func (v *lineView) tell(entries []errs.Entry) (silent []string) {
	failing := map[string]string{}

	for _, e := range entries {
		key := e.Node + "\n" + e.Code
		failing[key] = cmp.Or(e.Hostname, e.Node, "the cluster")

		if _, before := v.failing[key]; !before {
			fmt.Fprintf(v.call.IO.Err, "warning: %s\n", iostreams.Line(e.Message))
		}

		silent = append(silent, e.Node)
	}

	for _, key := range slices.Sorted(maps.Keys(v.failing)) {
		node, _, _ := strings.Cut(key, "\n")
		if !slices.Contains(silent, node) {
			fmt.Fprintf(v.call.IO.Err, "%s answers again\n", iostreams.Line(v.failing[key]))
		}
	}

	v.failing = failing

	return silent
}

// screenView draws the last reading over the one before.
type screenView struct {
	call     *Call
	interval time.Duration
	begun    bool
}

func (v *screenView) show(r Reading) error {
	text, err := v.call.human(r, true)
	if err != nil {
		return err
	}

	width, height := v.call.IO.Size()
	if !v.begun {
		v.begun = true

		// What is on the screen moves into the terminal's history instead of being drawn over.
		if err = iostreams.Draw(v.call.Printer.Out, "", strings.Repeat("\n", height)); err != nil {
			return err
		}
	}

	head := fmt.Sprintf("%s  every %s: %s", v.call.factory.Now().UTC().Format(time.RFC3339), v.interval, v.call.Cmd.CommandPath())
	below := lists.Map(failures(r), func(e errs.Entry) string { return "error: " + output.Line(e.Message) })
	below = append(below, lists.Map(v.call.notes.all(), func(n string) string { return "warning: " + n })...)

	return iostreams.Redraw(v.call.Printer.Out, fit(head, lines(text), below, width, height))
}

func lines(text string) []string {
	text = strings.TrimRight(text, "\n")
	if text == "" {
		return nil
	}

	return strings.Split(text, "\n")
}

// fit makes a screen of a heading, a body, and what must be seen below it. Of the body what does not fit is cut, then of
// the rest, and the last line that fits says how much. One line is left for the cursor.
func fit(head string, body, below []string, width, height int) []string {
	screen := append([]string{head}, body...)

	if room := height - 1; height > 0 {
		below = atMost(below, max(1, (room-1)/2))
		screen = append(atMost(screen, max(1, room-len(below))), below...)
	} else {
		screen = append(screen, below...)
	}

	if width <= 0 {
		return screen
	}

	return lists.Map(screen, func(line string) string { return cutLine(line, width) })
}

// cutLine cuts a line for a terminal. The sequences of its colours take no room.
func cutLine(line string, width int) string {
	return displaywidth.Options{ControlSequences: true}.TruncateString(line, width, "…")
}

func atMost(all []string, room int) []string {
	if len(all) <= room {
		return all
	}

	hidden := len(all) - room + 1

	return append(slices.Clone(all[:room-1]), fmt.Sprintf("… %d more: the terminal is too low to show them", hidden))
}

// notes collects the warnings of a watch: every reading gives them again.
type notes struct {
	mu    sync.Mutex
	list  []string
	fresh int // How many of the last were not taken.
}

// maxNotes bounds what a watch of days collects.
const maxNotes = 100

func (n *notes) add(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()

	if len(n.list) < maxNotes && !slices.Contains(n.list, text) {
		n.list = append(n.list, text)
		n.fresh++
	}
}

func (n *notes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()

	return slices.Clone(n.list)
}

func (n *notes) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()

	fresh := slices.Clone(n.list[len(n.list)-n.fresh:])
	n.fresh = 0

	return fresh
}

// writeNotes writes the warnings that were not written yet.
func (c *Call) writeNotes() {
	for _, text := range c.notes.take() {
		fmt.Fprintf(c.IO.Err, "warning: %s\n", text)
	}
}

// HoldWarnings keeps warnings off the terminal from now on. The function it returns gives those that are new.
func (c *Call) HoldWarnings() func() []string {
	c.notes = &notes{}

	return c.notes.take
}
