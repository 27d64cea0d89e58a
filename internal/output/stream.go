package output

import (
	"bytes"
	"encoding/json"
	"io"
	"sync"

	"github.com/talosmate/talosmate/internal/errs"
)

// Stream writes ndjson as it happens. It may be used from several goroutines.
type Stream struct {
	mu     sync.Mutex
	w      io.Writer
	schema string // Empty once the first line is written.
}

// NewStream makes a stream of items with the given schema (without the prefix).
func NewStream(w io.Writer, schema string) *Stream {
	return &Stream{w: w, schema: SchemaPrefix + schema}
}

// Item writes one item line.
func (s *Stream) Item(v any) error { return s.line("item", v) }

// Event writes one event line.
func (s *Stream) Event(v any) error { return s.line("event", v) }

// Error writes one error line.
func (s *Stream) Error(e errs.Entry) error { return s.line("error", e) }

// Summary writes the last line.
func (s *Stream) Summary(v any) error { return s.line("summary", v) }

// line joins {"type":…,"schema":…} and the object v.
func (s *Stream) line(kind string, v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	head, err := encode(Record{Type: kind, Schema: s.schema})
	if err != nil {
		return err
	}

	s.schema = ""

	joined := head[:len(head)-1]

	if !bytes.Equal(body, []byte("{}")) {
		joined = append(append(joined, ','), body[1:]...)
	} else {
		joined = append(joined, '}')
	}

	_, err = s.w.Write(append(joined, '\n'))

	return err
}

func encode(v any) ([]byte, error) {
	var buf bytes.Buffer

	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)

	if err := enc.Encode(v); err != nil {
		return nil, err
	}

	return bytes.TrimSpace(buf.Bytes()), nil
}
