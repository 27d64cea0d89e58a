package iostreams

// Style is how text looks on a terminal in colour: the parameters of the sequence "select graphic rendition" (ECMA-48
// 8.3.117). Only the eight basic colours are used, whose shades the terminal's own theme makes legible on dark and on
// light.
type Style string

// The styles.
const (
	Bold    Style = "1"
	Red     Style = "31"
	Green   Style = "32"
	Yellow  Style = "33"
	Magenta Style = "35"
	Cyan    Style = "36"
)

// Span is text in one style; without a style it is plain.
type Span struct {
	Style Style
	Text  string
}

// WriteSpans writes text in its styles as one write. The text is neutralized as any other.
func (t *Terminal) WriteSpans(spans ...Span) error {
	t.mu.Lock()
	defer t.mu.Unlock()

	out, _ := neutralize(nil, t.rest, true)
	t.rest = nil

	for _, s := range spans {
		if s.Style == "" {
			out = append(out, Neutral(s.Text)...)

			continue
		}

		out = append(out, "\x1b["+string(s.Style)+"m"+Neutral(s.Text)+"\x1b[0m"...)
	}

	_, err := t.w.Write(out)

	return err
}
