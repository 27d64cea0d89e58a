package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// LeastBytes is the least that a document may be cut to: the document of an error fits.
const LeastBytes = 2 << 10

// Limit bounds what is printed. Zero means without a limit.
type Limit struct {
	Items int // How many rows.
	Bytes int // How many bytes of text or of a document.
}

// Truncated says what a document that was cut omits.
type Truncated struct {
	Items    int            `json:"items,omitempty"`     // How many items the whole document has.
	Errors   int            `json:"errors,omitempty"`    // How many errors the whole document has, if some were cut.
	Bytes    int            `json:"bytes,omitempty"`     // The size of the whole document.
	MaxItems int            `json:"max_items,omitempty"` // The most items that were asked for.
	MaxBytes int            `json:"max_bytes,omitempty"` // The most bytes that were asked for.
	Fields   map[string]int `json:"fields,omitempty"`    // The fields of a result that was omitted, with their sizes in bytes.
	Resource string         `json:"resource,omitempty"`  // Where the whole document is: a resource of the MCP server.
	Hint     string         `json:"hint"`                // How to ask for less: a command line.
}

// Shorten cuts an encoded document to a limit: as many whole items as fit, or none of a single result, with the field
// truncated. The order of the fields stays. render gives the document the form in which it is measured and printed. A
// document within the limit is rendered as it is.
func Shorten(doc []byte, limit Limit, note Truncated, hint func(Truncated) string, render func([]byte) ([]byte, error)) ([]byte, error) {
	whole, err := render(doc)
	if err != nil {
		return nil, err
	}

	fields, err := fieldsInOrder(doc)
	if err != nil {
		return whole, nil //nolint:nilerr // not an object: nothing that could be cut and stay whole
	}

	var items []json.RawMessage

	_ = json.Unmarshal(fields.get("items"), &items) // a document without items has none

	tooLong := limit.Bytes > 0 && len(whole) > limit.Bytes
	if !tooLong && (limit.Items <= 0 || len(items) <= limit.Items) {
		return whole, nil
	}

	note.Items, note.Bytes, note.MaxItems, note.MaxBytes = len(items), len(whole), limit.Items, limit.Bytes
	keep := len(items)

	if limit.Items > 0 {
		keep = min(keep, limit.Items)
	}

	if tooLong {
		fields.cutErrors(&note, limit.Bytes/4)

		if result := fields.get("result"); len(result) > 0 {
			note.Fields = sizesOf(result)
			fields.set("result", json.RawMessage("null"))
		}

		fields.cutOutput(limit.Bytes / 3)

		keep = min(keep, mayFit(items, 2*limit.Bytes))
	}

	note.Hint = hint(note)

	if fields.set("truncated", marshal(note)); fields.get("items") == nil {
		return render(fields.encode())
	}

	var short []byte

	build := func(n int) ([]byte, error) {
		fields.set("items", marshal(items[:n]))

		return render(fields.encode())
	}

	// the most items with which the document is within the limit
	n := sort.Search(keep+1, func(n int) bool {
		if short, err = build(n); err != nil {
			return true
		}

		return limit.Bytes > 0 && len(short) > limit.Bytes
	})

	if err != nil {
		return nil, err
	}

	return build(max(n-1, 0))
}

// mayFit bounds how many items are tried, so that not the whole of a large document is rendered again and again.
func mayFit(items []json.RawMessage, room int) int {
	for i, item := range items {
		if room -= len(item); room < 0 {
			return i
		}
	}

	return len(items)
}

type field struct {
	name  string
	value json.RawMessage
}

// orderedFields are those of a JSON object, in its order.
type orderedFields []field

func fieldsInOrder(doc []byte) (orderedFields, error) {
	dec := json.NewDecoder(bytes.NewReader(doc))

	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, fmt.Errorf("not an object: %w", err)
	}

	var out orderedFields

	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}

		var value json.RawMessage
		if err = dec.Decode(&value); err != nil {
			return nil, err
		}

		out = append(out, field{fmt.Sprint(name), value})
	}

	return out, nil
}

