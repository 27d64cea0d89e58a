package iostreams

import (
	"fmt"
	"io"
	"sync"
)

// Control is a sequence of this program's own that drives the terminal. Nothing else does.
type Control string

// The sequences that are used.
const (
	ClearScreen Control = "\x1b[H\x1b[2J" // Clear the screen and start at its top.
	EraseBelow  Control = "\x1b[J"        // Erase from the cursor to the end of the screen.
)

// CursorUp moves the cursor up.
func CursorUp(lines int) Control { return Control(fmt.Sprintf("\x1b[%dA", lines)) }

// Terminal is the edge of every write to a terminal: text is neutralized, also where a sequence is split between
// two writes, and only a Control is let through.
type Terminal struct {
	mu   sync.Mutex
	w    io.Writer
	rest []byte // The beginning of a character whose end is still to come.
}

// NewTerminal makes the edge of w, which may be one.
func NewTerminal(w io.Writer) *Terminal {
	if t, ok := w.(*Terminal); ok {
		return t
	}

	return &Terminal{w: w}
}

// Write implements io.Writer.
func (t *Terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if err := t.write("", p, false); err != nil {
		return 0, err
	}

	return len(p), nil
}

// Flush writes what waits for the rest of a character that does not come any more.
func (t *Terminal) Flush() error {
	t.mu.Lock()
	defer t.mu.Unlock()

	return t.write("", nil, true)
}

func (t *Terminal) write(c Control, p []byte, end bool) error {
	var held []byte
	if c != "" { // What was held back belongs before the sequence.
		held, t.rest = neutralize(nil, t.rest, true)
	}

	out, rest := neutralize(append(held, c...), append(t.rest, p...), end)
	t.rest = append([]byte(nil), rest...)

	if len(out) == 0 {
		return nil
	}

	_, err := t.w.Write(out)

	return err
}

// Draw writes control sequences and neutral text behind them as one write.
func Draw(w io.Writer, c Control, text string) error {
	if t, ok := w.(*Terminal); ok {
		t.mu.Lock()
		defer t.mu.Unlock()

		return t.write(c, []byte(text), false)
	}

	_, err := io.WriteString(w, string(c)+Neutral(text))

	return err
}

// Guard gives the same streams with a Terminal before each of stdout and stderr that is a terminal.
func (s *Streams) Guard() *Streams {
	out := *s

	if s.OutTTY {
		out.Out = NewTerminal(s.Out)
	}

	if s.ErrTTY {
		out.Err = NewTerminal(s.Err)
	}

	return &out
}

// Flush writes what a guarded stream still holds back.
func (s *Streams) Flush() error {
	for _, w := range []io.Writer{s.Out, s.Err} {
		if t, ok := w.(*Terminal); ok {
			if err := t.Flush(); err != nil {
				return err
			}
		}
	}

	return nil
}

// Unguarded gives the streams of the system behind guarded ones, for a program that the user runs on the same
// terminal.
func (s *Streams) Unguarded() (out, err io.Writer) {
	bare := func(w io.Writer) io.Writer {
		if t, ok := w.(*Terminal); ok {
			return t.w
		}

		return w
	}

	return bare(s.Out), bare(s.Err)
}
