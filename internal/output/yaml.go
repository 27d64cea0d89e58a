package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/iostreams"
)

// yamlFromJSON rewrites a JSON document as block YAML: same order of keys, same numbers, strings quoted
// only where YAML needs it.
func yamlFromJSON(doc []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()

	node, err := nodeFromJSON(dec)
	if err != nil {
		return nil, fmt.Errorf("cannot rewrite the document as YAML: %w", err)
	}

	var out bytes.Buffer

	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)

	if err := enc.Encode(node); err != nil {
		return nil, fmt.Errorf("cannot write YAML: %w", err)
	}

	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("cannot write YAML: %w", err)
	}

	return iostreams.EscapeJSON(out.Bytes()), nil
}

// nodeFromJSON reads the next JSON value. The YAML library's own reader of JSON refuses long keys and some characters.
func nodeFromJSON(dec *json.Decoder) (*yaml.Node, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}

	switch v := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if v == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}

		for dec.More() {
			child, err := nodeFromJSON(dec)
			if err != nil {
				return nil, err
			}

			n.Content = append(n.Content, child)
		}

		if len(n.Content) == 0 {
			n.Style = yaml.FlowStyle
		}

		_, err = dec.Token()

		return n, err
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: numberTag(v), Value: v.String()}, nil
	case string:
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v}
		if iostreams.NeedsEscape(v) {
			n.Style = yaml.DoubleQuotedStyle // The only one with escapes.
		}

		return n, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(v)}, nil
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
	}
}

// numberTag is the type that YAML gives a number.
func numberTag(n json.Number) string {
	if strings.ContainsAny(n.String(), ".eE") {
		return "!!float"
	}

	return "!!int"
}
