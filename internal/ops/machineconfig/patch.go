package machineconfig

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"
	"github.com/siderolabs/talos/pkg/machinery/config/container"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/validate"
)

// deletion is what a strategic merge patch says under $patch for what is deleted.
const (
	patchKey = "$patch"
	deletion = "delete"
)

// Patches are changes to a configuration, applied in order.
type Patches struct {
	list []patch
}

// patch is one change: documents of a strategic merge patch, or the operations of JSON6902.
type patch struct {
	text       []byte
	operations configpatcher.Patch
	documents  []piece
}

// piece is one document of a patch, and why Talos's own reader rejects it; nil if it does not. Newer versions of Talos
// may have it.
type piece struct {
	Document

	err error
}

// PatchFile returns the file that a patch given on the command line names: @FILE, or a word that cannot be a patch.
func PatchFile(text string) (file string, named bool) {
	if file, named = strings.CutPrefix(text, "@"); named {
		return file, true
	}

	word := text != "" && !strings.ContainsAny(text, "\n ") && !strings.HasPrefix(text, "[") && !strings.HasPrefix(text, "{")

	return text, word
}

// LoadPatches reads patches: strategic merge (with `$patch: delete`) or JSON6902, as text. Anything that is not a patch
// is a usage error.
func LoadPatches(texts [][]byte) (Patches, error) {
	var out Patches

	for i, text := range texts {
		p, err := loadPatch(text)
		if err != nil {
			return out, errs.Usagef("cannot read patch %d: %w", i+1, Hidden(err, text))
		}

		if p.operations == nil && len(p.documents) == 0 {
			return out, errs.Usagef("patch %d is empty", i+1)
		}

		for j, d := range p.documents {
			if d.err != nil {
				p.documents[j].err = errs.Usagef("cannot read patch %d: %w", i+1, Hidden(d.err, text))
			}
		}

		out.list = append(out.list, p)
	}

	return out, nil
}

func loadPatch(text []byte) (patch, error) {
	if foreign.Encrypted(text) {
		return patch{}, errors.New("it is encrypted with SOPS: decrypt it first")
	}

	documents, err := foreign.Documents(text)
	if err != nil {
		return patch{}, err
	}

	bodies := []*yaml.Node{}

	for _, doc := range documents {
		if len(doc.Content) > 0 && doc.Content[0].ShortTag() != "!!null" && len(doc.Content[0].Content)+len(doc.Content[0].Value) > 0 {
			bodies = append(bodies, doc.Content[0])
		}
	}

	p := patch{text: text}

	if len(bodies) == 1 && bodies[0].Kind == yaml.SequenceNode {
		p.operations, err = configpatcher.LoadPatch(text)

		return p, err
	}

	for _, body := range bodies {
		if body.Kind != yaml.MappingNode {
			return p, fmt.Errorf("line %d is not a mapping", body.Line)
		}
	}

	if len(bodies) == 0 {
		return p, nil
	}

	cfg, err := parse(text, true)
	if err != nil {
		return p, err
	}

	for _, d := range cfg.Documents {
		p.documents = append(p.documents, piece{Document: d, err: unreadable(d)})
	}

	return p, nil
}

// unreadable says why Talos's own reader rejects a document of a patch; nil if it does not.
func unreadable(d Document) error {
	problems := validate.Unreadable(d.body(), configloader.WithAllowPatchDelete(), configloader.WithNoValidation())

	if len(problems) == 0 {
		return nil
	}

	return errors.New(lists.Join(problems, "; ", validate.Problem.String))
}

// Known returns the patches for Talos's own patcher, which takes them only if it knows all their documents.
func (p Patches) Known() ([]configpatcher.Patch, error) {
	var out []configpatcher.Patch

	for _, one := range p.list {
		for _, d := range one.documents {
			if d.err != nil {
				return nil, d.err
			}
		}

		if one.operations != nil {
			out = append(out, one.operations)

			continue
		}

		loaded, err := configpatcher.LoadPatch(one.text)
		if err != nil {
			return nil, errs.Usagef("cannot read a patch: %w", Hidden(err, one.text))
		}

		out = append(out, loaded)
	}

	return out, nil
}

// Apply gives the configuration with the patches. Documents that no patch names keep their text. What Talos's patcher
// rejects is a usage error: a JSON6902 patch on a configuration of several documents, a path that is not there. newer
// says that the configuration is of a Talos version that this program does not know: documents that its reader rejects
// are then merged by their form alone.
func (p Patches) Apply(text []byte, newer bool) ([]byte, error) {
	have, err := Parse(text)
	if err != nil {
		return nil, err
	}

	for _, one := range p.list {
		if one.operations != nil {
			if have, err = operate(have, one.operations); err != nil {
				return nil, err
			}
		}

		for _, d := range one.documents {
			if have, err = have.merged(d, newer); err != nil {
				return nil, err
			}
		}
	}

	return have.YAML()
}

