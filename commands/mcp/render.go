package mcp

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/output"
)

// exit stands at the start of every result.
type exit struct {
	ExitCode errs.Code `json:"exit_code"`
	Exit     string    `json:"exit"`
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

// shortened cuts a document to the limit. uri has the whole document.
func (s *server) shortened(body []byte, uri string) []byte {
	hint := func(note output.Truncated) string {
		const rest = "; the resource has the whole document"

		switch {
		case note.Items > 0:
			return "narrow it with fewer nodes or a query, such as .items | length" + rest
		case note.Fields != nil:
			return "read one field with a query, such as .result.NAME" + rest
		default:
			return "narrow it with fewer nodes or a query" + rest
		}
	}

	asIs := func(doc []byte) ([]byte, error) { return doc, nil }

	short, err := output.Shorten(body, output.Limit{Bytes: s.options.maxBytes}, output.Truncated{Resource: uri}, hint, asIs)
	if err != nil {
		return body
	}

	return short
}
