package machineconfig

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/redact"
)

// Ops of a change.
const (
	Add    = "add"
	Remove = "remove"
	Modify = "change"
)

// orderOf makes the path of the order of a list from that of the list.
const orderOf = "[]"

// Change is one difference between two configurations.
type Change struct {
	Document string `json:"document"`       // The document: v1alpha1, or its kind and name.
	Path     string `json:"path"`           // The path in it; list items by what names them.
	Op       string `json:"op"`             // add, remove or change.
	From     string `json:"from,omitempty"` // The value before; secrets are redacted.
	To       string `json:"to,omitempty"`   // The value after; secrets are redacted.
	Secret   bool   `json:"secret"`         // Whether the values are secrets, so that they are not shown.
}

// Diff lists what leads from one configuration to another, in the order of the documents and their fields.
// Comments, key order, quoting, and what Talos adds when it writes a document make no difference. Secrets are compared
// but shown only when asked for.
func Diff(from, to Config, showSecrets bool) []Change {
	out := []Change{}

	for _, d := range from.Documents {
		a, b := alike(d, to.find(d.Key()))
		out = append(out, diffDocument(d.Key(), flatten(a), flatten(b), showSecrets)...)
	}

	for _, d := range to.Documents {
		if from.find(d.Key()).node == nil {
			out = append(out, diffDocument(d.Key(), nil, flatten(d), showSecrets)...)
		}
	}

	return out
}

// alike gives two documents in the same form: Talos's own, if it knows both of them.
func alike(a, b Document) (Document, Document) {
	if b.node == nil {
		return a, b
	}

	x, known := a.canonical()
	y, both := b.canonical()

	if !known || !both {
		return a, b
	}

	return x, y
}

func (c Config) find(key string) Document {
	for _, d := range c.Documents {
		if d.Key() == key {
			return d
		}
	}

	return Document{}
}

// leaf is a value at a path.
type leaf struct {
	path  string
	label string // The path as it is shown where secrets are hidden.
	value string
	tag   string
	shown string   // What stands for the value where secrets are hidden; empty when it is not a secret.
	items []string // A list of plain values, compared as a set first.
	order bool     // Items only name the elements of a list, for their order.
}

func (l leaf) where(showSecrets bool) string {
	if showSecrets {
		return l.path
	}

	return l.label
}

func (l leaf) text(showSecrets bool) string {
	if l.shown != "" && !showSecrets {
		return l.shown
	}

	if l.items != nil {
		return "[" + strings.Join(l.items, ", ") + "]"
	}

	return l.value
}

func (l leaf) equal(m leaf) bool {
	return l.value == m.value && l.tag == m.tag && slices.Equal(l.items, m.items)
}

func flatten(d Document) []leaf {
	if d.node == nil {
		return nil
	}

	f := &flattener{secrets: redact.YAML(d.node)}
	f.add(d.node.Content[0], "", "")

	return f.leaves
}

type flattener struct {
	secrets map[*yaml.Node]string
	leaves  []leaf
}

func (f *flattener) add(n *yaml.Node, path, label string) {
	switch n.Kind {
	case yaml.AliasNode:
		f.add(n.Alias, path, label)
	case yaml.MappingNode:
		if len(n.Content) == 0 {
			f.leaves = append(f.leaves, leaf{path: path, label: label, value: "{}"})
		}

		for i := 0; i+1 < len(n.Content); i += 2 {
			f.add(n.Content[i+1], join(path, n.Content[i].Value), join(label, f.shown(n.Content[i])))
		}
	case yaml.SequenceNode:
		f.list(n, path, label)
	default:
		f.leaves = append(f.leaves, leaf{path: path, label: label, value: n.Value, tag: n.ShortTag(), shown: f.secrets[n]})
	}
}

// shown is a scalar as it is shown where secrets are hidden.
func (f *flattener) shown(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}

	if text, secret := f.secrets[n]; secret {
		return text
	}

	return n.Value
}