// operate applies a JSON6902 patch.
func operate(have Config, operations configpatcher.Patch) (Config, error) {
	const hint = "write it as a strategic merge patch: a piece of the configuration, with `$patch: delete` for what is to be removed"

	if len(have.Documents) > 1 {
		return have, errs.Usagef("cannot patch the machine configuration: JSON6902 patches work on configurations of one document only").WithHint(hint)
	}

	text, err := have.YAML()
	if err != nil {
		return have, err
	}

	var out configpatcher.Output

	err = errs.Safely(func() (err error) {
		out, err = configpatcher.Apply(configpatcher.WithBytes(text), []configpatcher.Patch{operations})

		return err
	})
	if err != nil {
		return have, errs.Usagef("cannot patch the machine configuration: %w", Hidden(err, text)).WithHint(hint)
	}

	if text, err = out.Bytes(); err != nil {
		return have, fmt.Errorf("cannot write the patched machine configuration: %w", err)
	}

	return Parse(text)
}

// merged merges one document of a patch into the document with the same kind and name, or adds it.
func (c Config) merged(p piece, newer bool) (Config, error) {
	at := slices.IndexFunc(c.Documents, func(d Document) bool { return d.Key() == p.Key() })

	have := Document{}
	if at >= 0 {
		have = c.Documents[at]
	}

	known := at < 0 || len(validate.Unreadable(have.body())) == 0

	var (
		next Document
		err  error
	)

	switch {
	case scalar(p.body(), patchKey) == deletion:
	case known && p.err == nil:
		next, err = mergeKnown(have, p.Document)
	case !newer && p.err == nil:
		err = errs.Usagef("cannot patch the machine configuration: this program does not know the node's document %s", p.Key())
	case !newer || (known && p.Kind == mainKind): // no newer release adds fields to it
		err = p.err
	default:
		next, err = mergeForm(have, p.Document)
	}

	if err != nil {
		return c, err
	}

	c.Documents = slices.Clone(c.Documents)

	switch {
	case next.node == nil && at < 0: // as in Talos
	case next.node == nil:
		c.Documents = slices.Delete(c.Documents, at, at+1)
	case at < 0:
		c.Documents = append(c.Documents, next)
	default:
		c.Documents[at] = next
	}

	return c, nil
}

// mergeKnown merges with Talos's own patcher. A document that this leaves empty has no node.
func mergeKnown(have, p Document) (Document, error) {
	var (
		text []byte
		next Document
	)

	err := errs.Safely(func() error {
		base, err := container.New()
		if err != nil {
			return err
		}

		whole := configpatcher.WithConfig(base)

		if have.node != nil {
			if text, err = (Config{Documents: []Document{have}}).YAML(); err != nil {
				return err
			}

			whole = configpatcher.WithBytes(text)
		}

		if text, err = (Config{Documents: []Document{p}}).YAML(); err != nil {
			return err
		}

		right, err := configpatcher.LoadPatch(text)
		if err != nil {
			return err
		}

		out, err := configpatcher.Apply(whole, []configpatcher.Patch{right})
		if err != nil {
			return err
		}

		text, err = out.Bytes()

		return err
	})
	if err != nil {
		return next, errs.Usagef("cannot patch the machine configuration: %w", hidden(err, have, p))
	}

	if strings.TrimSpace(string(text)) == "" {
		return next, nil
	}

	patched, err := Parse(text)
	if err != nil {
		return next, err
	}

	next = patched.Documents[0]
	prune(next.body(), have.body(), p.body())

	return next, nil
}

// canonical is a document as Talos's own library writes it, and whether it knows the document.
func (d Document) canonical() (Document, bool) {
	var out Config

	err := errs.Safely(func() error {
		text, err := Config{Documents: []Document{d}}.YAML()
		if err != nil {
			return err
		}

		cfg, err := configloader.NewFromBytes(text)
		if err != nil {
			return err
		}

		if text, err = cfg.EncodeBytes(encoder.WithComments(encoder.CommentsDisabled)); err != nil {
			return err
		}

		out, err = Parse(text)

		return err
	})
	if err != nil || len(out.Documents) != 1 {
		return d, false
	}

	return out.Documents[0], true
}

// prune removes what writing a document has added to it: keys without a value that neither the document before nor the
// patch has.
func prune(n, have, p *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); {
			key, value := n.Content[i].Value, n.Content[i+1]
			before, asked := foreign.Get(have, key), foreign.Get(p, key)
			prune(value, before, asked)

			if before == nil && asked == nil && zero(value) {
				n.Content = slices.Delete(n.Content, i, i+2)
			} else {
				i += 2
			}
		}
	case yaml.SequenceNode:
		was, more := items(have), items(p)

		for i, item := range n.Content {
			switch {
			case len(n.Content) == len(was)+len(more) && i < len(was), len(n.Content) == len(was) && len(more) == 0:
				prune(item, was[i], nil)
			case len(n.Content) == len(was)+len(more):
				prune(item, nil, more[i-len(was)])
			case len(n.Content) == len(more):
				prune(item, nil, more[i])
			}
		}
	}
}

func items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}

	return n.Content
}

// zero reports whether a value is what a field has that is not set.
func zero(n *yaml.Node) bool {
	switch n.Kind {
	case yaml.MappingNode, yaml.SequenceNode:
		return len(n.Content) == 0
	case yaml.ScalarNode:
		return n.ShortTag() == "!!null" || slices.Contains([]string{"", "false", "0"}, n.Value)
	default:
		return false
	}
}
