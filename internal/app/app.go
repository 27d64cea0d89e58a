// Package app runs the program: it catches signals, builds the command tree, and turns the returned error into a
// message and an exit code. Nothing else maps errors to exit codes.
package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/talosmate/talosmate/commands"
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/redact"
)

// Main runs one command line and returns the exit code.
func Main(args []string, io *iostreams.Streams) int {
	ctx, stop := interruptible()
	defer stop()

	return Run(ctx, args, io)
}

// Run is Main on a context of the caller's.
func Run(ctx context.Context, args []string, io *iostreams.Streams) int {
	return Limited(ctx, args, io, cmdutil.Limits{})
}

// Limited is Run within limits.
func Limited(ctx context.Context, args []string, io *iostreams.Streams, limits cmdutil.Limits) (code int) {
	io = io.Guard()
	defer func() { _ = io.Flush() }() // a closed terminal shows nothing any more

	f := cmdutil.NewFactory(io, build())
	f.Execute, f.Limits = Limited, limits
	root := commands.RootFor(f, args)

	defer func() {
		if p := recover(); p != nil {
			code = panicked(f, io, p)
		}
	}()

	args, err := commands.ExpandAliases(f, root, args)
	if err == nil {
		root.SetArgs(args)
		cmdutil.AddCompletion(f, root, args)

		if commands.Completes(args) && len(args) > 1 {
			defer f.CompleteFlags(root, args[1:len(args)-1])()
		}

		err = iostreams.WithoutClosed(root.ExecuteContext(ctx))
	}

	if lost := io.Lost(); lost != nil && !errors.Is(err, iostreams.ErrWrite) {
		err = errors.Join(err, lost)
	}

	if f.Running() == nil && err != nil && !errors.Is(err, iostreams.ErrWrite) {
		// cobra's own errors (unknown command, flag or argument count) come before any command runs.
		err = errs.AsUsage(err)
	}

	err = commands.Elsewhere(f, args, err)

	if f.Running() == nil && err != nil {
		if perr := f.PrintRefused(root, args, err); perr != nil {
			err = errors.Join(err, perr)
		}
	}

	return report(ctx, f, io, err)
}

func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)

	if !signal.Ignored(syscall.SIGHUP) { // nohup ignores it
		signal.Notify(signals, syscall.SIGHUP)
	}

	// Handled, so that a write to a closed pipe is an error instead of ending the process. Child processes are not
	// affected.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	go func() {
		s, open := <-signals
		if !open {
			return
		}

		cancel(errs.New(errs.Interrupted, "interrupted by %s", s))

		// A closed terminal may send SIGHUP more than once; only a second Ctrl-C ends the undo too.
		for s := range signals {
			if s == os.Interrupt {
				os.Exit(int(errs.Interrupted))
			}
		}
	}()

	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}

func report(ctx context.Context, f *cmdutil.Factory, io *iostreams.Streams, err error) int {
	code := errs.ExitCode(err)

	if ctx.Err() != nil {
		code = errs.Interrupted

		if err == nil || !errors.Is(err, context.Cause(ctx)) {
			err = errors.Join(err, context.Cause(ctx))
		}
	}

	if err == nil {
		return int(code)
	}

	if c := f.Running(); c != nil && !c.Printed() && c.Printer.Structured() {
		if perr := c.PrintFailure(err); perr != nil {
			err = errors.Join(err, perr)
		}
	}

	say(io, err)

	if c := f.Running(); c != nil {
		c.AnnotateError(err)
	}

	var p *errs.Panic
	if errors.As(err, &p) {
		fmt.Fprintf(io.Err, "hint: please report this with the lines below\n%s", p.Stack)
	}

	return int(code)
}

// say writes each distinct error once, then the hints.
func say(io *iostreams.Streams, err error) {
	seen := map[string]bool{}

	for _, e := range errs.Entries(err) {
		message := redact.Message(e.Message)
		if !seen[message] {
			seen[message] = true

			fmt.Fprintf(io.Err, "error: %s\n", iostreams.Line(message))
		}
	}

	for _, hint := range errs.Hints(err) {
		fmt.Fprintf(io.Err, "hint: %s\n", iostreams.Line(hint))
	}
}

func panicked(f *cmdutil.Factory, io *iostreams.Streams, p any) int {
	code := errs.Failed
	if c := f.Running(); c != nil && c.ChangeInFlight() {
		code = errs.Unknown
	}

	if c := f.Running(); c != nil {
		_ = c.EndAudit(errs.New(code, "internal error: %v", p)) // the panic ends the process
	}

	fmt.Fprintf(io.Err, "error: internal error: %s\n", iostreams.Line(fmt.Sprint(p)))
	fmt.Fprintf(io.Err, "hint: please report this with the lines below\n%s", debug.Stack())

	return int(code)
}

func build() cmdutil.Build {
	b := cmdutil.Build{Version: version, Commit: commit, Date: date}

	if info, ok := debug.ReadBuildInfo(); ok && b.Version == "" {
		b.Version = info.Main.Version

		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.time":
				b.Date = s.Value
			}
		}
	}

	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "dev"
	}

	return b
}

// Set by the linker: -X github.com/talosmate/talosmate/internal/app.version=…
var version, commit, date string //nolint:gochecknoglobals // the linker knows no other way
