package iostreams

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

// Control is a control sequence of this program. Only these reach the terminal.
type Control string

// The sequences that are used.
const (
	Home       Control = "\x1b[H" // Move the cursor to the top of the screen.
	EraseLine  Control = "\x1b[K" // Erase from the cursor to the end of the line.
	EraseBelow Control = "\x1b[J" // Erase from the cursor to the end of the screen.
)

// CursorUp moves the cursor up.
func CursorUp(lines int) Control { return Control(fmt.Sprintf("\x1b[%dA", lines)) }

// Terminal filters every write to a terminal: text is neutralized, also where a sequence is split between two writes,
// and only a Control passes.
type Terminal struct {
	mu   sync.Mutex
	w    io.Writer
	rest []byte // The first bytes of an incomplete character.
}

// NewTerminal makes a Terminal for w, if w is one.
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

// Flush writes the bytes that were held back for a character that was never completed.
func (t *Terminal) Flush() error {
	t.mu.Lock()
	defer t.mu.Unlock()

	return t.write("", nil, true)
}

func (t *Terminal) write(c Control, p []byte, end bool) error {
	var held []byte
	if c != "" { // Held-back bytes come before the sequence.
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

// Draw writes control sequences, followed by neutral text, as one write.
func Draw(w io.Writer, c Control, text string) error {
	if t, ok := w.(*Terminal); ok {
		t.mu.Lock()
		defer t.mu.Unlock()

		return t.write(c, []byte(text), false)
	}

	_, err := io.WriteString(w, string(c)+Neutral(text))

	return err
}

// Redraw draws lines from the top of the screen, each over what was there before, as one write. It erases what is left
// below them, and nothing of the terminal's history.
func Redraw(w io.Writer, lines []string) error { return redraw(w, Home, lines) }

// Overdraw is Redraw from some lines above the cursor, which is at the beginning of a line.
func Overdraw(w io.Writer, above int, lines []string) error {
	if above == 0 {
		return redraw(w, "", lines)
	}

	return redraw(w, CursorUp(above), lines)
}

func redraw(w io.Writer, from Control, lines []string) error {
	var out strings.Builder

	out.WriteString(string(from))

	for _, line := range lines {
		out.WriteString(string(EraseLine) + painted(line) + "\n")
	}

	out.WriteString(string(EraseBelow))

	if t, ok := w.(*Terminal); ok {
		t.mu.Lock()
		defer t.mu.Unlock()

		w = t.w
	}

	_, err := io.WriteString(w, out.String())

	return err
}

// painted makes one neutral line of a text in which the styles of WriteSpans stay.
func painted(line string) string {
	if !strings.ContainsRune(line, 0x1b) {
		return Line(line)
	}

	style := regexp.MustCompile(`\x1b\[(0|1|3[1-6])m`)

	var (
		out  strings.Builder
		from int
	)

	for _, at := range style.FindAllStringIndex(line, -1) {
		out.WriteString(Neutral(line[from:at[0]]) + line[at[0]:at[1]])
		from = at[1]
	}

	return out.String() + Neutral(line[from:]) + "\x1b[0m"
}

// Guard returns the streams with a Terminal in front of stdout and stderr where these are terminals.
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

// Unguarded returns the system's streams behind guarded ones, for a program that the user runs on the same terminal.
func (s *Streams) Unguarded() (out, err io.Writer) {
	bare := func(w io.Writer) io.Writer {
		if t, ok := w.(*Terminal); ok {
			return t.w
		}

		return w
	}

	return bare(s.Out), bare(s.Err)
}
