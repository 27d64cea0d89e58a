package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
)

// removed stands in the place of the fields of a document that was removed on purpose.
const removed = "removed"

// fieldsHead is the start of the file of fields.
const fieldsHead = `# The fields of every document, with their types: what scripts rely on. make generate adds to this file and removes nothing.
# A field that is removed or renamed, or that changes its type, needs a new version of its document: the name of its schema
# in the command becomes v2/NAME. A document is removed by writing "removed" below its name, in the place of its fields.
`

// fields are the fields of one document: the path of each, as in items[].node, and its type.
type fields map[string]string

// documents are the fields of documents by their schema, talosmate/v1/NAME.
type documents map[string]fields

// fieldsOf lists the fields of a schema.
func fieldsOf(s *jsonschema.Schema) fields {
	out := fields{}
	out.add("", s)

	return out
}

// add records the type of what is at a path, and of all that is below it.
func (f fields) add(at string, s *jsonschema.Schema) {
	if at != "" {
		f[at] = typeOf(s)
	}

	for _, of := range s.OneOf {
		if of.Type != "null" {
			f.below(at, of)
		}
	}

	f.below(at, s)
}

func (f fields) below(at string, s *jsonschema.Schema) {
	if s.Items != nil {
		f.add(at+"[]", s.Items)
	}

	if s.AdditionalProperties != nil && s.AdditionalProperties.Type != "" {
		f.add(at+"{}", s.AdditionalProperties)
	}

	if s.Properties == nil {
		return
	}

	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		f.add(strings.TrimPrefix(at+"."+p.Key, "."), p.Value)
	}
}

// typeOf names a type: string, integer, object, null|string, …; any where the schema allows everything.
func typeOf(s *jsonschema.Schema) string {
	var types []string
	for _, of := range s.OneOf {
		types = append(types, typeOf(of))
	}

	if len(types) == 0 {
		types = append(types, s.Type)
	}

	if types[0] == "" {
		return "any"
	}

	return strings.Join(types, "|")
}

// keepFields compares the documents with those of the file. If all of the file's fields are still there, it adds the new ones
// to the file; else it returns an error that names what is missing, and leaves the file as it is.
func keepFields(file string, now documents) error {
	raw, err := os.ReadFile(file) //nolint:gosec // G304: a file of this repository
	if err != nil {
		return err // a file that was deleted would be written again without the fields that are missing
	}

	before, err := readDocuments(raw)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", file, err)
	}

	all, err := merge(before, now)
	if err != nil {
		return err
	}

	return os.WriteFile(file, all.bytes(), 0o644) //nolint:gosec // G306: a file of this repository
}

// merge returns the documents of both, in their newest versions, or an error for each field of before that now lacks.
func merge(before, now documents) (documents, error) {
	out := maps.Clone(now)

	versions := map[string]string{} // by name
	for id := range now {
		versions[path.Base(id)] = id
	}

	var missing []error

	for _, id := range slices.Sorted(maps.Keys(before)) {
		current, exists := versions[path.Base(id)]
		_, gone := before[id][removed]

		switch {
		case gone && !exists:
			out[id] = before[id]
		case gone:
			missing = append(missing, fmt.Errorf("%s was removed: the new document needs another name or version", current))
		case !exists:
			missing = append(missing, fmt.Errorf("%s: the document is missing", id))
		case current == id:
			missing = append(missing, before[id].missingFrom(id, now[id])...)
		case version(current) < version(id):
			missing = append(missing, fmt.Errorf("%s: the document has the older version of %s", id, current))
		}
	}

	if len(missing) > 0 {
		return nil, fmt.Errorf("%w\nscripts rely on these fields: keep them, or raise the version of the document (see docs/fields.txt)",
			errors.Join(missing...))
	}

	return out, nil
}

func version(id string) int {
	var n int

	_, _ = fmt.Sscanf(strings.TrimPrefix(id, "talosmate/"), "v%d/", &n) // 0 is before all versions

	return n
}

func (f fields) missingFrom(id string, now fields) []error {
	var out []error

	for _, at := range slices.Sorted(maps.Keys(f)) {
		switch t, ok := now[at]; {
		case !ok:
			out = append(out, fmt.Errorf("%s: the field %s is missing", id, at))
		case t != f[at]:
			out = append(out, fmt.Errorf("%s: the field %s was %s and is %s", id, at, f[at], t))
		}
	}

	return out
}

func (d documents) bytes() []byte {
	var out bytes.Buffer

	out.WriteString(fieldsHead)

	for _, id := range slices.SortedFunc(maps.Keys(d), func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) }) {
		fmt.Fprintf(&out, "\n%s\n", id)

		for _, at := range slices.Sorted(maps.Keys(d[id])) {
			fmt.Fprintf(&out, "  %s\n", strings.TrimSpace(at+" "+d[id][at]))
		}
	}

	return out.Bytes()
}

func readDocuments(raw []byte) (documents, error) {
	out := documents{}

	var id string

	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		line := lines.Text()

		switch at, t, _ := strings.Cut(strings.TrimSpace(line), " "); {
		case at == "" || strings.HasPrefix(at, "#"):
		case !strings.HasPrefix(line, " "):
			if id = at; out[id] != nil {
				return nil, fmt.Errorf("%s is there twice", id)
			}

			out[id] = fields{}
		case id == "":
			return nil, fmt.Errorf("the field %s has no document", at)
		default:
			out[id][at] = t
		}
	}

	return out, nil
}
