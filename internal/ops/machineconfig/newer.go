package machineconfig

import (
	"slices"

	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/lists"
)

// deletion is what a strategic merge patch says under $patch for what shall go.
const (
	patchKey = "$patch"
	deletion = "delete"
)

// applyNewer patches the configuration of a Talos version that is newer than this program's machinery: Talos's own
// patcher does the documents that it knows, the others are merged by their form. The node judges the result.
func (p Patches) applyNewer(text []byte) ([]byte, error) {
	have, err := Parse(text)
	if err != nil {
		return nil, err
	}

	known, foreign := split(have.Documents)

	for i, one := range p.list {
		if one.documents == nil { // JSON6902
			if len(foreign.Documents) > 0 {
				return nil, errs.Usagef("cannot patch the machine configuration: JSON6902 patches work on configurations of one document only").
					WithHint("write it as a strategic merge patch: a piece of the configuration, with `$patch: delete` for what shall go")
			}

			if known, err = patchKnown(known, one.known); err != nil {
				return nil, err
			}

			continue
		}

		ours, theirs := splitPatch(one.documents, foreign)

		if len(ours.Documents) > 0 {
			part, err := ours.YAML()
			if err != nil {
				return nil, err
			}

			loaded, err := configpatcher.LoadPatch(part)
			if err != nil {
				return nil, errs.Usagef("cannot read patch %d: %w", i+1, Hidden(err, part))
			}

			if known, err = patchKnown(known, loaded); err != nil {
				return nil, err
			}
		}

		for _, d := range theirs.Documents {
			if foreign, err = mergeDocument(foreign, d); err != nil {
				return nil, err
			}
		}
	}

	return Config{Documents: append(known.Documents, foreign.Documents...)}.YAML()
}

func patchKnown(c Config, p configpatcher.Patch) (Config, error) {
	text, err := c.YAML()
	if err != nil {
		return c, err
	}

	patched, err := applyKnown(text, []configpatcher.Patch{p})
	if err != nil {
		return c, err
	}

	return Parse(patched)
}

// split tells the documents that Talos's own reader takes from those that it does not know, or not in this form.
func split(documents []Document) (known, foreign Config) {
	for _, d := range documents {
		if loads(d) {
			known.Documents = append(known.Documents, d)
		} else {
			foreign.Documents = append(foreign.Documents, d)
		}
	}

	return known, foreign
}

// splitPatch does the same for a patch. What belongs to a document that the reader does not take goes with it.
func splitPatch(documents []Document, foreign Config) (known, theirs Config) {
	for _, d := range documents {
		has := slices.ContainsFunc(foreign.Documents, func(f Document) bool { return f.Key() == d.Key() })
		if !has && loads(d, configloader.WithAllowPatchDelete()) {
			known.Documents = append(known.Documents, d)
		} else {
			theirs.Documents = append(theirs.Documents, d)
		}
	}

	return known, theirs
}

func loads(d Document, options ...configloader.Opt) bool {
	text, err := Config{Documents: []Document{d}}.YAML()
	if err != nil {
		return false
	}

	_, err = configloader.NewFromBytes(text, options...)

	return err == nil
}

// mergeDocument merges a patch's document into the one of the same kind and name, or adds it.
func mergeDocument(c Config, p Document) (Config, error) {
	at := slices.IndexFunc(c.Documents, func(d Document) bool { return d.Key() == p.Key() })
	gone := scalar(p.node.Content[0], patchKey) == deletion

	switch {
	case gone && at < 0:
		return c, nil // as Talos's patcher has it
	case gone:
		c.Documents = slices.Delete(slices.Clone(c.Documents), at, at+1)

		return c, nil
	case at < 0:
		p.node = clone(p.node)
		c.Documents = append(slices.Clone(c.Documents), p)

		return c, nil
	default:
		return c, merge(c.Documents[at].node.Content[0], clone(p.node.Content[0]), p.Key())
	}
}

// merge merges mappings key by key and replaces scalars. How Talos merges a list depends on the field, which is
// not known here: only a list that was empty is filled.
func merge(into, from *yaml.Node, path string) error {
	for i := 0; i+1 < len(from.Content); i += 2 {
		key, value := from.Content[i], from.Content[i+1]
		have := foreign.Get(into, key.Value)
		where := path + "." + key.Value

		switch {
		case scalar(value, patchKey) == deletion:
			drop(into, key.Value)
		case have == nil:
			into.Content = append(into.Content, key, value)
		case have.Kind == yaml.MappingNode && value.Kind == yaml.MappingNode:
			if err := merge(have, value, where); err != nil {
				return err
			}
		case have.Kind == yaml.SequenceNode && len(have.Content) > 0 && value.Kind == yaml.SequenceNode:
			return errs.Usagef("cannot patch the machine configuration: how Talos merges the list %s is not known here", where).
				WithHint("this program knows the documents of Talos up to 1.13: write the whole list with `talosmate machineconfig edit`")
		default:
			*have = *value
		}
	}

	return nil
}

// clone copies a node, since one patch is merged into the configurations of several machines.
func clone(n *yaml.Node) *yaml.Node {
	out := *n
	out.Content = lists.Map(n.Content, clone)

	return &out
}

func drop(n *yaml.Node, key string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = slices.Delete(n.Content, i, i+2)

			return
		}
	}
}
