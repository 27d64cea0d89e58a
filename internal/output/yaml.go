package output

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/iostreams"
)

// yamlFromJSON rewrites a JSON document as block YAML: same order of keys, same numbers, strings quoted
// only where YAML needs it.
func yamlFromJSON(doc []byte) ([]byte, error) {
	var node yaml.Node
	if err := yaml.Unmarshal(doc, &node); err != nil {
		return nil, fmt.Errorf("cannot rewrite the document as YAML: %w", err)
	}

	plain(&node)

	var out bytes.Buffer

	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)

	if err := enc.Encode(&node); err != nil {
		return nil, fmt.Errorf("cannot write YAML: %w", err)
	}

	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("cannot write YAML: %w", err)
	}

	return iostreams.EscapeJSON(out.Bytes()), nil
}

func plain(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Style&yaml.DoubleQuotedStyle != 0 {
		n.Tag = "!!str"
	}

	empty := (n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode) && len(n.Content) == 0
	if !empty {
		n.Style = 0
	}

	if n.Kind == yaml.ScalarNode && iostreams.NeedsEscape(n.Value) {
		n.Style = yaml.DoubleQuotedStyle // The only one with escapes.
	}

	for _, child := range n.Content {
		plain(child)
	}
}
