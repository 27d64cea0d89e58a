package foreign_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/foreign"
)

// bomb is a few hundred bytes of aliases that stand for 10^levels values.
func bomb(levels int) string {
	var b strings.Builder

	b.WriteString("a0: &a0 x\n")

	for i := range levels {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 10), ","))
	}

	return b.String()
}

func hostile() map[string]string {
	keys := strings.Builder{}
	for i := range 6000 {
		fmt.Fprintf(&keys, "k%d: 1\n", i)
	}

	return map[string]string{
		"cycle":           "a: &x\n  b: *x\n",
		"cycle of two":    "a: &x\n  b: &y\n    c: *x\n    d: *y\n",
		"cycle in a key":  "a: &x\n  ? *x\n  : 1\n",
		"cycle in a list": "&x [1, *x, *x]\n",
		"merged cycle":    "a: &x\n  <<: *x\n",
		"bomb":            bomb(9),
		"bomb of text":    "a: &a " + strings.Repeat("x", 1<<20) + "\nb: [" + strings.Repeat("*a,", 1000) + "]\n",
		"deep flow":       strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"deep block":      strings.Repeat("- ", 5000) + "x",
		"long":            strings.Repeat("x", 17<<20),
		"wide":            "[" + strings.Repeat("a,", 2<<20) + "]",
		"many keys":       keys.String(),
		"later document":  "a: 1\n---\na: &x\n  b: *x\n",
	}
}

func TestHostileYAMLIsRefused(t *testing.T) {
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			if err := foreign.Check([]byte(text)); !errors.Is(err, foreign.ErrTooLarge) {
				t.Errorf("got %v", err)
			}

			var v any
			if err := foreign.YAML([]byte(text), &v); !errors.Is(err, foreign.ErrTooLarge) {
				t.Errorf("decoding gave %v", err)
			}

			if err := foreign.Strict([]byte(text), &v); !errors.Is(err, foreign.ErrTooLarge) {
				t.Errorf("strict decoding gave %v", err)
			}
		})
	}
}

func TestOrdinaryAliasesStay(t *testing.T) {
	text := "base: &b {x: 1, y: [a, b]}\none: *b\ntwo:\n  <<: *b\n  x: 2\n"

	var v map[string]map[string]any
	if err := foreign.YAML([]byte(text), &v); err != nil {
		t.Fatal(err)
	}

	if v["one"]["x"] != 1 || v["two"]["x"] != 2 {
		t.Errorf("got %v", v)
	}
}

func TestHostileJSONIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"deep": strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"long": `"` + strings.Repeat("x", 17<<20) + `"`,
	} {
		var v any
		if err := foreign.JSON([]byte(text), &v); !errors.Is(err, foreign.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}

	var v any
	if err := foreign.JSON([]byte(`{"a": "[[[[", "b": "\"{"}`), &v); err != nil {
		t.Error(err)
	}
}

func TestErrorsQuoteNoValue(t *testing.T) {
	var typed struct {
		N int   `json:"n" yaml:"n"`
		B bool  `json:"b" yaml:"b"`
		L []int `json:"l" yaml:"l"`
	}

	for _, text := range []string{"n: SECRET-value", "b: SECRET-val", "l: SECRET-value", "n: [SECRET-value]", "l: [SECRET-a]"} {
		err := foreign.YAML([]byte(text), &typed)
		if err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q: %v", text, err)
		}
	}

	for _, text := range []string{`{"n": "SECRET-value"}`, `{"b": "SECRET-val"}`, `{"l": ["SECRET-a"]}`} {
		err := foreign.JSON([]byte(text), &typed)
		if err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzDocuments holds that what is accepted can be walked, encoded and decoded within bounds.
func FuzzDocuments(f *testing.F) {
	for _, text := range hostile() {
		if len(text) < 20_000 {
			f.Add([]byte(text))
		}
	}

	for _, text := range []string{"", "---\n---\n", "a: &a [1]\nb: *a\n", "{\"a\": [1, null, \"\\ud800\"]}", "? {a: b}\n: c\n", "!!binary aGk=", "a: .nan"} {
		f.Add([]byte(text))
	}

	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := foreign.Documents(text)
		if err != nil {
			return
		}

		visited := 0

		var walk func(*yaml.Node, int)

		walk = func(n *yaml.Node, depth int) {
			if visited++; visited > 1_000_000 || depth > 1000 {
				t.Fatalf("the walk of %d bytes does not end", len(text))
			}

			if n.Kind == yaml.AliasNode {
				walk(n.Alias, depth+1)
			}

			for _, c := range n.Content {
				walk(c, depth+1)
			}
		}

		for _, doc := range all {
			walk(doc, 0)

			var v any

			_ = foreign.Decode(doc, &v)
		}

		var v any
		if foreign.JSON(text, &v) == nil {
			if _, err := json.Marshal(v); err != nil {
				t.Fatal(err)
			}
		}
	})
}
