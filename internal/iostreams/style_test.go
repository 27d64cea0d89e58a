package iostreams

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWriteSpans checks that styles surround their text and that text cannot bring sequences of its own.
func TestWriteSpans(t *testing.T) {
	t.Parallel()

	var out bytes.Buffer

	w := NewTerminal(&out)
	require.NoError(t, w.WriteSpans(Span{Text: "a "}, Span{Style: Red, Text: "b\x1b[2J"}, Span{Text: "\x1b[31mc\n"}))
	require.Equal(t, "a \x1b[31mb\uFFFD[2J\x1b[0m\uFFFD[31mc\n", out.String())
}

// TestRedrawKeepsStyles checks that a redrawn screen has the colours of WriteSpans and nothing else that a terminal
// interprets.
func TestRedrawKeepsStyles(t *testing.T) {
	t.Parallel()

	var out bytes.Buffer

	require.NoError(t, Redraw(NewTerminal(&out), []string{"\x1b[32mok\x1b[0m \x1b[2J\x1b]0;title\x07", "plain"}))

	text := out.String()
	require.Contains(t, text, "\x1b[32mok\x1b[0m \uFFFD[2J\uFFFD]0;title\uFFFD\x1b[0m\n")
	require.NotContains(t, strings.TrimPrefix(text, string(Home)), "\x1b[2J")
}

// TestUntilClosedIsATerminal checks that what writes until the stream is closed writes styles as the terminal does.
func TestUntilClosedIsATerminal(t *testing.T) {
	t.Parallel()

	var out bytes.Buffer

	w := NewTerminal(UntilClosed(NewTerminal(&out)))
	require.NoError(t, w.WriteSpans(Span{Style: Green, Text: "ok"}))
	require.NoError(t, Draw(w, EraseBelow, "\x1b[2J"))
	require.Equal(t, "\x1b[32mok\x1b[0m\x1b[J\uFFFD[2J", out.String())
}
