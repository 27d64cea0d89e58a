// Package logs processes logs in constant memory: whole lines from chunks, filters, time stamps, and following across
// reboots.
package logs

import (
	"bytes"
	"regexp"
)

// MaxLine is the length at which a line is cut, so that memory stays constant.
const MaxLine = 1 << 20

// Splitter assembles lines from chunks of any size.
type Splitter struct {
	Emit func(line []byte, ended bool) error // ended: the line was complete. It is valid until Emit returns.

	pending []byte
}

// Write takes a chunk.
func (s *Splitter) Write(chunk []byte) error {
	for {
		i := bytes.IndexByte(chunk, '\n')
		if i < 0 {
			break
		}

		line := chunk[:i]
		if len(s.pending) > 0 {
			s.pending = append(s.pending, line...)
			line = s.pending
		}

		if err := s.Emit(line, true); err != nil {
			return err
		}

		s.pending, chunk = s.pending[:0], chunk[i+1:]
	}

	for len(s.pending)+len(chunk) > MaxLine {
		n := MaxLine - len(s.pending)
		s.pending, chunk = append(s.pending, chunk[:n]...), chunk[n:]

		if err := s.Emit(s.pending, false); err != nil {
			return err
		}

		s.pending = s.pending[:0]
	}

	s.pending = append(s.pending, chunk...)

	return nil
}

// Flush emits the text after the last line end.
func (s *Splitter) Flush() error {
	if len(s.pending) == 0 {
		return nil
	}

	line := s.pending
	s.pending = s.pending[:0]

	return s.Emit(line, false)
}

// Filter keeps the lines that match all conditions.
type Filter struct {
	Text  string         // Plain text, empty for any.
	Regex *regexp.Regexp // An expression, nil for any.
}

// Match reports whether a line is kept.
func (f Filter) Match(line []byte) bool {
	if f.Text != "" && !bytes.Contains(line, []byte(f.Text)) {
		return false
	}

	return f.Regex == nil || f.Regex.Match(line)
}

// Any reports whether a line can be left out.
func (f Filter) Any() bool { return f.Text != "" || f.Regex != nil }
