package migrate

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/foreign"
)

// Without removes a document, or a field of it.
func Without(t *testing.T, text []byte, document, path string) []byte {
	t.Helper()

	trees, err := foreign.Documents(text)
	require.NoError(t, err)

	var out bytes.Buffer

	enc := yaml.NewEncoder(&out)
	found := false

	for _, tree := range trees {
		body := tree.Content[0]

		id := ""
		if kind := at(body, "kind"); kind != nil {
			id = kind.Value
		}

		if name := at(body, "name"); name != nil {
			id += "/" + name.Value
		}

		if id == document {
			if found = true; path == "" {
				continue
			}

			require.NotNil(t, at(body, path), "%s of %s", path, document)
			cut(body, path)
		}

		require.NoError(t, enc.Encode(tree))
	}

	require.True(t, found, document)
	require.NoError(t, enc.Close())

	return out.Bytes()
}

// cut is remove for lists too.
func cut(root *yaml.Node, path string) {
	all := steps(path)

	parent := at(root, join("", all[:len(all)-1]...))
	for i, child := range parent.Content {
		if parent.Kind == yaml.SequenceNode && child == at(root, path) {
			parent.Content = append(parent.Content[:i:i], parent.Content[i+1:]...)

			return
		}
	}

	remove(root, path)
}