func (o *orderedFields) get(name string) json.RawMessage {
	if i := slices.IndexFunc(*o, func(f field) bool { return f.name == name }); i >= 0 {
		return (*o)[i].value
	}

	return nil
}

// set changes a field; a new one is put before the rows, where a reader meets it first.
func (o *orderedFields) set(name string, value json.RawMessage) {
	if i := slices.IndexFunc(*o, func(f field) bool { return f.name == name }); i >= 0 {
		(*o)[i].value = value

		return
	}

	at := slices.IndexFunc(*o, func(f field) bool { return slices.Contains([]string{"items", "result", "errors", "output"}, f.name) })
	if at < 0 {
		at = len(*o)
	}

	*o = slices.Insert(*o, at, field{name, value})
}

// cutErrors keeps as many errors as fit into the room.
func (o *orderedFields) cutErrors(note *Truncated, room int) {
	var all []json.RawMessage
	if json.Unmarshal(o.get("errors"), &all) != nil {
		return
	}

	if n := mayFit(all, room); n < len(all) {
		note.Errors = len(all)
		o.set("errors", marshal(all[:n]))
	}
}

// cutOutput keeps the beginning of a text that stands in the place of a document.
func (o *orderedFields) cutOutput(room int) {
	raw := o.get("output")
	if len(raw) <= room {
		return
	}

	var text string

	_ = json.Unmarshal(raw, &text) // of anything but a text nothing is kept

	o.set("output", marshal(beginning(text, room)))
}

func (o *orderedFields) encode() []byte {
	out := []byte{'{'}

	for i, f := range *o {
		if i > 0 {
			out = append(out, ',')
		}

		out = append(append(append(out, marshal(f.name)...), ':'), f.value...)
	}

	return append(out, '}')
}

// marshal encodes what cannot fail: texts, numbers, and JSON that was read before.
func marshal(v any) json.RawMessage {
	raw, err := encode(v)
	if err != nil {
		return json.RawMessage("null")
	}

	return raw
}

// sizesOf are the sizes of an object's fields, of the first 40.
func sizesOf(raw json.RawMessage) map[string]int {
	fields, err := fieldsInOrder(raw)
	if err != nil {
		return nil
	}

	out := map[string]int{}

	for _, f := range fields {
		if len(out) < 40 && len(f.name) < 64 {
			out[f.name] = len(f.value)
		}
	}

	return out
}

// beginning is the beginning of a text, of whole characters.
func beginning(text string, size int) string {
	if len(text) <= size {
		return text
	}

	for size > 0 && !utf8.RuneStart(text[size]) {
		size--
	}

	return text[:size]
}

// limited reports whether something may have to be cut.
func (p *Printer) limited() bool { return p.Limit != Limit{} }

// first is how many rows of a list are shown where an expression does not choose, and what is omitted.
func (p *Printer) first(n int, rows any) (int, *Truncated) {
	if p.Limit.Items <= 0 || n <= p.Limit.Items {
		return n, nil
	}

	note := Truncated{Items: n, MaxItems: p.Limit.Items}
	note.Hint = p.narrower(note, rows)

	return p.Limit.Items, &note
}

// First are the rows that are shown of a list, with a warning on stderr about the others. It is for text that is not written
// by PrintList.
func First[T any](p *Printer, rows []T) []T {
	shown, note := p.first(len(rows), rows)
	p.cutRows(shown, note)

	return rows[:shown]
}

// cutRows warns that rows are missing in a text.
func (p *Printer) cutRows(shown int, note *Truncated) {
	if note != nil {
		p.cutWarning(fmt.Sprintf("the list is cut: %d of %d rows are shown", shown, note.Items), *note)
	}
}

// cutWarning tells on stderr what a text omits.
func (p *Printer) cutWarning(shown string, note Truncated) {
	if p.Warn != nil {
		p.Warn("%s; to narrow it: %s", shown, note.Hint)
	}
}

