// Package talosconfig edits talosconfig files in place: comments, order and unknown fields are kept.
package talosconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/lists"
)

// File is a talosconfig that is being edited.
type File struct {
	Path string

	before []byte // nil when there is no file yet.
	doc    *yaml.Node
	indent int
}

// Open reads a talosconfig; a missing file is empty.
func Open(path string) (*File, error) {
	raw, err := fsutil.ReadFile(path, fsutil.MaxText)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Usagef("cannot read the talosconfig: %w", err)
	}

	f, err := Parse(raw)
	if err != nil {
		return nil, errs.Usagef("cannot edit %s: %w", path, err)
	}

	f.Path = path

	return f, nil
}

// Parse reads a talosconfig's text.
func Parse(raw []byte) (*File, error) {
	f := &File{before: raw, indent: indentation(raw)}

	var err error
	if f.doc, err = foreign.Document(raw); err != nil {
		return nil, err
	}

	if len(f.doc.Content) == 0 {
		f.doc = &yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode, Tag: "!!map"}}}
	}

	if f.root().Kind != yaml.MappingNode {
		return nil, errors.New("it is not a talosconfig")
	}

	return f, nil
}

// Bytes encodes the talosconfig.
func (f *File) Bytes() ([]byte, error) {
	var out bytes.Buffer

	enc := yaml.NewEncoder(&out)
	enc.SetIndent(f.indent)

	if err := enc.Encode(f.doc); err != nil {
		return nil, fmt.Errorf("cannot write the talosconfig: %w", err)
	}

	return out.Bytes(), enc.Close()
}

// Save replaces the file, readable by its owner only. backup keeps the old file as PATH.bak; that path is returned.
func (f *File) Save(backup bool) (bak string, err error) {
	text, err := f.Bytes()
	if err != nil {
		return "", err
	}

	if backup && f.before != nil {
		bak = f.Path + ".bak"
		if err = fsutil.WriteBytes(bak, 0o600, f.before); err != nil {
			return "", err
		}
	}

	return bak, fsutil.WriteFile(f.Path, 0o600, func(w io.Writer) error {
		_, err := w.Write(text)

		return err
	})
}

// Current is the current context, empty for none.
func (f *File) Current() string {
	if n := foreign.Get(f.root(), "context"); n != nil {
		return n.Value
	}

	return ""
}

// Names lists the contexts in the file's order.
func (f *File) Names() []string {
	out := []string{}

	if all := f.contexts(); all != nil {
		for i := 0; i+1 < len(all.Content); i += 2 {
			out = append(out, all.Content[i].Value)
		}
	}

	return out
}

// Has reports whether a context exists.
func (f *File) Has(name string) bool { return slices.Contains(f.Names(), name) }

// Use makes a context the current one.
func (f *File) Use(name string) error {
	if !f.Has(name) {
		return f.unknown(name)
	}

	set(f.root(), "context", text(name))

	return nil
}

// SetList sets a context's endpoints or nodes; an empty list removes the field.
func (f *File) SetList(name, field string, values []string) error {
	ctx := foreign.Get(f.contexts(), name)
	if ctx == nil {
		return f.unknown(name)
	}

	if empty(ctx) {
		ctx = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		f.put(name, ctx)
	}

	if ctx.Kind != yaml.MappingNode {
		return errs.Usagef("the talosconfig's context %q is not a mapping", name)
	}

	if len(values) == 0 && field != "endpoints" {
		foreign.Delete(ctx, field)

		return nil
	}

	set(ctx, field, list(values))

	return nil
}

// Context is the content of a new context. The credentials are PEM in base64, as in talosconfig files.
type Context struct {
	Endpoints, Nodes []string
	Cluster          string
	CA, Crt, Key     string
}

// Add puts a new context at the end.
func (f *File) Add(name string, c Context) error {
	if f.Has(name) {
		return errs.Usagef("the talosconfig already has a context %q", name)
	}

	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	set(n, "endpoints", list(c.Endpoints))

	if len(c.Nodes) > 0 {
		set(n, "nodes", list(c.Nodes))
	}

	for _, field := range []struct{ key, value string }{{"ca", c.CA}, {"crt", c.Crt}, {"key", c.Key}, {"cluster", c.Cluster}} {
		if field.value != "" {
			set(n, field.key, text(field.value))
		}
	}

	f.put(name, n)

	return nil
}

