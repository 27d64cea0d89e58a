package fleet

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
)

// FileSchema is the schema name of a saved fleet.
const FileSchema = "talosmate/v1/Fleet"

// File is a saved fleet. The same cluster gives the same bytes.
type File struct {
	Schema string `json:"schema"` // talosmate/v1/Fleet.
	Fleet
}

// Encode encodes a fleet.
func Encode(f Fleet) ([]byte, error) {
	var out bytes.Buffer

	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")

	if err := enc.Encode(File{Schema: FileSchema, Fleet: f}); err != nil {
		return nil, fmt.Errorf("cannot encode the state: %w", err)
	}

	return iostreams.EscapeJSON(out.Bytes()), nil
}

// Check refuses bytes that are not a saved fleet, as a usage error. A file of a newer version may have more fields.
func Check(name string, raw []byte) error {
	var f File
	if err := foreign.JSON(raw, &f); err != nil {
		return errs.Usagef("cannot read the state in %s: %w", name, err)
	}

	if f.Schema != FileSchema {
		return errs.Usagef("cannot read the state in %s: its schema is %q and not %q", name, f.Schema, FileSchema).
			WithHint("%s", errs.CommandLine("state", "save", name))
	}

	return nil
}

// Diff lists the changes from one saved fleet to another.
func Diff(from, to []byte) ([]machineconfig.Change, error) {
	a, err := keyed(from)
	if err != nil {
		return nil, err
	}

	b, err := keyed(to)
	if err != nil {
		return nil, err
	}

	before, err := machineconfig.Parse(a)
	if err != nil {
		return nil, err
	}

	after, err := machineconfig.Parse(b)
	if err != nil {
		return nil, err
	}

	changes := machineconfig.Diff(before, after, true)
	for i := range changes {
		changes[i].Document = "state"
	}

	return changes, nil
}

// keyed turns lists whose items have a key into mappings, so that an added or removed item does not move the others.
// JSON is YAML.
func keyed(raw []byte) ([]byte, error) {
	var doc map[string]any
	if err := foreign.JSON(raw, &doc); err != nil {
		return nil, fmt.Errorf("cannot read the state: %w", err)
	}

	delete(doc, "schema")

	out, err := json.Marshal(byKey(doc))
	if err != nil {
		return nil, fmt.Errorf("cannot encode the state: %w", err)
	}

	return out, nil
}

func byKey(v any) any {
	switch typed := v.(type) {
	case map[string]any:
		for k, item := range typed {
			if list, ok := item.([]any); ok && len(list) == 0 {
				delete(typed, k) // null and an empty list are the same

				continue
			}

			typed[k] = byKey(item)
		}
	case []any:
		out := map[string]any{}

		for _, item := range typed {
			key, value := keyOf(item)
			if _, again := out[key]; again || key == "" {
				return typed
			}

			out[key] = byKey(value)
		}

		return out
	}

	return v
}

// keyOf returns the name of an item and the rest of it: a node has its hostname as its name, an etcd member its name, a
// health finding, which becomes one line, its check and node.
func keyOf(item any) (string, any) {
	m, _ := item.(map[string]any)
	text := func(k string) string { s, _ := m[k].(string); return s }

	if id := text("id"); id != "" && text("status") != "" {
		if where := cmp.Or(text("hostname"), text("node")); where != "" {
			id += "@" + where
		}

		return id, text("status") + ": " + text("message")
	}

	for _, k := range []string{"hostname", "name", "id", "device", "node"} {
		if s := text(k); s != "" {
			delete(m, k)

			return s, m
		}
	}

	return "", item
}