// narrower is how to ask for less: a command line with a query over a field that the rows have.
func (p *Printer) narrower(note Truncated, rows any) string {
	if p.Narrow == "" {
		return "narrow it with --query, or with -n"
	}

	if p.Single {
		name := "NAME"

		for field, size := range note.Fields {
			if size < note.MaxBytes && identifier(field) && (name == "NAME" || field < name) {
				name = field
			}
		}

		return fmt.Sprintf("%s --query .result.%s", p.Narrow, name)
	}

	names := plainFields(rows)
	if len(names) == 0 {
		return p.Narrow + " --query '.items | length'"
	}

	return fmt.Sprintf("%s --query '.items[] | [.%s] | @tsv'", p.Narrow, strings.Join(names, ", ."))
}

// identifier reports whether a field's name may stand in a command line as it is.
func identifier(name string) bool {
	return regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}$`).MatchString(name)
}

// plainFields are the first three fields of a list's first row that hold one value.
func plainFields(rows any) []string {
	var list []json.RawMessage
	if json.Unmarshal(marshal(rows), &list) != nil || len(list) == 0 {
		return nil
	}

	fields, err := fieldsInOrder(list[0])
	if err != nil {
		return nil
	}

	var out []string

	for _, f := range fields {
		if len(out) < 3 && f.name != "node" && identifier(f.name) && len(f.value) > 0 && f.value[0] != '{' && f.value[0] != '[' {
			out = append(out, f.name)
		}
	}

	return out
}

// shortText writes text to w, cut after a whole line where it is longer than the limit.
func (p *Printer) shortText(w io.Writer, text string) error {
	if most := p.Limit.Bytes; most > 0 && len(text) > most {
		note := Truncated{MaxBytes: most}
		kept := text[:strings.LastIndexByte(text[:most], '\n')+1]
		note.Hint = p.narrower(note, nil)
		p.cutWarning(fmt.Sprintf("the output is cut: %d of %d bytes are shown", len(kept), len(text)), note)

		text = kept
	}

	_, err := io.WriteString(w, text)

	return err
}

// shortValues writes the answer of a query, which is values one after another, cut to whole values. Of a first one that is
// longer itself it writes what can stand alone: the first elements of a list, or the first lines of a text.
func (p *Printer) shortValues(w io.Writer, text string, values []value) error {
	if p.Limit.Bytes <= 0 || len(text) <= p.Limit.Bytes {
		_, err := io.WriteString(w, text)

		return err
	}

	end := 0

	for _, v := range values {
		if end+v.size > p.Limit.Bytes {
			break
		}

		end += v.size
	}

	kept := text[:end]

	if end == 0 && len(values) > 0 {
		switch first := values[0]; {
		case first.scalar:
			return p.shortText(w, text)
		case first.list && p.Format == YAML:
			kept = firstOfYAML(text[:p.Limit.Bytes])
		case first.list:
			kept = p.firstOfJSON(text[:first.size])
		}
	}

	note := Truncated{MaxBytes: p.Limit.Bytes}
	note.Hint = p.narrower(note, nil)
	p.cutWarning(fmt.Sprintf("the answer of --query is cut: %d of %d bytes are shown", len(kept), len(text)), note)

	_, err := io.WriteString(w, kept)

	return err
}

// firstOfYAML is the beginning of a list in whole elements. In the block style every element begins with a dash in the first
// column, and nothing inside of it does.
func firstOfYAML(text string) string {
	if end := strings.LastIndex(text, "\n- "); end >= 0 {
		return text[:end+1]
	}

	return "[]\n"
}

// firstOfJSON is a list with as many elements as fit.
func (p *Printer) firstOfJSON(text string) string {
	var elements []json.RawMessage
	if json.Unmarshal([]byte(text), &elements) != nil {
		return ""
	}

	for n := mayFit(elements, p.Limit.Bytes); n >= 0; n -= 1 + n/20 {
		out := []byte(marshal(elements[:n]))

		if p.Format != NDJSON {
			var pretty bytes.Buffer
			if json.Indent(&pretty, out, "", "  ") != nil {
				return ""
			}

			out = pretty.Bytes()
		}

		if len(out) < p.Limit.Bytes {
			return string(out) + "\n"
		}
	}

	return ""
}
