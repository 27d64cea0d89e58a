package foreign_test

import (
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/foreign"
)

func mapping(t *testing.T, text string) *yaml.Node {
	t.Helper()

	doc, err := foreign.Document([]byte(text))
	if err != nil {
		t.Fatal(err)
	}

	return doc.Content[0]
}

// A value that reads as the key is not the key.
func TestDelete(t *testing.T) {
	t.Parallel()

	n := mapping(t, "a: foo\nfoo: x\nb: y\n")
	if !foreign.Delete(n, "foo") || foreign.Delete(n, "foo") || foreign.Delete(nil, "foo") {
		t.Error("a key is removed once")
	}

	text, err := yaml.Marshal(n)
	if err != nil || string(text) != "a: foo\nb: y\n" {
		t.Errorf("left\n%s%v", text, err)
	}
}

func TestWalk(t *testing.T) {
	t.Parallel()

	n := mapping(t, "list:\n  - {x: 1}\n  - {y: 2}\n  - {x: 3}\nplain: [4, 5]\n")

	for path, want := range map[string][]string{
		"list.*.x": {"x=1", "x=3"}, "plain.*": {"=4", "=5"}, "list.x": nil, "none.*.x": nil, "plain": {"plain="},
	} {
		var got []string

		foreign.Walk(n, strings.Split(path, "."), func(key, value *yaml.Node) {
			name := ""
			if key != nil {
				name = key.Value
			}

			got = append(got, name+"="+value.Value)
		})

		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
