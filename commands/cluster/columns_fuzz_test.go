package cluster

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

// FuzzPrintColumns prints resources of a type whose columns a node defines, from the texts that it sends to the table. It holds that
// there is one line for each resource, without anything that a terminal interprets, and that a column is never a reason to show none.
func FuzzPrintColumns(f *testing.F) {
	for _, path := range []string{
		"{.a}", "{.a.b[*].c}", `{.conditions[?(@.type=="Ready")].status}`, "{..a}", "{@}", "a", "{", "", "{.a[0,0][0,0]}", "{range .a[*]}{.b}{end}", "{.a}{.a}", "{.\x1b[2J}", "{\"\\n\"}",
	} {
		f.Add("NAME", path, `{"a":{"b":[{"c":"x\ny"},{"c":null}]},"conditions":[{"type":"Ready","status":true}]}`)
	}

	f.Add("\x1b]0;title\x07", "{.a}", `"text"`)
	f.Add("a\nb\tc", "{.a[*]}", `{"a":["\u202e","\u0085",1e400]}`)

	f.Fuzz(func(t *testing.T, name, path, spec string) {
		var doc any
		if foreign.JSON([]byte(spec), &doc) != nil {
			return
		}

		definition, err := talos.Decode[struct {
			Columns []talos.PrintColumn `json:"printColumns"`
		}](talos.Resource{Spec: map[string]any{"printColumns": []any{map[string]any{"name": name, "json_path": path}}}})
		if err != nil {
			t.Fatal(err)
		}

		definition.Columns = append(definition.Columns, talos.PrintColumn{Name: name, JSONPath: path})

		var out bytes.Buffer

		p := &output.Printer{Out: &out, Format: output.Wide, Schema: "x", Now: time.Now}
		rows := []talos.Resource{{Spec: doc}, {Spec: nil}}

		if err := output.PrintList(p, rows, nil, resourceColumns(definition.Columns), func(talos.Resource) string { return name }); err != nil {
			if _, bad := json.Marshal(doc); bad == nil {
				t.Fatalf("%q: %v", path, err)
			}
		}

		if text := out.String(); strings.Count(text, "\n") != 1+len(rows) || iostreams.Neutral(text) != text {
			t.Fatalf("%q and %q of %s: %q", name, path, spec, text)
		}
	})
}
