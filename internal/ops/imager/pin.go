package imager

import (
	"bytes"
	"errors"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/redact"
)

// pinned is the document with every image by digest.
func (d *document) pinned(inputs []Input, insecure bool) string {
	doc, err := foreign.Document([]byte(d.text))
	if err != nil || len(doc.Content) == 0 {
		return d.text // it was parsed before
	}

	root := doc.Content[0]

	pin := func(asset *yaml.Node, in Input) {
		scalar(asset, "imageRef", in.Pinned(), "!!str")

		if insecure {
			scalar(asset, "forceInsecure", "true", "!!bool")
		}
	}

	remote := d.remoteExtensions(root)

	for _, in := range inputs {
		switch in.Role {
		case RoleBaseInstaller:
			pin(mapping(root, "input", "baseInstaller"), in)
		case RoleImageCache:
			pin(mapping(root, "input", "imageCache"), in)
		case RoleOverlay:
			pin(mapping(root, "overlay", "image"), in)

			if d.facts.Input.OverlayInstaller.Ref != "" {
				pin(mapping(root, "input", "overlayInstaller"), in)
			}
		case RoleExtension:
			pin(remote[0], in)
			remote = remote[1:]
		}
	}

	var out bytes.Buffer

	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)

	if err := errors.Join(enc.Encode(doc), enc.Close()); err != nil {
		return d.text
	}

	return out.String()
}

// remoteExtensions are the extensions with a reference, in the order in which they were resolved.
func (d *document) remoteExtensions(root *yaml.Node) []*yaml.Node {
	if len(d.facts.Input.Extensions) == 0 {
		return nil
	}

	var out []*yaml.Node

	for i, n := range value(mapping(root, "input"), "systemExtensions").Content {
		if !d.facts.Input.Extensions[i].local() {
			out = append(out, n)
		}
	}

	return out
}

// shown is the pinned document for display: an embedded machine configuration has secrets in it.
func (d *document) shown(inputs []Input, insecure bool) string {
	text := d.pinned(inputs, insecure)
	if d.facts.Customization.Embedded == "" {
		return text
	}

	doc, err := foreign.Document([]byte(text))
	if err != nil {
		return ""
	}

	scalar(mapping(doc.Content[0], "customization"), "embeddedMachineConfiguration", redact.Hidden, "!!str")

	out, err := marshal(doc)
	if err != nil {
		return ""
	}

	return string(out)
}

// value is a key's value in a mapping, nil where it is missing.
func value(m *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			if v := m.Content[i+1]; v.Kind == yaml.AliasNode {
				return v.Alias
			}

			return m.Content[i+1]
		}
	}

	return nil
}

// mapping follows keys through mappings and creates missing ones.
func mapping(m *yaml.Node, path ...string) *yaml.Node {
	for _, key := range path {
		next := value(m, key)
		if next == nil {
			next = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, next)
		}

		if next.Kind == yaml.AliasNode {
			next = next.Alias
		}

		if next.Kind != yaml.MappingNode {
			*next = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"} // null
		}

		m = next
	}

	return m
}

// scalar sets a key of a mapping.
func scalar(m *yaml.Node, key, text, tag string) {
	node := yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text}
	if old := value(m, key); old != nil {
		*old = node

		return
	}

	m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, &node)
}
