package output

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mikefarah/yq/v4/pkg/yqlib"
)

// TestTheTreeIsTheOneThatYqReads compares the tree of a document with that of yq's own reader of YAML: positions apart, they are equal,
// so that expressions mean the same.
func TestTheTreeIsTheOneThatYqReads(t *testing.T) {
	t.Parallel()

	const doc = `{"schema":"talosmate/v1/RowList","items":[{"node":"10.0.0.1","n":9007199254740993,"f":1.5,"e":1e3,"ok":true,"none":null,
		"empty":[],"void":{},"text":"123","yes":"yes","lines":"a\nb\n","merge":{"<<":"x"},"deep":[[1,[2]],{"a":{"b":"c"}}],"tilde":"~","":""}],"errors":[]}`

	got, err := candidate([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}

	text, err := yamlFromJSON([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}

	reader := yqlib.NewYamlDecoder(yqlib.NewDefaultYamlPreferences())
	if err = reader.Init(strings.NewReader(string(text))); err != nil {
		t.Fatal(err)
	}

	want, err := reader.Decode()
	if err != nil {
		t.Fatal(err)
	}

	if got, want := nodes(got, ""), nodes(want, ""); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// nodes lists a tree, a node a line.
func nodes(n *yqlib.CandidateNode, indent string) string {
	key := "-"
	if n.Key != nil {
		key = fmt.Sprintf("%s %q %t", n.Key.Tag, n.Key.Value, n.Key.IsMapKey)
	}

	out := fmt.Sprintf("%s%d %s %q key %s, as key %t, flow %t\n", indent, n.Kind, n.Tag, n.Value, key, n.IsMapKey, n.Style == yqlib.FlowStyle)

	for _, child := range n.Content {
		if child.Parent != n {
			out += indent + "a child of another\n"
		}

		out += nodes(child, indent+"  ")
	}

	return out
}
