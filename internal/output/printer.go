package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/redact"
)

// Printer writes one command's result to stdout in the chosen format.
type Printer struct {
	Out       io.Writer
	Format    Format
	Query     string // A yq expression over the document.
	View      View   // What is shown of the document, which is JSON then; nil for all of it.
	NoHeaders bool
	SortBy    string // A field name (JSON) to sort rows by, with a leading minus for descending.
	Limit     Limit  // What is longer is cut.
	Narrow    string // The command line, to which a hint about what was cut adds a query.
	Now       func() time.Time
	Screen    func() (width int, color bool)   // The terminal that stdout is; nil in a pipe.
	Warn      func(format string, args ...any) // Tells the user something beside the document; may be nil.

	Schema    string // Without the prefix.
	Single    bool   // The document has one result instead of items.
	Change    bool   // Every row must be shown: a value that cannot be encoded is removed from its row, and the row stays.
	PerNode   bool   // The list has one row a node: a table shows a node that failed as a row with its error.
	Live      bool   // A terminal is redrawn with what is written.
	Question  bool   // A row that cannot be encoded makes the answer no.
	Context   string
	Selection *Selection
}

// Structured reports whether a document is written, so that a failure must be written as one too.
func (p *Printer) Structured() bool { return p.Format.Structured() || p.Query != "" }

func (p *Printer) header() Header {
	return Header{
		Schema: SchemaID(p.Schema), Context: p.Context,
		GeneratedAt: p.Now().UTC().Truncate(time.Millisecond), Selection: p.Selection,
	}
}

// ListAs makes the document of a list that is not the command's own, such as one of several in a bundle.
func ListAs[T any](p Printer, schema string, asked []string, rows []T, err error) List[T] {
	p.Schema = schema

	if asked != nil && p.Selection != nil {
		p.Selection = &Selection{Source: p.Selection.Source, Nodes: asked}
	}

	return List[T]{Header: p.header(), Items: append([]T{}, rows...), Errors: entries(err)}
}

// ResultAs makes the document of a result that is not the command's own.
func ResultAs[T any](p Printer, schema string, result T, err error) Single[T] {
	p.Schema = schema

	return Single[T]{Header: p.header(), Result: result, Errors: entries(err)}
}

// PrintList writes rows. err is what failed in addition; it goes into the document and is not returned. name gives a
// row's name for -o name. Rows that cannot be encoded become errors of their nodes, which are returned.
func PrintList[T any](p *Printer, rows []T, err error, cols []Column[T], name func(T) string) error {
	return p.printList(Rows(rows), err, Columns(cols), func(row any) string {
		return name(Row[T](row))
	})
}

func (p *Printer) printList(rows []any, err error, cols []Column[any], name func(any) string) error {
	rows, unfit := encodableRows(rows, p.Change)
	lost := partly(unfit, len(rows), p.Question)

	if p.SortBy != "" {
		if sortErr := sortRows(rows, p.SortBy); sortErr != nil {
			return sortErr
		}
	}

	return joined(lost, p.writeList(rows, joined(err, lost), cols, name))
}

func (p *Printer) writeList(rows []any, err error, cols []Column[any], name func(any) string) error {
	doc := List[any]{Header: p.header(), Items: rows, Errors: entries(err)}

	if p.Query != "" || p.Format == JSON || p.Format == YAML {
		return p.document(doc)
	}

	shown, cut := p.first(len(rows), rows)
	rows = rows[:shown]

	if p.Format == NDJSON {
		return p.ndjsonList(doc, rows, cut)
	}

	p.cutRows(len(rows), cut)

	switch {
	case p.Format == Name:
		return p.shortText(p.Out, lists.Join(rows, "", func(row any) string { return Line(p.nameOf(row, name(row))) + "\n" }))
	default:
		if !p.PerNode {
			return p.People(func(w io.Writer) error { return writeTable(w, cols, rows) })
		}

		withFailures, all := addFailures(cols, rows, doc.Errors)

		return p.People(func(w io.Writer) error { return writeTable(w, withFailures, all) })
	}
}

