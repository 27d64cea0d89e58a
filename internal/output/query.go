package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/mikefarah/yq/v4/pkg/yqlib"

	"github.com/talosmate/talosmate/internal/iostreams"
)

// yqMutex guards yqlib, which keeps its preferences and its parser in package variables.
var yqMutex sync.Mutex //nolint:gochecknoglobals // what it guards is global

// query evaluates a yq expression on a JSON document. Scalars print raw, one a line, as `yq -r` does;
// other results print in the format (json or yaml). The expression can read neither files nor the
// environment, and cannot run commands. The values are those that the answer has one after another.
func query(doc []byte, expression string, format Format) (string, []value, error) {
	yqMutex.Lock()
	defer yqMutex.Unlock()

	yqlib.ConfiguredSecurityPreferences = yqlib.SecurityPreferences{DisableEnvOps: true, DisableFileOps: true}

	var encoder yqlib.Encoder

	if format == YAML {
		prefs := yqlib.NewDefaultYamlPreferences()
		prefs.UnwrapScalar = true
		encoder = yqlib.NewYamlEncoder(prefs)
	} else {
		prefs := yqlib.NewDefaultJsonPreferences()
		prefs.UnwrapScalar = true
		prefs.ColorsEnabled = false

		if format == NDJSON {
			prefs.Indent = 0
		}

		encoder = yqlib.NewJSONEncoder(prefs)
	}

	root, err := candidate(doc)
	if err != nil {
		return "", nil, err
	}

	var (
		out    bytes.Buffer
		values []value
	)

	found, err := yqlib.NewAllAtOnceEvaluator().EvaluateNodes(expression, root)
	if err == nil {
		err = yqlib.NewPrinter(escaping{encoder, &values}, yqlib.NewSinglePrinterWriter(&out)).PrintResults(found)
	}

	if err != nil {
		return "", nil, fmt.Errorf("cannot evaluate --query %q: %w", expression, err)
	}

	return out.String(), values, nil
}

// value is one value of a query's answer.
type value struct {
	size         int // In bytes, with its line end.
	list, scalar bool
}

// candidate is a JSON document as yq holds documents. It is not written as text for yq's readers: that of JSON makes floats of
// integers, and that of YAML builds a second tree.
func candidate(doc []byte) (*yqlib.CandidateNode, error) {
	r := treeReader{Decoder: json.NewDecoder(bytes.NewReader(doc)), names: map[string]string{}}
	r.UseNumber()

	root := &yqlib.CandidateNode{EvaluateTogether: true}
	if err := r.into(root); err != nil {
		return nil, fmt.Errorf("cannot read the document: %w", err)
	}

	return root, nil
}

// treeReader reads JSON as a tree of yq.
type treeReader struct {
	*json.Decoder

	names map[string]string // The names of fields, each of which is kept once.
}

func (r treeReader) into(n *yqlib.CandidateNode) error {
	token, err := r.Token()
	if err != nil {
		return err
	}

	switch v := token.(type) {
	case json.Delim:
		return r.children(n, v == '{')
	case string:
		scalar(n, "!!str", v)

		if iostreams.NeedsEscape(v) {
			n.Style = yqlib.DoubleQuotedStyle // The only one with escapes.
		}
	case json.Number:
		scalar(n, numberTag(v), v.String())
	case bool:
		scalar(n, "!!bool", strconv.FormatBool(v))
	default:
		scalar(n, "!!null", "null")
	}

	return nil
}

func scalar(n *yqlib.CandidateNode, tag, value string) {
	n.Kind, n.Tag, n.Value = yqlib.ScalarNode, tag, value
}

// children reads the fields of a mapping, or the elements of a sequence, whose keys are their positions.
func (r treeReader) children(n *yqlib.CandidateNode, mapping bool) error {
	n.Kind, n.Tag = yqlib.SequenceNode, "!!seq"
	if mapping {
		n.Kind, n.Tag = yqlib.MappingNode, "!!map"
	}

	for i := 0; r.More(); i++ {
		key := &yqlib.CandidateNode{Parent: n, IsMapKey: true}

		if mapping {
			name, err := r.Token()
			if err != nil {
				return err
			}

			scalar(key, "!!str", r.name(fmt.Sprint(name)))
			n.Content = append(n.Content, key)
		} else {
			scalar(key, "!!int", strconv.Itoa(i))
		}

		value := &yqlib.CandidateNode{Parent: n, Key: key}
		if err := r.into(value); err != nil {
			return err
		}

		n.Content = append(n.Content, value)
	}

	if len(n.Content) == 0 {
		n.Style = yqlib.FlowStyle
	}

	_, err := r.Token()

	return err
}

// name returns the one copy of a field's name.
func (r treeReader) name(s string) string {
	if kept, ok := r.names[s]; ok {
		return kept
	}

	r.names[s] = s

	return s
}

// escaping is an encoder whose documents have no strings that a terminal could interpret. Scalars are not escaped: a
// script gets the value.
type escaping struct {
	yqlib.Encoder

	values *[]value // What was encoded.
}

// Encode implements yqlib.Encoder.
func (e escaping) Encode(w io.Writer, node *yqlib.CandidateNode) error {
	scalar := node.Kind == yqlib.ScalarNode
	if !scalar {
		quote(node)
	}

	var buf bytes.Buffer
	if err := e.Encoder.Encode(&buf, node); err != nil {
		return err
	}

	text := buf.Bytes()
	if !scalar {
		text = iostreams.EscapeJSON(text)
	}

	*e.values = append(*e.values, value{size: len(text), list: node.Kind == yqlib.SequenceNode, scalar: scalar})

	_, err := w.Write(text)

	return err
}

// quote puts strings that have to be escaped into double quotes, the only YAML style with escapes.
func quote(node *yqlib.CandidateNode) {
	if node.Kind == yqlib.ScalarNode && iostreams.NeedsEscape(node.Value) {
		node.Style = yqlib.DoubleQuotedStyle
	}

	for _, child := range node.Content {
		quote(child)
	}
}
