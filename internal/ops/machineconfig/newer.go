package machineconfig

import (
	"reflect"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// mergeForm merges documents that this program's machinery does not know, or not all fields of: mappings key by key,
// scalars replaced, lists as the type of the document says if it is known. The node judges the result.
func mergeForm(have, p Document) (Document, error) {
	node := foreign.Clone(p.node)

	if have.node == nil {
		strip(node.Content[0])

		return Document{Kind: p.Kind, Name: p.Name, node: node}, nil
	}

	have.node = foreign.Clone(have.node)

	return have, merge(have.body(), node.Content[0], typeOf(p), p.Key())
}

// typeOf is the type of a document's kind; nil if machinery does not know the kind.
func typeOf(d Document) reflect.Type {
	head := &yaml.Node{Kind: yaml.MappingNode}

	for i := 0; i+1 < len(d.body().Content); i += 2 {
		if key := d.body().Content[i]; slices.Contains([]string{"apiVersion", "kind", "name"}, key.Value) {
			head.Content = append(head.Content, key, d.body().Content[i+1])
		}
	}

	text, err := yaml.Marshal(head)
	if err != nil {
		return nil
	}

	cfg, err := configloader.NewFromBytes(text, configloader.WithNoValidation())
	if err != nil || len(cfg.Documents()) != 1 {
		return nil
	}

	return reflect.TypeOf(cfg.Documents()[0])
}

// merge merges a mapping of a patch into one of a document. t is the type of the mapping, nil if it is not known.
func merge(into, from *yaml.Node, t reflect.Type, path string) error {
	for i := 0; i+1 < len(from.Content); i += 2 {
		key, value := from.Content[i], from.Content[i+1]
		have := foreign.Get(into, key.Value)
		where := path + "." + key.Value
		field, replaced := fieldOf(t, key.Value)

		switch {
		case scalar(value, patchKey) == deletion:
			foreign.Delete(into, key.Value)
		case have == nil:
			strip(value)
			into.Content = append(into.Content, key, value)
		case have.Kind == yaml.MappingNode && value.Kind == yaml.MappingNode && !replaced:
			if err := merge(have, value, field, where); err != nil {
				return err
			}
		case have.Kind == yaml.SequenceNode && len(have.Content) > 0 && value.Kind == yaml.SequenceNode && !replaced:
			if !appended(field) || deletes(value) {
				return errs.Usagef("cannot patch the machine configuration: how Talos merges the list %s is not known here", where).
					WithHint("this program knows the documents of Talos up to %s: write the whole list with `talosmate machineconfig edit`", release.Known())
			}

			have.Content = append(have.Content, value.Content...)
		default:
			*have = *value
		}
	}

	return nil
}

// fieldOf is the type of a field of a document, nil if it is not known, and whether a patch replaces its value. The rules
// are those of machinery's package config/merge.
func fieldOf(t reflect.Type, key string) (field reflect.Type, replaced bool) {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}

	if t == nil || t.Kind() != reflect.Struct {
		return nil, false
	}

	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")

		if strings.Contains(options, "inline") {
			if field, replaced = fieldOf(f.Type, key); field != nil {
				return field, replaced
			}
		}

		if name == key {
			return f.Type, slices.Contains(strings.Split(f.Tag.Get("merge"), ","), "replace")
		}
	}

	return nil, false
}

// appended reports whether a patch adds to the lists of a type: neither does the type have rules of its own, nor is it
// bytes.
func appended(t reflect.Type) bool {
	if t == nil || t.Kind() != reflect.Slice || t.Elem().Kind() == reflect.Uint8 {
		return false
	}

	_, own := reflect.PointerTo(t).MethodByName("Merge") //nolint:forbidigo // the name is a constant

	return !own
}

// deletes reports whether a part of a patch deletes something.
func deletes(n *yaml.Node) bool {
	return scalar(n, patchKey) == deletion || slices.ContainsFunc(n.Content, deletes)
}

// strip removes the deletions of what is not there.
func strip(n *yaml.Node) {
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; {
		if scalar(n.Content[i+1], patchKey) == deletion {
			n.Content = slices.Delete(n.Content, i, i+2)
		} else {
			strip(n.Content[i+1])

			i += 2
		}
	}
}