// nameOf is the name of a row in -o name: NODE/NAME where several nodes were asked and the row is one node's.
func (p *Printer) nameOf(row any, name string) string {
	if p.Selection == nil || len(p.Selection.Nodes) < 2 {
		return name
	}

	if r, ok := row.(interface{ NodeName() string }); ok && r.NodeName() != "" && r.NodeName() != name {
		return r.NodeName() + "/" + name
	}

	return name
}

// PrintResult writes one result; human renders it for people. What cannot be encoded is removed and returned as an
// error.
func PrintResult[T any](p *Printer, result T, err error, human func(io.Writer, T) error, name string) error {
	return p.printResult(result, err, func(w io.Writer, result any) error {
		return human(w, Row[T](result))
	}, name)
}

func (p *Printer) printResult(result any, err error, human func(io.Writer, any) error, name string) error {
	var lost error

	if _, unfit := json.Marshal(result); unfit != nil {
		clean, problem := encodable(result)
		result, lost = clean, partly([]*errs.Error{problem}, 1, p.Question)
	}

	return joined(lost, p.writeResult(result, joined(err, lost), human, name))
}

func (p *Printer) writeResult(result any, err error, human func(io.Writer, any) error, name string) error {
	doc := Single[any]{Header: p.header(), Result: result, Errors: entries(err)}

	switch {
	case p.Query != "" || p.Format == JSON || p.Format == YAML:
		return p.document(doc)
	case p.Format == NDJSON:
		line, eerr := encode(struct {
			Record
			Single[any]
		}{Record{Type: "item", Schema: doc.Schema}, doc})
		if eerr != nil {
			return fmt.Errorf("cannot encode the document: %w", eerr)
		}

		line, eerr = p.shortened(line, func(body []byte) ([]byte, error) { return body, nil })
		if eerr != nil {
			return eerr
		}

		_, werr := p.Out.Write(append(line, '\n'))

		return werr
	case p.Format == Name:
		_, werr := fmt.Fprintln(p.Out, Line(name))

		return werr
	default:
		return p.People(func(w io.Writer) error { return human(w, result) })
	}
}

// ResultItem is a result as a line of ndjson has it among others: the line names the schema.
func ResultItem[T any](p *Printer, result T, err error) any {
	return struct {
		Context     string       `json:"context"`
		GeneratedAt time.Time    `json:"generated_at"`
		Selection   *Selection   `json:"selection,omitempty"`
		Result      T            `json:"result"`
		Errors      []errs.Entry `json:"errors"`
	}{p.Context, p.Now().UTC().Truncate(time.Millisecond), p.Selection, result, entries(err)}
}

// People writes text for people.
func (p *Printer) People(write func(io.Writer) error) error {
	if p.Limit.Bytes <= 0 {
		text := p.Text()

		return errors.Join(write(text), text.Flush())
	}

	var whole bytes.Buffer

	into := *p
	into.Out = &whole
	text := into.Text()

	return errors.Join(write(text), text.Flush(), p.shortText(p.Out, whole.String()))
}

// entries lists what failed. A message may quote a node or a file.
func entries(err error) []errs.Entry {
	out := errs.Entries(err)
	for i := range out {
		out[i].Message = redact.Message(out[i].Message)
	}

	return out
}

// PrintFailure writes the document of a command that failed before it had a result. A query is applied as to any other
// document, so that a script that asked for one value never gets a whole document.
func (p *Printer) PrintFailure(err error) error {
	if p.Single {
		return p.printResult(nil, err, nil, "")
	}

	return p.printList([]any{}, err, nil, nil)
}

func (p *Printer) document(doc any) error {
	var buf bytes.Buffer

	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)

	if p.Query == "" {
		enc.SetIndent("", "  ")
	}

	if err := enc.Encode(doc); err != nil {
		return fmt.Errorf("cannot encode the document: %w", err)
	}

	body := iostreams.EscapeJSON(buf.Bytes())

	if p.Query != "" {
		text, values, err := query(body, p.Query, p.Format)
		if err != nil {
			return errs.AsUsage(err)
		}

		if p.Warn != nil && allNull(text) {
			p.Warn("%s", nothing(body))
		}

		return p.shortValues(p.Out, text, values)
	}

	if p.View != nil {
		return p.view(body)
	}

	body, err := p.shortened(body, p.rendered)
	if err != nil {
		return err
	}

	_, err = p.Out.Write(body)

	return err
}

