package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
)

type row struct {
	Node   string            `json:"node"`
	Size   int               `json:"size_bytes"`
	Parts  []part            `json:"parts"`
	Labels map[string]string `json:"labels"`
	Last   *part             `json:"last,omitempty"`
}

type part struct {
	Name string `json:"name"`
}

func schemaOf(v any) *jsonschema.Schema {
	return (&jsonschema.Reflector{Anonymous: true, DoNotReference: true}).Reflect(v)
}

const rowFields = `
talosmate/v1/Row
  labels object
  labels{} string
  last object
  last.name string
  node string
  parts array
  parts[] object
  parts[].name string
  size_bytes integer
`

func TestFieldsOf(t *testing.T) {
	t.Parallel()

	got := documents{"talosmate/v1/Row": fieldsOf(schemaOf(row{}))}
	if want := fieldsHead + rowFields; string(got.bytes()) != want {
		t.Errorf("got\n%s\nwant\n%s", got.bytes(), want)
	}

	nullable := &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "null"}, schemaOf(part{})}}
	s := &jsonschema.Schema{Properties: jsonschema.NewProperties()}
	s.Properties.Set("result", nullable)

	if got := fieldsOf(s); got["result"] != "null|object" || got["result.name"] != "string" || len(got) != 2 {
		t.Errorf("a nullable object: %v", got)
	}
}

// TestKeepFields changes a schema in each way that a script notices, and in those that it does not.
func TestKeepFields(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		id     string                   // of the document now; empty: there is none
		change func(*jsonschema.Schema) // of its schema
		before string                   // the file, where it is not rowFields
		want   string                   // in the error; empty: none
		adds   string                   // in the file afterwards
		drops  string                   // not in it
	}{
		"nothing": {id: "talosmate/v1/Row", adds: rowFields},
		"an added field": {
			id: "talosmate/v1/Row", adds: "  zone string\n",
			change: func(s *jsonschema.Schema) { s.Properties.Set("zone", &jsonschema.Schema{Type: "string"}) },
		},
		"a new document": {id: "talosmate/v1/Row", before: "# none\n", adds: rowFields},
		"a removed field": {
			id: "talosmate/v1/Row", want: "talosmate/v1/Row: the field size_bytes is missing",
			change: func(s *jsonschema.Schema) { s.Properties.Delete("size_bytes") },
		},
		"a renamed field, deep": {
			id: "talosmate/v1/Row", want: "talosmate/v1/Row: the field parts[].name is missing",
			change: func(s *jsonschema.Schema) {
				items := s.Properties.Value("parts").Items.Properties
				items.Set("title", items.Value("name"))
				items.Delete("name")
			},
		},
		"another type": {
			id: "talosmate/v1/Row", want: "the field size_bytes was integer and is string",
			change: func(s *jsonschema.Schema) { s.Properties.Value("size_bytes").Type = "string" },
		},
		"a removed field in a new version": {
			id: "talosmate/v2/Row", adds: "talosmate/v2/Row", drops: "size_bytes",
			change: func(s *jsonschema.Schema) { s.Properties.Delete("size_bytes") },
		},
		"an older version":              {id: "talosmate/v1/Row", before: strings.Replace(rowFields, "v1", "v2", 1), want: "has the older version"},
		"a removed document":            {want: "talosmate/v1/Row: the document is missing"},
		"a document removed on purpose": {before: "talosmate/v1/Row\n  removed\n", adds: "talosmate/v1/Row\n  removed\n"},
		"its name used again":           {id: "talosmate/v1/Row", before: "talosmate/v1/Row\n  removed\n", want: "talosmate/v1/Row was removed"},
		"a document twice":              {id: "talosmate/v1/Row", before: rowFields + rowFields, want: "talosmate/v1/Row is there twice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			now := documents{}

			if c.id != "" {
				s := schemaOf(row{})
				if c.change != nil {
					c.change(s)
				}

				now[c.id] = fieldsOf(s)
			}

			if c.before == "" {
				c.before = rowFields
			}

			file := filepath.Join(t.TempDir(), "fields.txt")
			if err := os.WriteFile(file, []byte(c.before), 0o600); err != nil {
				t.Fatal(err)
			}

			err := keepFields(file, now)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got the error %v, want %q", err, c.want)
			}

			after, readErr := os.ReadFile(file)
			if readErr != nil {
				t.Fatal(readErr)
			}

			if err != nil && string(after) != c.before {
				t.Errorf("the file was changed:\n%s", after)
			}

			if !strings.Contains(string(after), c.adds) || c.drops != "" && strings.Contains(string(after), c.drops) {
				t.Errorf("the file:\n%s", after)
			}
		})
	}
}

// TestFieldsNeedTheirFile: a file that was deleted is not written again.
func TestFieldsNeedTheirFile(t *testing.T) {
	t.Parallel()

	if err := keepFields(filepath.Join(t.TempDir(), "fields.txt"), documents{}); err == nil {
		t.Error("no error")
	}
}
