package cmdutil

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// RawOutput reports whether stdout carries bytes: no -o and no --query was given. The environment's and the
// configuration file's format do not touch a raw command, so they are undone here.
func (c *Call) RawOutput() bool {
	if c.Printer.Query != "" {
		return false
	}

	if c.Cmd.Flags().Changed("output") {
		return c.Printer.Format == output.Table || c.Printer.Format == output.Wide
	}

	c.Printer.Format, c.Printer.View = output.Table, nil

	return true
}

// NodeStream is the shape of a command that streams rows from nodes: lines of a log, events. Without -o the
// rows are text as they come; ndjson writes them as they come; the other formats collect them, so they exclude following.
type NodeStream[T any] struct {
	Events    bool // The ndjson records are of type event, not item.
	Columns   []output.Column[T]
	Name      func(T) string
	Less      func(a, b T) int // The order of collected rows within a node; nil keeps it.
	Following func() bool      // Whether the stream has no end.
	// Text writes a row for people and pipes, its line end included. several asks for the node before it.
	Text func(w io.Writer, row T, several bool) error
	// Finish receives the error of all nodes together, when they are through; nil keeps it.
	Finish func(error) error
}

// StreamFunc streams one node's rows; add may be called until it returns.
type StreamFunc[T any] func(ctx context.Context, c *Call, n *talos.Node, add func(T) error, flush func() error) error

// NewNodeStream makes a command that streams every node's rows with run.
func NewNodeStream[T any, P Row[T]](f *Factory, d Command, schema string, l NodeStream[T], run StreamFunc[T]) *Cmd {
	check := d.Check
	d.Check = nil // a stream's own format is settled first

	return New(f, d, ListOf[T](schema), func(c *Call) error { return runStream[T, P](c, l, check, run) })
}

func runStream[T any, P Row[T]](c *Call, l NodeStream[T], check func(*Call) error, run StreamFunc[T]) error {
	raw := c.RawOutput()

	follow := l.Following != nil && l.Following()
	if follow && !raw && (c.Printer.Format != output.NDJSON || c.Printer.Query != "") {
		return errs.Usagef("-o %s wants the end of the stream, and --follow has none", c.Printer.Format).WithHint("%s", c.Again("-o", "ndjson"))
	}

	if check != nil {
		if err := check(c); err != nil {
			return errs.AsUsage(err)
		}
	}

	targets, err := c.Targets()
	if err != nil {
		return err
	}

	sink := newRowSink(c, l, raw, len(targets.Nodes) > 1)

	outcomes := talos.EachStream(c.ctx, c.cluster, targets.Nodes, follow, func(ctx context.Context, n *talos.Node) (struct{}, error) {
		ctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)

		defer sink.begin(ctx, n, follow, stop)()

		add := func(row T) error {
			P(&row).SetNode(n.Target)

			return sink.add(row)
		}

		if sink.collects() {
			return struct{}{}, collect(ctx, c, n, run, add)
		}

		return struct{}{}, run(ctx, c, n, add, sink.flush)
	})

	for i := range outcomes {
		if sink.full && stopped(outcomes[i].Err) {
			outcomes[i].Err = nil
		}
	}

	_, err = talos.Collect(outcomes, c.Spec.Question)

	if l.Finish != nil {
		err = l.Finish(err)
	}

	if c.ctx.Err() != nil {
		err = context.Cause(c.ctx)
	}

	return sink.finish(err, columns[T, P](l.Columns))
}

// errEnough ends streams when what --max-items and --max-bytes allow is written.
var errEnough = errors.New("the rest is cut by --max-items or --max-bytes")

// stopped reports whether a stream ended because it was stopped.
func stopped(err error) bool {
	return errors.Is(err, errEnough) || errors.Is(err, context.Canceled) || errs.ExitCode(err) == errs.Interrupted
}

// collect runs a stream whose rows are kept until it ends, within the bounds of what is kept. The rows before a bound
// stay.
func collect[T any](ctx context.Context, c *Call, n *talos.Node, run StreamFunc[T], add func(T) error) error {
	ctx, cancel := context.WithTimeout(ctx, conn.MaxTime)
	defer cancel()

	meter := conn.Meter{Rows: c.cluster.Options.MaxRows, Bytes: c.cluster.Options.MaxBytes}
	op := "collect what " + c.Cmd.CommandPath() + " gives"

	return n.TooMuch(op, run(ctx, c, n, func(row T) error {
		size, err := json.Marshal(row)
		if err != nil {
			return err
		}

		if err = meter.Take(len(size)); err != nil {
			return err
		}

		return add(row)
	}, func() error { return nil }))
}

// rowSink takes rows from several goroutines and writes them whole.
type rowSink[T any] struct {
	mu      sync.Mutex
	call    *Call
	shape   NodeStream[T]
	raw     bool
	several bool
	out     *bufio.Writer
	ndjson  *output.Stream // nil unless rows are written as they come, one object a line.
	rows    []T
	count   int
	written counter // What has gone to out.
	full    bool    // Whether a row was omitted because of the limit.

	streams map[*talos.Node]func() // Each ends a stream that runs.
}

