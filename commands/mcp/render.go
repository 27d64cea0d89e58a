package mcp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
)

// exit stands at the start of every result.
type exit struct {
	ExitCode errs.Code `json:"exit_code"`
	Exit     string    `json:"exit"`
}

// cut says what a shortened result omits.
type cut struct {
	Bytes    int            `json:"bytes"`              // The size of the whole document.
	MaxBytes int            `json:"max_bytes"`          // The most that a result may have.
	Items    int            `json:"items,omitempty"`    // How many items the whole document has.
	Fields   map[string]int `json:"fields,omitempty"`   // The fields of a single result with their sizes.
	Resource string         `json:"resource,omitempty"` // Where the whole document is.
	Hint     string         `json:"hint"`
}

// document is the command's document on one line, with the exit code in front. Where the command wrote none, it is made
// of what it wrote to stderr.
func (f *finished) document(l line) []byte {
	head, _ := json.Marshal(exit{f.code, f.code.Name()}) // two plain values

	if f.stdout.cut {
		return f.failure(errs.New(f.code, "the document has more than %d MiB", maxOutput>>20).
			WithKind(errs.KindTooMuch).WithHint("narrow it: fewer nodes, or a query"))
	}

	var whole bytes.Buffer

	text := bytes.TrimSpace(f.stdout.text)

	switch err := json.Compact(&whole, text); {
	case len(text) == 0 && f.code != errs.OK:
		return f.failure(nil)
	case err == nil && !l.text && whole.Len() > 2 && whole.Bytes()[0] == '{':
		return slices.Concat(head[:len(head)-1], []byte{','}, whole.Bytes()[1:])
	case err != nil: // text, as a query gives it
		body, _ := json.Marshal(string(text))
		whole.Reset()
		whole.Write(iostreams.EscapeJSON(body))
	}

	return slices.Concat(head[:len(head)-1], []byte(`,"output":`), whole.Bytes(), []byte{'}'})
}

// failure is the document of a command that wrote none.
func (f *finished) failure(err error) []byte {
	entries := errs.Entries(err)

	if err == nil {
		for _, text := range strings.Split(string(f.stderr.text), "\n") {
			if message, is := strings.CutPrefix(text, "error: "); is {
				entries = append(entries, errs.Entries(errs.New(f.code, "%s", message))...)
			} else if hint, is := strings.CutPrefix(text, "hint: "); is && len(entries) > 0 {
				entries[len(entries)-1].Hint = hint
			}
		}
	}

	body, _ := json.Marshal(struct { // an entry holds texts only
		exit
		Errors []errs.Entry `json:"errors"`
	}{exit{f.code, f.code.Name()}, entries})

	return body
}

// render makes a call's result: the document as text and as structured content, cut to what a client wants to read.
func (s *server) render(t tool, l line, ran *finished) *sdk.CallToolResult {
	body := ran.document(l)
	out := &sdk.CallToolResult{IsError: isFailure(ran.code)}

	for _, notice := range s.takeNotices() {
		out.Content = append(out.Content, &sdk.TextContent{Text: "notice: " + notice})
	}

	var link *sdk.ResourceLink

	plan := slices.Equal(t.path, []string{"upgrade", "plan"}) && ran.code != errs.Usage

	if len(body) > s.options.maxBytes || plan {
		// A plan is kept as the command wrote it, since it is run as it is.
		whole := slices.Clone(bytes.TrimSpace(ran.stdout.text))
		uri := s.results.add(t.name, whole)
		size := int64(len(whole))
		link = &sdk.ResourceLink{URI: uri, Name: t.name, MIMEType: jsonType, Size: &size}

		body = s.shortened(body, uri)
	}

	out.StructuredContent = json.RawMessage(body)
	out.Content = append(out.Content, &sdk.TextContent{Text: string(body)})

	for _, w := range ran.warnings {
		out.Content = append(out.Content, &sdk.TextContent{Text: "warning: " + w})
	}

	if link != nil {
		out.Content = append(out.Content, link)
	}

	return out
}

// shortened cuts a document to the limit: as many whole items as fit, or none of a single result's fields.
func (s *server) shortened(body []byte, uri string) []byte {
	if len(body) <= s.options.maxBytes {
		return body
	}

	var doc map[string]json.RawMessage
	if err := json.Unmarshal(body, &doc); err != nil {
		return body
	}

	note := cut{Bytes: len(body), MaxBytes: s.options.maxBytes, Resource: uri, Hint: "narrow it with fewer nodes or a query; the resource has the whole document"}
	room := s.options.maxBytes - minBytes/2

	doc["errors"] = fitting(doc["errors"], room/4, nil)
	room -= len(doc["errors"])

	switch {
	case doc["items"] != nil:
		doc["items"] = fitting(doc["items"], room, &note.Items)
		note.Hint = fmt.Sprintf("narrow it with fewer nodes or a query, such as %s; the resource has the whole document", ".items | length")
	case doc["result"] != nil:
		note.Fields = fieldsOf(doc["result"])
		note.Hint = "read one field with a query, such as .result.NAME; the resource has the whole document"

		delete(doc, "result")
	case doc["output"] != nil:
		var text string
		if json.Unmarshal(doc["output"], &text) == nil {
			doc["output"], _ = json.Marshal(prefix(text, room/2)) // a text always encodes
		} else {
			delete(doc, "output")
		}
	}

	doc["truncated"], _ = json.Marshal(note) // plain values

	short, err := json.Marshal(doc)
	if err != nil {
		return body
	}

	return short
}

// fitting is as much of a JSON list as fits into room; total receives how many elements there are.
func fitting(raw json.RawMessage, room int, total *int) json.RawMessage {
	var all []json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return json.RawMessage("[]")
	}

	if total != nil {
		*total = len(all)
	}

	out := []byte{'['}

	for i, element := range all {
		if len(out)+len(element)+2 > room {
			break
		}

		if i > 0 {
			out = append(out, ',')
		}

		out = append(out, element...)
	}

	return append(out, ']')
}

// fieldsOf are the sizes of an object's fields, of the first 40.
func fieldsOf(raw json.RawMessage) map[string]int {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil
	}

	out := map[string]int{}

	for name, value := range fields {
		if len(out) < 40 && len(name) < 64 {
			out[name] = len(value)
		}
	}

	return out
}

// prefix is the beginning of a text, of whole characters.
func prefix(text string, size int) string {
	if len(text) <= size {
		return text
	}

	for size > 0 && !utf8.RuneStart(text[size]) {
		size--
	}

	return text[:size]
}