// Remove removes a context, unless it is the current one.
func (f *File) Remove(name string) error {
	if !f.Has(name) {
		return f.unknown(name)
	}

	if f.Current() == name && len(f.Names()) > 1 {
		other, _ := lists.Find(f.Names(), func(n string) bool { return n != name })

		return errs.Usagef("%q is the current context, and another must take its place first", name).WithHint("%s", errs.CommandLine("config", "use", other))
	}

	foreign.Delete(f.contexts(), name)

	if f.Current() == name {
		set(f.root(), "context", text(""))
	}

	return nil
}

// Clash policies of a merge.
const (
	Overwrite = "overwrite" // The new context replaces the old one.
	Rename    = "rename"    // The new context gets a free name, NAME-1 and so on.
	Skip      = "skip"      // The old context is kept.
)

// Merged is the result for one context of a merge.
type Merged struct {
	Context string `json:"context"` // The context's name in the merged file.
	As      string `json:"as"`      // Its name in the talosconfig; empty when it was skipped.
	Action  string `json:"action"`  // added, overwritten, renamed or skipped. An empty context is skipped.
}

// Merge adds every context of another talosconfig. Without a policy a clash is a usage error. The current context
// changes only if there was none.
func (f *File) Merge(other *File, policy string) ([]Merged, error) {
	out := []Merged{}

	for _, name := range other.Names() {
		m := Merged{Context: name, As: name, Action: "added"}

		switch {
		case empty(foreign.Get(other.contexts(), name)):
			out = append(out, Merged{Context: name, Action: "skipped"})

			continue
		case !f.Has(name):
		case policy == Overwrite:
			m.Action = "overwritten"
		case policy == Skip:
			out = append(out, Merged{Context: name, Action: "skipped"})

			continue
		case policy == Rename:
			m.As, m.Action = f.free(name), "renamed"
		default:
			return nil, errs.Usagef("the talosconfig already has a context %q", name).
				WithHint("give --overwrite, --rename or --skip")
		}

		f.put(m.As, foreign.Get(other.contexts(), name))
		out = append(out, m)
	}

	if f.Current() == "" && len(out) > 0 {
		current := other.Current()
		for _, m := range out {
			if m.As != "" && (m.Context == current || current == "") {
				set(f.root(), "context", text(m.As))

				break
			}
		}
	}

	return out, nil
}

func (f *File) free(name string) string {
	for i := 1; ; i++ {
		if candidate := fmt.Sprintf("%s-%d", name, i); !f.Has(candidate) {
			return candidate
		}
	}
}

func (f *File) unknown(name string) error {
	return errs.Usagef("the talosconfig has no context %q", name).WithHint("contexts: %s", strings.Join(f.Names(), ", "))
}

func (f *File) root() *yaml.Node { return f.doc.Content[0] }

func (f *File) contexts() *yaml.Node { return foreign.Get(f.root(), "contexts") }

func (f *File) put(name string, ctx *yaml.Node) {
	if all := f.contexts(); all == nil || all.Kind != yaml.MappingNode {
		if f.Current() == "" {
			set(f.root(), "context", text(""))
		}

		set(f.root(), "contexts", &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"})
	}

	f.contexts().Style = 0 // an empty one may be written as {}
	set(f.contexts(), name, ctx)
}

// empty reports whether a context has no fields.
func empty(ctx *yaml.Node) bool { return ctx.Kind == yaml.ScalarNode && ctx.ShortTag() == "!!null" }

// set replaces a value and keeps its comments.
func set(n *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			old := n.Content[i+1]
			value.HeadComment, value.LineComment, value.FootComment = old.HeadComment, old.LineComment, old.FootComment
			n.Content[i+1] = value

			return
		}
	}

	n.Content = append(n.Content, text(key), value)
}

func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)

	return n
}

func list(values []string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	if len(values) == 0 {
		n.Style = yaml.FlowStyle
	}

	for _, v := range values {
		n.Content = append(n.Content, text(v))
	}

	return n
}

// indentation is the width of the first indented line, 4 as Talos writes it where there is none.
func indentation(raw []byte) int {
	for line := range strings.Lines(string(raw)) {
		trimmed := strings.TrimLeft(line, " ")
		if width := len(line) - len(trimmed); width > 0 && width <= 8 && trimmed != "\n" && !strings.HasPrefix(trimmed, "#") {
			return max(width, 2)
		}
	}

	return 4
}
