package output_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/talosmate/talosmate/internal/output"
)

// TestColumnPath evaluates columns as nodes define them, and refuses those that would not end.
func TestColumnPath(t *testing.T) {
	t.Parallel()

	var doc any

	require.NoError(t, json.Unmarshal([]byte(`{"a": {"b": [{"type": "Ready", "status": "True"}, {"type": "x"}]}, "n": 3}`), &doc))

	// The forms that Talos 1.14 has.
	for expression, want := range map[string]string{
		"{.n}": "3", "{.a.b[*].type}": "Ready x", `{.a.b[?(@.type=="Ready")].status}`: "True", "{.missing}": "", "{.n}/{.n}": "3/3", ".n": "3",
		"{.a.b[0].type}": "Ready",
	} {
		value, err := output.ColumnPath(expression)
		require.NoError(t, err, expression)
		require.Equal(t, want, value(doc), expression)
	}

	for _, expression := range []string{
		"{..type}", "{" + strings.Repeat("..[*]", 12) + "}", "{.a" + strings.Repeat("[0,0]", 400) + "}", "{range .a.b[*]}{.type}{end}",
		`{.a.b[?(@..x=="y")]}`, strings.Repeat("{.n}", 9), "{", strings.Repeat("x", 5000), "{.a['b','b']}",
	} {
		_, err := output.ColumnPath(expression)
		require.Error(t, err, expression)
	}

	value, err := output.ColumnPath("{.long}{.long}")
	require.NoError(t, err)
	require.Len(t, value(map[string]any{"long": strings.Repeat("x", 1<<20)}), 64<<10)
}
