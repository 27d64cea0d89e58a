package logs

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/logs"
	"github.com/talosmate/talosmate/internal/talos"
)

type options struct {
	tail       int
	maxLine    int
	follow     bool
	since      string
	text       string
	regex      string
	kubernetes bool
	container  string
	now        func() time.Time

	filter     logs.Filter
	after      time.Time
	structured bool // The time stamps are shown, so every line's is read.

	mu      sync.Mutex
	found   bool    // Some node has the container.
	missing []error // The nodes that do not.
}

func (o *options) validate(c *cmdutil.Call) error {
	o.kubernetes = o.kubernetes || o.container != ""
	o.filter.Text, o.structured = o.text, !c.RawOutput()

	if o.regex != "" {
		var err error
		if o.filter.Regex, err = regexp.Compile(o.regex); err != nil {
			return errs.Usagef("bad --filter-regex: %w", err)
		}
	}

	var err error
	if o.after, err = cmdutil.ParseSince(o.since, o.now()); err != nil {
		return err
	}

	if o.maxLine < 0 {
		return errs.Usagef("bad --max-line-bytes %d: it is a number of bytes, or 0 for no limit", o.maxLine)
	}

	if c.RawOutput() && c.IO.OutTTY && !c.Given("max-line-bytes") {
		o.maxLine = terminalLine
	}

	if o.since != "" && !c.Given("tail") {
		o.tail = -1
	}

	return nil
}

// run streams one node's log.
func (o *options) run(ctx context.Context, c *cmdutil.Call, n *talos.Node, add func(Line) error, flush func() error) error {
	req := talos.LogRequest{ID: c.Args[0], Kubernetes: o.kubernetes, Tail: o.tail, Follow: o.follow}

	if o.kubernetes {
		id, err := o.resolve(ctx, n, c.Args[0])
		if err != nil || id == "" {
			return err
		}

		req.ID = id
	}

	v := o.newView(req.ID, add)

	if o.follow {
		return o.followLog(ctx, c, n, req, v, flush)
	}

	if err := v.past(ctx, n, req, c.Idle()); err != nil {
		return err
	}

	return v.end()
}

// past shows the log as it is now. Where lines are left out, the node's own count of the last lines is of no use.
func (v *view) past(ctx context.Context, n *talos.Node, req talos.LogRequest, idle time.Duration) error {
	req.Follow, req.Idle = false, idle

	if !v.o.filter.Any() || req.Tail < 0 {
		return n.Logs(ctx, req, v.chunk)
	}

	last := logs.Tail[Line]{Size: req.Tail}
	add := v.add
	req.Tail, v.add = -1, last.Add

	if err := n.Logs(ctx, req, v.chunk); err != nil {
		return err
	}

	if err := v.split.Flush(); err != nil {
		return err
	}

	v.add = add

	return last.Drain(add)
}

// followLog takes the stream up again after a break, behind the last line that was shown.
func (o *options) followLog(ctx context.Context, c *cmdutil.Call, n *talos.Node, req talos.LogRequest, v *view, flush func() error) error {
	// a node that does not answer at the start is an error, not something to wait for
	if _, err := n.Version(ctx); err != nil {
		return err
	}

	counted := o.filter.Any() && req.Tail >= 0
	if counted {
		if err := v.past(ctx, n, req, c.Idle()); err != nil {
			return err
		}
	}

	again := logs.Default(func(err error) { c.Warn("%v; waiting for the node to come back", err) })

	return again.Follow(ctx, func(ctx context.Context, resumed bool, alive func()) error {
		if resumed || counted {
			if err := v.rewind(ctx, n, req, c.Idle()); err != nil {
				return err
			}

			req.Tail = -1
		}

		return n.Logs(ctx, req, func(chunk []byte) error {
			alive()

			if err := v.chunk(chunk); err != nil {
				return err
			}

			return flush()
		})
	})
}

// rewind looks through the log as it is after a break for the last line that was shown.
func (v *view) rewind(ctx context.Context, n *talos.Node, req talos.LogRequest, idle time.Duration) error {
	if err := v.split.Flush(); err != nil {
		return err
	}

	req.Tail, req.Follow, req.Idle = -1, false, idle
	v.resume.Scan()

	split := logs.Splitter{Emit: func(line []byte, _ bool) error {
		v.resume.Scanned(line)

		return nil
	}}

	if err := n.Logs(ctx, req, split.Write); err != nil {
		return err
	}

	v.resume.Again()

	return split.Flush()
}

