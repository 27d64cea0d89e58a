package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/redact"
)

// Stream writes ndjson as results arrive. It is safe for concurrent use.
type Stream struct {
	mu     sync.Mutex
	w      io.Writer
	schema string // Empty once the first line is written.
}

// NewStream makes a stream of items with the given schema (without the prefix).
func NewStream(w io.Writer, schema string) *Stream {
	return &Stream{w: w, schema: SchemaID(schema)}
}

// Item writes one item line.
func (s *Stream) Item(v any) error { return s.line("item", v) }

// Event writes one event line.
func (s *Stream) Event(v any) error { return s.line("event", v) }

// Error writes one error line.
func (s *Stream) Error(e errs.Entry) error {
	e.Message = redact.Message(e.Message)

	return s.line("error", e)
}

// Summary writes the last line.
func (s *Stream) Summary(v any) error { return s.line("summary", v) }

// line joins {"type":…,"schema":…} and the object v. If v cannot be encoded, line returns the typed error of its node
// and writes nothing.
func (s *Stream) line(kind string, v any) error {
	body, err := encode(v)
	if err != nil {
		_, unfit := encodable(v)

		return unfit
	}

	if body, err = renameType(body); err != nil {
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

// renameType renames a row's own field "type" to "item_type": in a line of ndjson, "type" is the type of the line.
func renameType(object []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	depth, key := 0, false

	for {
		before := dec.InputOffset()

		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return object, nil
		}

		if err != nil {
			return nil, err
		}

		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			key = depth == 1

			continue
		case json.Delim('}'), json.Delim(']'):
			depth--
			key = depth == 1

			continue
		}

		if depth != 1 {
			continue
		}

		if key && token == "type" {
			at := before + int64(bytes.Index(object[before:], []byte(`"type"`)))

			return slices.Concat(object[:at], []byte(`"item_type"`), object[at+int64(len(`"type"`)):]), nil
		}

		key = !key
	}
}

func encode(v any) ([]byte, error) {
	var buf bytes.Buffer

	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)

	if err := enc.Encode(v); err != nil {
		return nil, err
	}

	return iostreams.EscapeJSON(bytes.TrimSpace(buf.Bytes())), nil
}