func (f *flattener) list(n *yaml.Node, path, label string) {
	plain := func(c *yaml.Node) bool { return c.Kind == yaml.ScalarNode && f.secrets[c] == "" }

	if !slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return !plain(c) }) {
		values := lists.Map(n.Content, func(c *yaml.Node) string { return c.Value })
		f.leaves = append(f.leaves, leaf{path: path, label: label, items: values})

		return
	}

	by := identity(n.Content)

	if by != "" && len(n.Content) > 1 {
		order := lists.Map(n.Content, func(c *yaml.Node) string { return f.shown(foreign.Get(c, by)) })
		f.leaves = append(f.leaves, leaf{path: path + orderOf, label: label, items: order, order: true})
	}

	for i, c := range n.Content {
		if by == "" {
			f.add(c, fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("%s[%d]", label, i))
		} else {
			f.add(c, fmt.Sprintf("%s[%s=%s]", path, by, scalar(c, by)), fmt.Sprintf("%s[%s=%s]", label, by, f.shown(foreign.Get(c, by))))
		}
	}
}

// identity is the field that names the items of a list: all have it, no two the same.
func identity(items []*yaml.Node) string {
	for _, key := range []string{
		"name", "interface", "id", "mountPoint", "destination", "path", "device", "disk", "address", "network", "endpoint", "publicKey", "url", "image",
	} {
		seen := map[string]bool{"": true}

		if !slices.ContainsFunc(items, func(n *yaml.Node) bool {
			value := scalar(n, key)
			again := seen[value]
			seen[value] = true

			return again
		}) {
			return key
		}
	}

	return ""
}

func join(path, key string) string {
	if strings.ContainsAny(key, ".[]/ ") {
		key = `"` + key + `"`
	}

	if path == "" {
		return key
	}

	return path + "." + key
}

func diffDocument(key string, from, to []leaf, showSecrets bool) []Change {
	if !showSecrets {
		key = redact.Text(key)
	}

	after := map[string]leaf{}
	for _, l := range to {
		after[l.path] = l
	}

	var out []Change

	change := func(op string, at, a, b leaf) {
		c := Change{Document: key, Path: at.where(showSecrets), Op: op, Secret: a.shown != "" || b.shown != ""}
		if op != Add {
			c.From = a.text(showSecrets)
		}

		if op != Remove {
			c.To = b.text(showSecrets)
		}

		out = append(out, c)
	}

	before := map[string]bool{}

	for _, a := range from {
		before[a.path] = true

		b, there := after[a.path]

		switch {
		case a.order && b.order:
			out = append(out, diffOrder(key, a, b, showSecrets)...)
		case a.order: // one of them is another kind of list, whose items differ
		case !there:
			change(Remove, a, a, leaf{})
		case a.equal(b):
		case a.items != nil && b.items != nil:
			out = append(out, diffItems(key, a, b, showSecrets)...)
		default:
			change(Modify, a, a, b)
		}
	}

	for _, b := range to {
		if !before[b.path] && !b.order {
			change(Add, b, leaf{}, b)
		}
	}

	return out
}

// diffOrder compares the order of the elements that two lists have in common.
func diffOrder(key string, a, b leaf, showSecrets bool) []Change {
	common := func(of, other leaf) []string {
		return slices.DeleteFunc(slices.Clone(of.items), func(item string) bool { return !slices.Contains(other.items, item) })
	}

	was, is := common(a, b), common(b, a)
	if slices.Equal(was, is) {
		return nil
	}

	return []Change{{
		Document: key, Path: strings.TrimSuffix(a.where(showSecrets), orderOf), Op: Modify,
		From: "[" + strings.Join(was, ", ") + "]", To: "[" + strings.Join(is, ", ") + "]",
	}}
}

// diffItems compares lists of plain values: what came and went, or else the order.
func diffItems(key string, a, b leaf, showSecrets bool) []Change {
	var out []Change

	path := a.where(showSecrets)

	for _, item := range a.items {
		if !slices.Contains(b.items, item) {
			out = append(out, Change{Document: key, Path: path + "[" + item + "]", Op: Remove, From: item})
		}
	}

	for _, item := range b.items {
		if !slices.Contains(a.items, item) {
			out = append(out, Change{Document: key, Path: path + "[" + item + "]", Op: Add, To: item})
		}
	}

	if len(out) == 0 {
		out = append(out, Change{Document: key, Path: path, Op: Modify, From: a.text(false), To: b.text(false)})
	}

	return out
}
