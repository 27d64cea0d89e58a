// Package dmesg holds `talosmate dmesg`.
package dmesg

import (
	"context"
	"io"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/logs"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Line is one line of the kernel log.
type Line struct {
	talos.NodeRef

	Facility string    `json:"facility"` // Who wrote it: kern, user (Talos itself), daemon, …
	Level    string    `json:"level"`    // emerg, alert, crit, err, warning, notice, info or debug.
	Time     time.Time `json:"time"`     // When it was written.
	Message  string    `json:"message"`  // The message.

	text string // The line as the node sent it.
}

type options struct {
	tail     int
	follow   bool
	text     string
	minLevel string

	rank int
}

// NewCmd makes the command.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &options{}

	return cmdutil.NewNodeStream(f, cmdutil.Command{
		Use: "dmesg", Short: "Show the kernel log of each node",
		Long: "Show the kernel log, which holds Talos's own messages too. With --follow a node that reboots is waited\n" +
			"for, and the new boot's messages follow those of the old.",
		Example: "  talosmate dmesg -n cp-1 --min-level warn\n" +
			"  talosmate dmesg -A --follow -o ndjson --filter talos",
		Spec:  cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers},
		Flags: o.flags, Check: o.check,
	}, "KernelLineList", cmdutil.NodeStream[Line]{
		Following: func() bool { return o.follow },
		Columns: []output.Column[Line]{
			{Header: "TIME", Value: func(l Line) string { return output.Time(l.Time) }},
			{Header: "FACILITY", Wide: true, Value: func(l Line) string { return l.Facility }},
			{Header: "LEVEL", Value: func(l Line) string { return l.Level }},
			{Header: "MESSAGE", Value: func(l Line) string { return l.Message }},
		},
		Name: func(l Line) string { return l.Message },
		Text: func(w io.Writer, l Line, several bool) error {
			return cmdutil.StreamLine(w, l.NodeRef, l.text, true, several)
		},
	}, o.run)
}

func (o *options) flags(fs *cmdutil.Flags) {
	fs.IntVar(&o.tail, "tail", -1, "how many of the last matching lines to show, -1 for all")
	fs.BoolVarP(&o.follow, "follow", "f", false, "continue as the log grows, across reboots")
	fs.StringVar(&o.text, "filter", "", "only lines that hold this text")
	fs.StringVar(&o.minLevel, "min-level", "debug", "only lines at least this severe: emerg, alert, crit, err, warn, notice, info or debug")
	fs.Words("min-level", logs.Levels()...)
}

func (o *options) check(*cmdutil.Call) error {
	rank, ok := logs.ParseLevel(o.minLevel)
	if !ok {
		return errs.Usagef("unknown level %q in --min-level", o.minLevel).WithHint("levels: emerg, alert, crit, err, warn, notice, info, debug")
	}

	o.rank = rank

	return nil
}

func (o *options) run(ctx context.Context, c *cmdutil.Call, n *talos.Node, add func(Line) error, flush func() error) error {
	v := &view{o: o}

	// The past first, since its end is only known when the stream ends.
	past := &logs.Tail[Line]{Size: o.tail}
	v.add = past.Add

	if o.tail < 0 {
		v.add = add
	}

	if err := v.read(ctx, n, false, c.Idle(), func() error { return nil }); err != nil {
		return err
	}

	if err := past.Drain(add); err != nil || !o.follow {
		return err
	}

	v.add = add
	again := logs.Default(func(err error) { c.Warn("%v; waiting for the node to come back", err) })

	return again.Follow(ctx, func(ctx context.Context, _ bool, alive func()) error {
		return v.read(ctx, n, true, 0, func() error {
			alive()

			return flush()
		})
	})
}

// view is one node's kernel log on its way to the output.
type view struct {
	o    *options
	add  func(Line) error
	last Line      // The line before, to which lines of another form belong.
	kept bool      // Whether it passed the filters.
	seen time.Time // Lines up to this time were shown by an earlier stream.
}

func (v *view) read(ctx context.Context, n *talos.Node, follow bool, idle time.Duration, each func() error) error {
	v.seen = v.last.Time
	split := logs.Splitter{Emit: func(line []byte, _ bool) error { return v.line(line) }}

	err := n.Dmesg(ctx, follow, idle, func(chunk []byte) error {
		if err := split.Write(chunk); err != nil {
			return err
		}

		return each()
	})
	if err != nil {
		return err
	}

	return split.Flush()
}

func (v *view) line(line []byte) error {
	k, ok := logs.ParseKernel(line)

	switch {
	case ok:
		v.last = Line{Facility: k.Facility, Level: k.Level, Time: k.Time, Message: k.Message}
		rank, _ := logs.ParseLevel(k.Level)
		v.kept = rank <= v.o.rank && logs.Filter{Text: v.o.text}.Match(line)
	case len(line) == 0:
		return nil
	}

	if !v.kept || (!v.seen.IsZero() && !v.last.Time.After(v.seen)) {
		return nil
	}

	out := v.last
	out.text = string(line)

	if !ok {
		out.Message = out.text
	}

	return v.add(out)
}
