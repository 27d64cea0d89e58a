// Command docgen writes docs/cli, docs/schemas, docs/fields.txt, completions and the accessors of configurations, and with `man DIR` the man
// pages. `make generate` and `make man` run it from the root of the repository.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/talosmate/talosmate/commands"
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/output"
)

func main() {
	log.SetFlags(0)

	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	f := cmdutil.NewFactory(&iostreams.Streams{
		In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Env: func(string) (string, bool) { return "", false },
	}, cmdutil.Build{})
	root := commands.NewRoot(f)
	root.DisableAutoGenTag = true

	if len(args) == 2 && args[0] == "man" {
		return manual(root, args[1])
	}

	for _, step := range []func(*cmdutil.Factory, *cobra.Command) error{schemas, reference, completions, accessors} {
		if err := step(f, root); err != nil {
			return err
		}
	}

	return nil
}

// fresh empties a folder of generated files, so that the files of removed commands disappear.
func fresh(dir, pattern string) error {
	old, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return err
	}

	for _, path := range old {
		if err = os.Remove(path); err != nil {
			return err
		}
	}

	return os.MkdirAll(dir, 0o755) //nolint:gosec // G301: a folder of this repository
}

func schemas(f *cmdutil.Factory, _ *cobra.Command) error {
	r := &jsonschema.Reflector{Anonymous: true, DoNotReference: true, AllowAdditionalProperties: true}

	for _, dir := range []string{"./internal", "./commands"} {
		if err := r.AddGoComments("github.com/talosmate/talosmate", dir); err != nil {
			return fmt.Errorf("cannot read the comments below %s: %w", dir, err)
		}
	}

	written, now := map[string][]byte{}, documents{}

	for name, document := range f.Documents() {
		if document == nil {
			return fmt.Errorf("the schema %s has no document type", name)
		}

		s := r.ReflectFromType(reflect.TypeOf(document))
		s.Title = output.SchemaID(name)

		base := path.Base(name)
		if written[base] != nil {
			return fmt.Errorf("two documents are called %s", base)
		}

		s.ID = jsonschema.ID("https://github.com/talosmate/talosmate/docs/schemas/" + base + ".json")

		nullable(s, reflect.TypeOf(document))
		tidy(s, name)

		now[s.Title] = fieldsOf(s)

		body, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			return err
		}

		written[base] = append(body, '\n')
	}

	// Before anything is written: a field that is missing leaves the schemas as they are.
	if err := keepFields("docs/fields.txt", now); err != nil {
		return err
	}

	// Not before: this program embeds the folder and does not build while it is empty.
	if err := fresh("docs/schemas", "*.json"); err != nil {
		return err
	}

	for name, body := range written {
		if err := os.WriteFile(filepath.Join("docs/schemas", name+".json"), body, 0o644); err != nil { //nolint:gosec // G306: a file of this repository
			return err
		}
	}

	return nil
}

// tidy adds to the schema what the envelope promises: its own name, and null for the result of a command that failed
// before it had one.
func tidy(s *jsonschema.Schema, name string) {
	if field, ok := s.Properties.Get("schema"); ok {
		field.Const = output.SchemaID(name) // a document; the files that users write have no envelope
	}

	if result, ok := s.Properties.Get("result"); ok {
		nullable := &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "null"}, result}}
		s.Properties.Set("result", nullable)
	}
}

// nullable lets the pointers be null that are written when they are nil.
func nullable(s *jsonschema.Schema, t reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer:
		nullable(s, t.Elem())
	case reflect.Slice, reflect.Array:
		if s.Items != nil {
			nullable(s.Items, t.Elem())
		}
	case reflect.Map:
		if s.AdditionalProperties != nil {
			nullable(s.AdditionalProperties, t.Elem())
		}
	case reflect.Struct:
		for i := range t.NumField() {
			if s.Properties != nil { // a time is written as a string
				nullableField(s, t.Field(i))
			}
		}
	default:
	}
}

func nullableField(s *jsonschema.Schema, f reflect.StructField) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	if f.Anonymous && name == "" {
		nullable(s, f.Type)

		return
	}

	field, ok := s.Properties.Get(name)
	if !ok {
		return
	}

	nullable(field, f.Type)

	if f.Type.Kind() == reflect.Pointer && !strings.Contains(options, "omit") {
		of := *field
		of.Description = ""
		s.Properties.Set(name, &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "null"}, &of}, Description: field.Description})
	}
}

func reference(_ *cmdutil.Factory, root *cobra.Command) error {
	if err := fresh("docs/cli", "*.md"); err != nil {
		return err
	}

	return doc.GenMarkdownTree(root, "docs/cli")
}

// manual writes a man page for each command. They are made for a release and not committed; $SOURCE_DATE_EPOCH is their date, so
// that the same source gives the same pages.
func manual(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: pages for others to read
		return err
	}

	return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "talosmate", Manual: "talosmate"}, dir)
}

func completions(_ *cmdutil.Factory, root *cobra.Command) error {
	if err := fresh("completions", "talosmate.*"); err != nil {
		return err
	}

	for name, write := range map[string]func(io.Writer) error{
		"talosmate.bash": func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"talosmate.zsh":  root.GenZshCompletion,
		"talosmate.fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
		"talosmate.ps1":  root.GenPowerShellCompletionWithDesc,
	} {
		var buf bytes.Buffer
		if err := write(cmdutil.CompletionScript(&buf)); err != nil {
			return err
		}

		if err := os.WriteFile(filepath.Join("completions", name), buf.Bytes(), 0o644); err != nil { //nolint:gosec // G306: a file of this repository
			return err
		}
	}

	return nil
}
