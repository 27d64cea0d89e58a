package output

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
)

// Fields names the fields of a document's rows, or of its result, in the order in which they are printed. document is
// a List or a Single. list reports which of them it is.
func Fields(document any) (names []string, list bool) {
	t := reflect.TypeOf(document)

	rows, list := t.FieldByName("Items")
	if list {
		return fieldsOf(rows.Type.Elem()), true
	}

	result, ok := t.FieldByName("Result")
	if !ok {
		return nil, false
	}

	return fieldsOf(result.Type), false
}

func fieldsOf(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}

	if t.Kind() != reflect.Struct {
		return nil
	}

	var names []string

	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")

		switch {
		case f.Anonymous && name == "":
			names = append(names, fieldsOf(f.Type)...)
		case f.IsExported() && name != "" && name != "-":
			names = append(names, name)
		}
	}

	return names
}

// nothing is said of a query whose answer is null: most often a field's name is wrong.
func nothing(doc []byte) string {
	if fields := fieldsThatExist(doc); fields != "" {
		return "--query gives null; " + fields
	}

	return "--query gives null"
}

// fieldsThatExist names the fields of a document's rows or result, empty where it has none.
func fieldsThatExist(doc []byte) string {
	var d struct {
		Items  []map[string]json.RawMessage `json:"items"`
		Result map[string]json.RawMessage   `json:"result"`
	}

	if err := json.Unmarshal(doc, &d); err != nil {
		return ""
	}

	where, of := ".result", d.Result
	if len(d.Items) > 0 {
		where, of = ".items[]", d.Items[0]
	}

	if len(of) == 0 {
		return ""
	}

	return where + " has the fields " + strings.Join(slices.Sorted(maps.Keys(of)), ", ")
}

// allNull reports whether a query's answer holds nothing but nulls.
func allNull(text string) bool {
	words := strings.Fields(text)

	return len(words) > 0 && !slices.ContainsFunc(words, func(w string) bool { return w != "null" })
}

// noField is the usage error for a field that no row has.
func noField(field string, rows []map[string]any) error {
	known := map[string]bool{}

	for _, row := range rows {
		for name := range row {
			known[name] = true
		}
	}

	return errs.Usagef("cannot sort by %q: no row has that field", field).
		WithHint("the fields are %s", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
}

// fieldsIn decodes a row, keeping all digits of its numbers.
func fieldsIn(row []byte) (map[string]any, error) {
	fields := map[string]any{}

	dec := json.NewDecoder(bytes.NewReader(row))
	dec.UseNumber()

	return fields, dec.Decode(&fields)
}