// view is one node's log on its way to the output: lines, time stamps, filters.
type view struct {
	o      *options
	log    string
	add    func(Line) error
	split  logs.Splitter
	resume *logs.Resume
	stamps *logs.Stamps
	last   time.Time // The last time stamp; lines without one belong to the line before.
	lines  int       // Lines so far, until one has a time stamp.
}

func (o *options) newView(log string, add func(Line) error) *view {
	v := &view{o: o, log: log, add: add, resume: logs.NewResume(), stamps: logs.NewStamps(o.now())}
	v.split.Emit = func(line []byte, ended bool) error {
		return v.resume.Line(line, func(line []byte) error { return v.line(line, ended) })
	}

	return v
}

func (v *view) chunk(chunk []byte) error { return v.split.Write(chunk) }

// terminalLine is how many bytes of a line a terminal shows, unless more is asked for: some two dozen rows.
const terminalLine = 4096

// patience is how many lines without a time stamp --since takes before it says that the log has none.
const patience = 200

func (v *view) line(line []byte, ended bool) error {
	at, stamped := time.Time{}, false

	if !v.o.after.IsZero() {
		if at, stamped = v.stamps.Of(line); stamped {
			v.last, v.lines = at, -1
		} else if v.lines >= 0 {
			if v.lines++; v.lines > patience {
				return logs.ErrNoStamps(v.log)
			}
		}

		if v.last.Before(v.o.after) {
			return nil
		}
	}

	if !v.o.filter.Match(line) {
		return nil
	}

	if v.o.structured && v.o.after.IsZero() {
		at, stamped = v.stamps.Of(line)
	}

	out := Line{Log: v.log, unended: !ended}
	out.Message, out.Cut = cut(line, v.o.maxLine)

	if stamped {
		at = at.UTC()
		out.Time = &at
	}

	return v.add(out)
}

// cut shortens a line to at most limit bytes, between characters. It returns how many bytes it left out.
func cut(line []byte, limit int) (string, int) {
	if limit <= 0 || len(line) <= limit {
		return string(line), 0
	}

	for limit > 0 && !utf8.RuneStart(line[limit]) {
		limit--
	}

	return string(line[:limit]), len(line) - limit
}

func (v *view) end() error {
	if err := v.split.Flush(); err != nil {
		return err
	}

	if !v.o.after.IsZero() && v.lines > 0 {
		return logs.ErrNoStamps(v.log)
	}

	return nil
}

// resolve finds the container that name and --container mean, empty when another node may have it.
func (o *options) resolve(ctx context.Context, n *talos.Node, name string) (string, error) {
	all, err := n.Containers(ctx, talos.NamespaceCRI)
	if err != nil {
		return "", err
	}

	var candidates []talos.Container

	for _, c := range all {
		_, pod, _ := strings.Cut(c.PodID, "/")

		switch {
		case c.ID == name && !c.Sandbox:
			candidates = []talos.Container{c}
		case c.Sandbox || (c.PodID != name && pod != name):
			continue
		case o.container == "" || c.Name == o.container:
			candidates = append(candidates, c)

			continue
		default:
			continue
		}

		break
	}

	o.mu.Lock()
	defer o.mu.Unlock()

	switch len(candidates) {
	case 0:
		err := errs.New(errs.Failed, "cannot read the log of %s on %s: no such container", name, n.Name()).WithKind(errs.KindNotFound).OnNode(n.Address)
		err.Hostname = n.Hostname
		o.missing = append(o.missing, err)

		return "", nil
	case 1:
		o.found = true

		return candidates[0].ID, nil
	default:
		names := lists.Map(candidates, func(c talos.Container) string { return c.Name })
		slices.Sort(names)

		return "", errs.Usagef("%s has several containers: %s", name, strings.Join(names, ", ")).WithHint("choose one with --container")
	}
}

// finish makes a failure of a container that no node has.
func (o *options) finish(err error) error {
	if err == nil && !o.found && len(o.missing) > 0 {
		return o.missing[0]
	}

	return err
}

func containerIDs(ctx context.Context, n *talos.Node) ([]string, error) {
	all, err := n.Containers(ctx, talos.NamespaceCRI)

	all = slices.DeleteFunc(all, func(c talos.Container) bool { return c.Sandbox })

	return lists.Map(all, func(c talos.Container) string { return cmdutil.Described(c.ID, c.Image) }), err
}
