package output

import (
	"bytes"
	"fmt"
	"io"
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

	// The document goes in as YAML, whose integers keep all their digits; yq's JSON reader makes them floats.
	asYAML, err := yamlFromJSON(doc)
	if err != nil {
		return "", nil, err
	}

	var values []value

	out, err := yqlib.NewStringEvaluator().EvaluateAll(expression, string(asYAML), escaping{encoder, &values}, yqlib.NewYamlDecoder(yqlib.NewDefaultYamlPreferences()))
	if err != nil {
		return "", nil, fmt.Errorf("cannot evaluate --query %q: %w", expression, err)
	}

	return out, values, nil
}

// value is one value of a query's answer.
type value struct {
	size         int // In bytes, with its line end.
	list, scalar bool
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
