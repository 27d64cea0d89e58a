package iostreams

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// forbidden reports whether a terminal could interpret a character instead of showing it: control characters (C0
// without line feed and tab, DEL, C1), marks that reorder text, and Unicode line separators.
func forbidden(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < ' ', r >= 0x7f && r <= 0x9f:
		return true
	case r == 0x061c, r == 0x200e || r == 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	default:
		return false
	}
}

// Plain reports whether text is one line without anything that a terminal could interpret.
func Plain(s string) bool { return Line(s) == s }

// Neutral replaces by U+FFFD what a terminal could interpret, and bytes that are not UTF-8. Line feeds and tabs stay; a
// carriage return before a line feed is dropped.
func Neutral(s string) string {
	if clean(s) {
		return s
	}

	out, _ := neutralize(make([]byte, 0, len(s)+8), []byte(s), true)

	return string(out)
}

func clean[T string | []byte](s T) bool {
	for _, r := range string(s) {
		if r == utf8.RuneError || forbidden(r) {
			return false
		}
	}

	return true
}

// neutralize appends the neutral form of p to out. Unless p is the end of the text, it returns the bytes at the end of
// p whose meaning depends on the next ones.
func neutralize(out, p []byte, end bool) (neutral, rest []byte) {
	for len(p) > 0 {
		if !end && (!utf8.FullRune(p) || string(p) == "\r") {
			return out, p
		}

		r, size := utf8.DecodeRune(p)
		if crlf := r == '\r' && len(p) > 1 && p[1] == '\n'; !crlf {
			if forbidden(r) {
				r = utf8.RuneError
			}

			out = utf8.AppendRune(out, r)
		}

		p = p[size:]
	}

	return out, nil
}

// lineLimit bounds one line of a message.
const lineLimit = 8 << 10

// Line makes one neutral line of a text that may have several: a message, a warning, a name.
func Line(s string) string {
	if strings.ContainsAny(s, "\n\r\t") {
		parts := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' || r == '\t' })
		for i := range parts {
			parts[i] = strings.Trim(parts[i], " ")
		}

		s = strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), " ")
	}

	return Cut(Neutral(s), lineLimit)
}

// Cut shortens text to at most limit characters, the last of which is then an ellipsis.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}

	n := 0

	for i := range s {
		if n++; n == limit {
			if _, size := utf8.DecodeRuneInString(s[i:]); i+size < len(s) {
				return s[:i] + "…"
			}
		}
	}

	return s
}

// EscapeJSON writes what a terminal could interpret as \u escapes. In JSON this occurs only in strings, whose values
// stay the same. The same holds for YAML if these strings are in double quotes.
func EscapeJSON(text []byte) []byte {
	if clean(text) {
		return text
	}

	out := make([]byte, 0, len(text)+64)

	for _, r := range string(text) {
		if forbidden(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}

	return out
}

// NeedsEscape reports whether EscapeJSON would change text.
func NeedsEscape(s string) bool { return strings.ContainsFunc(s, forbidden) }
