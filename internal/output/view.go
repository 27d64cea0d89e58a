package output

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	template "github.com/DataDog/datadog-agent/pkg/template/text" // looks up no methods
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/util/jsonpath"

	"github.com/talosmate/talosmate/internal/errs"
)

// View writes what it selects of a document.
type View func(w io.Writer, doc any) error

// Views lists the formats that take an expression: `-o jsonpath={.items[*].node}`.
func Views() []string { return []string{"jsonpath", "go-template", "custom-columns"} }

// ParseView reads a format with an expression, spelt as kubectl has them; with "-file" behind its name the expression is in a
// file, which read reads. It returns nil for any other format.
func ParseView(format string, read func(path string) ([]byte, error)) (View, error) {
	name, expression, _ := strings.Cut(format, "=")
	kind, file := strings.CutSuffix(name, "-file")

	if !slices.Contains(Views(), kind) {
		return nil, nil
	}

	if expression == "" {
		return nil, fmt.Errorf("-o %s needs an expression: -o %s=EXPRESSION", name, name)
	}

	if file {
		text, err := read(expression)
		if err != nil {
			return nil, err
		}

		expression = strings.TrimSpace(string(text))
	}

	switch kind {
	case "jsonpath":
		return jsonPath(expression)
	case "go-template":
		return goTemplate(expression)
	default:
		return customColumns(expression)
	}
}

// maxPath bounds a JSONPath, in bytes: those of a resource's columns come from a node.
const maxPath = 4096

// Path makes a function that gives the text at a JSONPath of a decoded document, empty where there is none.
func Path(expression string) (func(doc any) string, error) {
	if len(expression) > maxPath {
		return nil, fmt.Errorf("a JSONPath of %d bytes is too long", len(expression))
	}

	if _, err := path(expression); err != nil {
		return nil, err
	}

	return func(doc any) string {
		var out bytes.Buffer
		if execute(expression, &out, doc) != nil {
			return ""
		}

		return out.String()
	}, nil
}

func execute(expression string, w io.Writer, doc any) error {
	p, err := path(expression) // each time: what was evaluated once may be left within a range
	if err != nil {
		return err
	}

	return errs.Safely(func() error { return p.Execute(w, doc) })
}

const (
	maxActions = 8        // How many values a column of a node may put together.
	maxCell    = 64 << 10 // How long the text of such a column may be, in bytes.
)

// ColumnPath is Path for an expression that comes from a node, as the document does. What may select one value several times is
// refused: `..` behind `..`, unions within unions and ranges within ranges take longer than the sun will shine.
func ColumnPath(expression string) (func(doc any) string, error) {
	if _, err := Path(expression); err != nil {
		return nil, err
	}

	tree, err := jsonpath.Parse("expression", braced(expression))
	if err != nil {
		return nil, fmt.Errorf("bad JSONPath %q: %w", expression, err)
	}

	if len(tree.Root.Nodes) > maxActions || !plainPath(tree.Root) {
		return nil, fmt.Errorf("the JSONPath %q may select a value more than once", expression)
	}

	return func(doc any) string {
		out := cell{}
		_ = execute(expression, &out, doc) // what was written before an error, as for a text that is too long

		return out.text.String()
	}, nil
}

// plainPath reports whether each step of a path selects each value at most once.
func plainPath(n jsonpath.Node) bool {
	switch typed := n.(type) {
	case *jsonpath.ListNode:
		return !slices.ContainsFunc(typed.Nodes, func(n jsonpath.Node) bool { return !plainPath(n) })
	case *jsonpath.FilterNode:
		return plainPath(typed.Left) && plainPath(typed.Right)
	case *jsonpath.RecursiveNode, *jsonpath.UnionNode, *jsonpath.IdentifierNode:
		return false
	default:
		return true
	}
}

// cell is a text that ends with an error where it is too long.
type cell struct{ text strings.Builder }

func (c *cell) Write(p []byte) (int, error) {
	n, _ := c.text.Write(p[:min(len(p), maxCell-c.text.Len())]) // a Builder returns no error
	if n < len(p) {
		return n, io.ErrShortWrite
	}

	return n, nil
}

// braced is a JSONPath of kubectl's relaxed form, in which the braces and the first dot may be left out, with both.
func braced(expression string) string {
	if strings.Contains(expression, "{") {
		return expression
	}

	return "{." + strings.TrimPrefix(expression, ".") + "}"
}

func path(expression string) (*jsonpath.JSONPath, error) {
	p := jsonpath.New("expression").AllowMissingKeys(true)
	if err := p.Parse(braced(expression)); err != nil {
		return nil, fmt.Errorf("bad JSONPath %q: %w", expression, err)
	}

	return p, nil
}

func jsonPath(expression string) (View, error) {
	p, err := path(expression)
	if err != nil {
		return nil, err
	}

	return func(w io.Writer, doc any) error {
		var out bytes.Buffer
		if err := p.Execute(&out, doc); err != nil {
			return errs.Usagef("cannot evaluate the JSONPath: %w", err)
		}

		return lineOf(w, out.Bytes())
	}, nil
}

func goTemplate(text string) (View, error) {
	t, err := template.New("output").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("bad go-template: %w", err)
	}

	return func(w io.Writer, doc any) error {
		var out bytes.Buffer
		if err := t.Execute(&out, doc); err != nil {
			return errs.Usagef("cannot evaluate the go-template: %w", err)
		}

		_, err := w.Write(out.Bytes())

		return err
	}, nil
}

// lineOf ends what is written with a line end. kubectl leaves it out, and the prompt follows the value.
func lineOf(w io.Writer, text []byte) error {
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}

	_, err := w.Write(text)

	return err
}

// customColumns reads HEADER:PATH,… over the items of a list, or over the result.
func customColumns(spec string) (View, error) {
	var cols []Column[any]

	for one := range strings.SplitSeq(spec, ",") {
		header, expression, ok := strings.Cut(one, ":")
		if !ok || header == "" || expression == "" {
			return nil, fmt.Errorf("bad column %q: want HEADER:.field", one)
		}

		value, err := Path(expression)
		if err != nil {
			return nil, err
		}

		cols = append(cols, Column[any]{Header: header, Value: func(row any) string { return cmp.Or(value(row), "<none>") }})
	}

	return func(w io.Writer, doc any) error {
		fields, _ := doc.(map[string]any) //nolint:errcheck // every document is an object

		rows, list := fields["items"].([]any)
		if result := fields["result"]; !list && result != nil {
			rows = []any{result}
		}

		return writeTable(w, cols, rows)
	}, nil
}

// view writes what the view selects of an encoded document.
func (p *Printer) view(body []byte) error {
	var doc any
	if err := json.Unmarshal(body, &doc); err != nil {
		return errors.Join(errors.New("cannot read the document back"), err)
	}

	var text bytes.Buffer
	if err := p.View(&text, doc); err != nil {
		return err
	}

	// A list without rows gives nothing for any expression.
	if fields := fieldsThatExist(body); p.Warn != nil && fields != "" && len(bytes.TrimSpace(text.Bytes())) == 0 {
		p.Warn("the expression selects nothing; %s", fields)
	}

	return p.shortText(p.Out, text.String())
}
