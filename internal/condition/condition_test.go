package condition_test

import (
	"fmt"
	"testing"

	"github.com/talosmate/talosmate/internal/condition"
	"github.com/talosmate/talosmate/internal/errs"
)

type document struct {
	Healthy bool             `json:"healthy"`
	Failed  int              `json:"failed"`
	Elapsed float64          `json:"elapsed"`
	Nodes   []map[string]any `json:"nodes"`
}

func TestHolds(t *testing.T) {
	t.Parallel()

	doc := document{Healthy: true, Failed: 1, Elapsed: 1.5, Nodes: []map[string]any{
		{"version": "v1.13.9", "role": "worker"}, {"version": "v1.13.8", "role": "controlplane"},
	}}

	for text, want := range map[string]bool{
		"healthy":                                  true,
		"healthy && failed == 0":                   false,
		"failed + 1 == 2":                          true,
		"elapsed > 1.0":                            true,
		"nodes.all(n, n.version != '')":            true,
		"all(nodes, n, n.version != '')":           true,
		"all(nodes, n, n.role == 'worker')":        false,
		"exists_one(nodes, n, n.role == 'worker')": true,
		"exists(nodes, n, n.role == 'none')":       false,
		"nodes.exists(n, n.role == 'worker' && n.version == 'v1.13.9')": true,
		"size(nodes) == 3": false,
	} {
		c, err := condition.Compile(text, "healthy", "failed", "elapsed", "nodes")
		if err != nil {
			t.Fatal(err)
		}

		if got, err := c.Holds(doc); err != nil || got != want {
			t.Errorf("%s: %t, %v; want %t", text, got, err, want)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()

	for _, text := range []string{"", "healthy &&", "nosuch", "'text'", "1 + 1"} {
		if _, err := condition.Compile(text, "healthy"); errs.ExitCode(err) != errs.Usage {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestHoldsFails(t *testing.T) {
	t.Parallel()

	for _, text := range []string{"nodes[7].version == ''", "nodes"} {
		c, err := condition.Compile(text, "nodes")
		if err != nil {
			t.Fatal(err)
		}

		if held, err := c.Holds(document{}); err == nil {
			t.Errorf("%q: %t without an error", text, held)
		}
	}
}

func TestTexts(t *testing.T) {
	t.Parallel()

	values, err := condition.Values(document{Nodes: []map[string]any{{"name": "a"}, {"name": "b"}, {"name": 1}}})
	if err != nil {
		t.Fatal(err)
	}

	for text, want := range map[string]string{
		"[]":                      "[]",
		"['x', 'y']":              "[x y]",
		"failed > 0 ? [] : ['x']": "[x]",
		"nodes.filter(n, n.name == 'b').map(n, n.name)": "[b]",
	} {
		l, err := condition.CompileList(text, "nodes", "failed")
		if err != nil {
			t.Fatal(err)
		}

		if got, err := l.Texts(values); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}

	for _, text := range []string{"nodes.map(n, n.name)", "nodes.map(n, n.nosuch)", "failed"} {
		l, err := condition.CompileList(text, "nodes", "failed")
		if err != nil {
			t.Fatal(err)
		}

		if got, err := l.Texts(values); err == nil {
			t.Errorf("%s: %v without an error", text, got)
		}
	}

	for _, text := range []string{"true", "'x'", "nosuch", "["} {
		if _, err := condition.CompileList(text, "nodes"); errs.ExitCode(err) != errs.Usage {
			t.Errorf("%q: %v", text, err)
		}
	}
}
