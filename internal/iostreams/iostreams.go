// Package iostreams is the only access to stdin, stdout and stderr, and knows which of them is a terminal.
package iostreams

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Streams are the three standard streams with their properties.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer

	InTTY, OutTTY, ErrTTY bool
	// Color reports whether escape sequences may be written to a terminal stream.
	Color bool
	// Env looks up an environment variable; tests replace it.
	Env func(string) (string, bool)
	// Width is the width of the terminal in columns, 80 when unknown.
	Width int
	// Height is its height in lines, 0 when unknown.
	Height int

	stdout *stream                               // Behind Out; nil in tests.
	screen [2]*os.File                           // The terminal behind stdin and stdout; nil in tests.
	size   func() (width, height int, err error) // Asks the terminal behind stdout; nil in tests.
}

// Size is the present size of the terminal behind stdout, and Width and Height where it cannot be asked.
func (s *Streams) Size() (width, height int) {
	if s.size != nil {
		if w, h, err := s.size(); err == nil && w > 0 {
			return w, h
		}
	}

	return s.Width, s.Height
}

// CanRedraw reports whether stdout is a terminal with a cursor that can be moved.
func (s *Streams) CanRedraw() bool {
	if !s.OutTTY {
		return false
	}

	kind, _ := s.Env("TERM")

	return kind != "dumb"
}

// Screen returns the terminal behind stdin and stdout to a program that draws the whole of it and restores it. What it
// writes is not neutralized. ok is false without a terminal that can be drawn on.
func (s *Streams) Screen() (in, out *os.File, ok bool) {
	ok = s.InTTY && s.CanRedraw() && s.screen[0] != nil

	return s.screen[0], s.screen[1], ok
}

// System returns the streams of the process.
func System() *Streams {
	s := &Streams{
		In:     os.Stdin,
		InTTY:  term.IsTerminal(int(os.Stdin.Fd())),
		OutTTY: term.IsTerminal(int(os.Stdout.Fd())),
		ErrTTY: term.IsTerminal(int(os.Stderr.Fd())),
		Env:    os.LookupEnv,
		Width:  80,
	}

	s.stdout = &stream{w: os.Stdout, tty: s.OutTTY}
	s.Out, s.Err = s.stdout, &stream{w: os.Stderr, tty: s.ErrTTY}

	if s.OutTTY {
		s.screen = [2]*os.File{os.Stdin, os.Stdout}
		s.size = func() (int, int, error) { return term.GetSize(int(os.Stdout.Fd())) }
	}

	if s.ErrTTY {
		if w, h, err := term.GetSize(int(os.Stderr.Fd())); err == nil && w > 0 {
			s.Width, s.Height = w, h
		}
	}

	s.Color = colorAllowed(s.Env)

	return s
}

// colorAllowed applies NO_COLOR, CLICOLOR_FORCE=0 and TERM=dumb (https://no-color.org).
func colorAllowed(env func(string) (string, bool)) bool {
	if v, ok := env("NO_COLOR"); ok && v != "" {
		return false
	}

	if v, _ := env("CLICOLOR_FORCE"); v == "0" {
		return false
	}

	v, _ := env("TERM")

	return v != "dumb"
}

// maxLine bounds the answer to a prompt.
const maxLine = 4096

// ReadLine reads one line from stdin, without its line end. It returns early when ctx ends, so that Ctrl-C works at a
// prompt.
func (s *Streams) ReadLine(ctx context.Context) (string, error) {
	type answer struct {
		line string
		err  error
	}

	got := make(chan answer, 1)

	go func() {
		line, err := bufio.NewReader(io.LimitReader(s.In, maxLine)).ReadString('\n')
		got <- answer{strings.TrimRight(line, "\r\n"), err}
	}()

	select {
	case a := <-got:
		if errors.Is(a.err, io.EOF) && a.line != "" {
			return a.line, nil
		}

		return a.line, a.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
