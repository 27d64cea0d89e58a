package iostreams

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// zoo is text with everything that a terminal may obey.
const zoo = "a\x1b[2J\x1b]0;title\x07b\x9bc\u0085d\u009b31me\x7ff\u202eg\u2066h\u200fi\u061cj\u2028k\rl\xffm\x00\bn"

// obeyed lists what in text a terminal could obey, by the definition and not by the code under test.
func obeyed(text string) []rune {
	var out []rune

	for _, r := range text {
		switch {
		case r == '\n', r == '\t':
		case r < 0x20, r >= 0x7f && r <= 0x9f, strings.ContainsRune("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u2028\u2029", r):
			out = append(out, r)
		}
	}

	return out
}

func TestTerminalNeutralizesEverySplit(t *testing.T) {
	t.Parallel()

	text := zoo + "näïve €uro 😀 tab\tline\r\nend"
	want := Neutral(text)

	if got := obeyed(want); len(got) > 0 || !utf8.ValidString(want) || !strings.HasSuffix(want, "näïve €uro 😀 tab\tline\nend") {
		t.Fatalf("%q has %U", want, got)
	}

	for i := range len(text) + 1 {
		for _, j := range []int{i, min(i+1, len(text)), min(i+2, len(text))} {
			var out bytes.Buffer

			w := NewTerminal(&out)
			for _, part := range []string{text[:i], text[i:j], text[j:]} {
				if n, err := w.Write([]byte(part)); err != nil || n != len(part) {
					t.Fatal(n, err)
				}
			}

			if err := w.Flush(); err != nil || out.String() != want {
				t.Fatalf("split at %d and %d: %q, want %q", i, j, out.String(), want)
			}
		}
	}
}

func TestAnUnfinishedCharacterIsShownAtTheEnd(t *testing.T) {
	t.Parallel()

	var out bytes.Buffer

	s := &Streams{Out: &out, Err: &out, OutTTY: true}
	guarded := s.Guard()

	if _, err := guarded.Out.Write([]byte("a\xe2\x82")); err != nil || out.String() != "a" {
		t.Fatalf("%q, %v", out.String(), err)
	}

	if err := guarded.Flush(); err != nil || out.String() != "a\uFFFD\uFFFD" {
		t.Fatalf("%q, %v", out.String(), err)
	}

	if bare, _ := guarded.Unguarded(); bare != &out || guarded.Err != &out {
		t.Error("only a terminal is guarded, and what is behind the guard is the stream")
	}
}

func TestDrawLetsOnlyControlsThrough(t *testing.T) {
	t.Parallel()

	for _, terminal := range []bool{true, false} {
		var out bytes.Buffer

		w := (&Streams{Out: &out, OutTTY: terminal}).Guard().Out
		if err := Draw(w, CursorUp(2)+EraseBelow, "x\x1b[2Jy\n"); err != nil || out.String() != "\x1b[2A\x1b[Jx\uFFFD[2Jy\n" {
			t.Errorf("%q, %v", out.String(), err)
		}
	}
}

func TestLineIsOneLine(t *testing.T) {
	t.Parallel()

	for text, want := range map[string]string{
		"plain": "plain", "  indented": "  indented", "a\n  b\r\n\n\tc ": "a b c", "x\u2028y\u0085z": "x\uFFFDy\uFFFDz", "": "",
	} {
		if got := Line(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}

	if got := Line(strings.Repeat("ä", 1<<20)); utf8.RuneCountInString(got) != lineLimit || !strings.HasSuffix(got, "ä…") {
		t.Errorf("a line of %d characters", utf8.RuneCountInString(got))
	}

	if got := Cut("äöü", 3); got != "äöü" {
		t.Errorf("%q", got)
	}
}

func TestEscapedJSONHasTheSameValue(t *testing.T) {
	t.Parallel()

	text := strings.ToValidUTF8(zoo, "\uFFFD") + `"\` + "\n"

	raw, err := json.Marshal(map[string]string{text: text})
	if err != nil {
		t.Fatal(err)
	}

	raw = EscapeJSON(raw)
	if got := obeyed(string(raw)); len(got) > 0 {
		t.Errorf("%s has %U", raw, got)
	}

	var back map[string]string
	if err = json.Unmarshal(raw, &back); err != nil || back[text] != text {
		t.Errorf("%q, %v", back, err)
	}
}

func FuzzTerminal(f *testing.F) {
	f.Add([]byte(zoo), 3, 7)
	f.Add([]byte("ab\r\ncd"), 3, 0)
	f.Fuzz(func(t *testing.T, text []byte, first, second int) {
		var out bytes.Buffer

		i := min(max(first, 0), len(text))
		j := min(i+max(second, 0)%(len(text)+1), len(text))
		w := NewTerminal(&out)

		for _, part := range [][]byte{text[:i], text[i:j], text[j:]} {
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}

		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}

		got := out.String()
		if bad := obeyed(got); len(bad) > 0 || !utf8.ValidString(got) {
			t.Fatalf("%q has %U", got, bad)
		}

		if got != Neutral(string(text)) {
			t.Fatalf("%q depends on the split, want %q", got, Neutral(string(text)))
		}

		if utf8.Valid(text) && len(obeyed(string(text))) == 0 && got != string(text) {
			t.Fatalf("%q became %q", text, got)
		}

		if line := Line(string(text)); strings.ContainsAny(line, "\n\t") || len(obeyed(line)) > 0 {
			t.Fatalf("%q is no line", line)
		}
	})
}
