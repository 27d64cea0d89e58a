package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/foreign"
)

// Patch returns the strategic merge patch that makes one configuration of the other with Talos's own patcher. One that does
// not give exactly that is an error.
func Patch(before, after []byte) ([]byte, error) {
	old, err := load(before, Options{})
	if err != nil {
		return nil, err
	}

	next, err := load(after, Options{})
	if err != nil {
		return nil, err
	}

	patch, err := patchOf(old, next)
	if err != nil {
		return nil, err
	}

	loaded, err := configpatcher.LoadPatch(patch)
	if err != nil {
		return nil, fmt.Errorf("cannot make a patch: %w", err)
	}

	got, err := configpatcher.Apply(configpatcher.WithConfig(old.provider), []configpatcher.Patch{loaded})
	if err != nil {
		return nil, fmt.Errorf("cannot make a patch: %w", err)
	}

	made, err := got.Config()
	if err != nil {
		return nil, fmt.Errorf("cannot make a patch: %w", err)
	}

	same, err := equal(made, next.provider)
	if err == nil && !same {
		err = errors.New("Talos's patcher makes another configuration of it") //nolint:staticcheck // a name
	}

	if err != nil {
		return nil, fmt.Errorf("cannot make a patch: %w", err)
	}

	return patch, nil
}

// patchOf deletes from v1alpha1 what moved, and adds the documents that differ.
func patchOf(old, next *source) ([]byte, error) {
	var trees []*yaml.Node

	deletes, err := deletion("", old.root, next.root)
	if err != nil {
		return nil, err
	}

	if len(deletes.Content) > 0 {
		trees = append(trees, deletes)
	}

	for _, id := range next.order {
		was, is := old.documents[id], next.documents[id]
		if was == nil || !identical(was, is) {
			trees = append(trees, is)
		}
	}

	var out bytes.Buffer

	enc := yaml.NewEncoder(&out)
	enc.SetIndent(4)

	for _, tree := range trees {
		if err = enc.Encode(tree); err != nil {
			return nil, fmt.Errorf("cannot make a patch: %w", err)
		}
	}

	return out.Bytes(), enc.Close()
}

// deletion says what is in one mapping and not in the other, as a patch.
func deletion(path string, old, next *yaml.Node) (*yaml.Node, error) {
	out := &yaml.Node{Kind: yaml.MappingNode}

	for i := 0; i+1 < len(old.Content); i += 2 {
		key, was := old.Content[i], old.Content[i+1]
		is := foreign.Get(next, key.Value)

		var value *yaml.Node

		switch {
		case is == nil:
			value = &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
				{Kind: yaml.ScalarNode, Value: "$patch"}, {Kind: yaml.ScalarNode, Value: "delete"},
			}}
		case identical(was, is):
			continue
		case was.Kind == yaml.MappingNode && is.Kind == yaml.MappingNode:
			var err error
			if value, err = deletion(join(path, key.Value), was, is); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("cannot make a patch: a part of %s moves, and a patch only deletes the whole", join(path, key.Value))
		}

		out.Content = append(out.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key.Value}, value)
	}

	return out, nil
}

// identical compares trees without their comments.
func identical(a, b *yaml.Node) bool {
	return a.Kind == b.Kind && a.Value == b.Value && len(a.Content) == len(b.Content) &&
		slices.EqualFunc(a.Content, b.Content, identical)
}

// equal compares what Talos writes of two configurations, document by document.
func equal(a, b config.Provider) (bool, error) {
	x, err := normal(a)
	if err != nil {
		return false, err
	}

	y, err := normal(b)

	return slices.Equal(x, y), err
}

func normal(c config.Provider) ([]string, error) {
	text, err := c.EncodeBytes(encoder.WithComments(encoder.CommentsDisabled))
	if err != nil {
		return nil, err
	}

	again, err := configloader.NewFromBytes(text)
	if err != nil {
		return nil, err
	}

	var out []string

	for _, d := range again.Documents() {
		one, err := encoder.NewEncoder(d, encoder.WithComments(encoder.CommentsDisabled)).Encode()
		if err != nil {
			return nil, err
		}

		out = append(out, string(one))
	}

	slices.Sort(out)

	return out, nil
}