// begin registers the stream of a node; the function that it returns does the reverse. When the limit is reached, every
// node still shows that it answers, so that the exit code does not depend on who was faster: a stream that has sent
// something ends at once, another one when it sends or fails. One without an end may never do so; its node is asked.
func (s *rowSink[T]) begin(ctx context.Context, n *talos.Node, follow bool, stop context.CancelCauseFunc) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()

	enough := sync.OnceFunc(func() {
		switch {
		case n.Answered():
			stop(errEnough)
		case follow:
			go func() { stop(s.call.answers(ctx, n)) }()
		}
	})

	s.streams[n] = enough

	if s.full {
		enough()
	}

	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()

		delete(s.streams, n)
	}
}

// answers returns errEnough if a node answers a small request within the timeout of reads, else why it does not.
func (c *Call) answers(ctx context.Context, n *talos.Node) error {
	asking, cancel := context.WithTimeout(ctx, c.cluster.Idle())
	defer cancel()

	return cmp.Or(errs.Safely(func() error {
		_, err := n.Version(asking)

		return err
	}), errEnough)
}

// counter counts what is written.
type counter struct {
	io.Writer

	bytes int
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	c.bytes += len(p)

	return c.Writer.Write(p)
}

func newRowSink[T any](c *Call, l NodeStream[T], raw, several bool) *rowSink[T] {
	s := &rowSink[T]{call: c, shape: l, raw: raw, several: several, streams: map[*talos.Node]func(){}, out: bufio.NewWriterSize(c.Printer.Out, 64<<10)}
	s.written.Writer = s.out

	if !raw && c.Printer.Format == output.NDJSON && c.Printer.Query == "" {
		s.ndjson = output.NewStream(&s.written, c.Printer.Schema)
		c.printed = true
	}

	return s
}

// collects reports whether the rows are kept until all of them are there.
func (s *rowSink[T]) collects() bool { return !s.raw && s.ndjson == nil }

func (s *rowSink[T]) add(row T) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	if limit := s.call.Printer.Limit; !s.collects() && (s.full || limit.Items > 0 && s.count >= limit.Items || limit.Bytes > 0 && s.written.bytes >= limit.Bytes) {
		s.full = true

		for _, enough := range s.streams {
			enough()
		}

		return errEnough
	}

	s.count++

	switch {
	case s.raw:
		return s.shape.Text(&s.written, row, s.several)
	case s.ndjson != nil && s.shape.Events:
		return s.ndjson.Event(row)
	case s.ndjson != nil:
		return s.ndjson.Item(row)
	default:
		s.rows = append(s.rows, row)

		return nil
	}
}

// flush writes what was added; a stream calls it whenever it is about to wait.
func (s *rowSink[T]) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.out.Flush()
}

func (s *rowSink[T]) finish(err error, cols []output.Column[T]) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	var cut *output.Truncated

	if s.full {
		limit := s.call.Printer.Limit
		cut = &output.Truncated{MaxItems: limit.Items, MaxBytes: limit.Bytes, Hint: s.call.narrowStream()}
	}

	if s.raw {
		s.call.printed = s.count > 0
		flushed := s.out.Flush()

		if cut != nil {
			s.call.Warn("the output is cut: lines shown: %d; %s", s.count, cut.Hint)
		}

		return errors.Join(err, flushed)
	}

	if s.ndjson != nil {
		entries := errs.Entries(err)
		for _, e := range entries {
			if werr := s.ndjson.Error(e); werr != nil {
				return errors.Join(err, werr)
			}
		}

		return errors.Join(err, s.ndjson.Summary(output.Summary{Items: s.count, Errors: len(entries), Truncated: cut}), s.out.Flush())
	}

	lists.Sort(s.rows, func(a, b T) int {
		if byNode := target.CompareAddresses(refOf(a).Node, refOf(b).Node); byNode != 0 || s.shape.Less == nil {
			return byNode
		}

		return s.shape.Less(a, b)
	})

	return PrintList(s.call, s.rows, err, cols, s.shape.Name)
}

// ParseSince reads the value of a --since flag: a duration before now, or an RFC 3339 time. Empty is the
// zero time.
func ParseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}

	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}

	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}

	return time.Time{}, errs.Usagef("bad value %q for --since: want a duration (10m) or an RFC 3339 time", s)
}

// Idle is how long a node may be silent in a stream that has an end.
func (c *Call) Idle() time.Duration { return c.cluster.Idle() }

// StreamLine is how a stream's line is written as text: as the node sent it, the node before it where several
// speak. A line that did not end on the node ends here only where others follow.
func StreamLine(w io.Writer, from talos.NodeRef, line string, ended, several bool) error {
	if several {
		line = output.Line(from.NodeName()) + ": " + line
	}

	if several || ended {
		line += "\n"
	}

	_, err := io.WriteString(w, line)

	return err
}

// StreamRows is FetchRows for work whose length depends on the data: no deadline on the whole of it.
func StreamRows[T any, P Row[T]](c *Call, fetch func(context.Context, *talos.Node) ([]T, error)) ([]T, error) {
	return rowsOf[T, P](c, talos.EachStream(c.ctx, c.cluster, c.targets.Nodes, false, fetch))
}