// rendered gives a document of JSON the form in which it is printed.
func (p *Printer) rendered(body []byte) ([]byte, error) {
	if p.Format == YAML {
		return yamlFromJSON(body)
	}

	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(body), "", "  "); err != nil {
		return nil, fmt.Errorf("cannot indent the document: %w", err)
	}

	out.WriteByte('\n')

	return out.Bytes(), nil
}

// shortened cuts a document to the limit and renders it.
func (p *Printer) shortened(body []byte, render func([]byte) ([]byte, error)) ([]byte, error) {
	if !p.limited() {
		return render(body)
	}

	return Shorten(body, p.Limit, Truncated{}, func(note Truncated) string {
		fields, _ := fieldsInOrder(body) //nolint:errcheck // every document is an object

		return p.narrower(note, fields.get("items"))
	}, render)
}

// ndjsonList writes one object a line: the rows, the errors, a summary. The first line names the schema. cut says which rows
// are missing already.
func (p *Printer) ndjsonList(doc List[any], rows []any, cut *Truncated) error {
	const forSummary = LeastBytes / 2

	var line bytes.Buffer

	s, written, count := NewStream(&line, strings.TrimPrefix(doc.Schema, "talosmate/")), 0, Summary{Truncated: cut}

	// put writes the line, unless it is one too many.
	put := func(err error) (bool, error) {
		defer line.Reset()

		if err != nil {
			return false, err
		}

		if p.Limit.Bytes > 0 && written+line.Len() > p.Limit.Bytes-forSummary {
			if count.Truncated == nil {
				count.Truncated = &Truncated{Items: len(doc.Items)}
			}

			count.Truncated.MaxBytes = p.Limit.Bytes
			count.Truncated.Hint = p.narrower(*count.Truncated, doc.Items)

			return false, nil
		}

		written += line.Len()
		_, err = p.Out.Write(line.Bytes())

		return err == nil, err
	}

	for _, item := range rows {
		fits, err := put(s.Item(item))
		if err != nil {
			return err
		}

		if !fits {
			break
		}

		count.Items++
	}

	for _, e := range doc.Errors {
		fits, err := put(s.Error(e))
		if err != nil {
			return err
		}

		if !fits {
			count.Truncated.Errors = len(doc.Errors)

			break
		}

		count.Errors++
	}

	return errors.Join(s.Summary(count), writeTo(p.Out, &line))
}

func writeTo(w io.Writer, text *bytes.Buffer) error {
	_, err := text.WriteTo(w)

	return err
}

// Sort sorts rows as the user asked, for text that is not written by PrintList.
func Sort[T any](p *Printer, rows []T) error {
	if p.SortBy == "" {
		return nil
	}

	sorted := Rows(rows)
	if err := sortRows(sorted, p.SortBy); err != nil {
		return err
	}

	for i, row := range sorted {
		rows[i] = Row[T](row)
	}

	return nil
}

func sortRows(rows []any, field string) error {
	descending := strings.HasPrefix(field, "-")
	field = strings.TrimPrefix(field, "-")

	keys, fields := make([]any, len(rows)), make([]map[string]any, len(rows))
	known := len(rows) == 0

	for i, row := range rows {
		raw, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("cannot encode a row: %w", err)
		}

		if fields[i], err = fieldsIn(raw); err != nil {
			return fmt.Errorf("cannot read a row: %w", err)
		}

		v, ok := fields[i][field]
		keys[i], known = v, known || ok
	}

	if !known {
		return noField(field, fields)
	}

	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}

	sort.SliceStable(order, func(a, b int) bool {
		if descending {
			return less(keys[order[b]], keys[order[a]])
		}

		return less(keys[order[a]], keys[order[b]])
	})

	copy(rows, lists.Map(order, func(o int) any { return rows[o] }))

	return nil
}

func less(a, b any) bool {
	x, xok := a.(json.Number)
	y, yok := b.(json.Number)

	if xok && yok {
		fx, _ := x.Float64()
		fy, _ := y.Float64()

		return fx < fy
	}

	return fmt.Sprint(a) < fmt.Sprint(b)
}
