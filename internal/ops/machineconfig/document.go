// Package machineconfig reads machine configurations without judging them: documents kept apart, secrets
// found, two configurations compared path by path. It works on YAML, so that documents of newer Talos
// versions pass through.
package machineconfig

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/redact"
)

// Document is one document of a machine configuration.
type Document struct {
	Kind string // v1alpha1 for the main document, else its kind.
	Name string // Its name, where it has one.

	node *yaml.Node
}

// Key names a document within a configuration: v1alpha1, HostnameConfig, VolumeConfig/EPHEMERAL.
func (d Document) Key() string {
	if d.Name == "" {
		return d.Kind
	}

	return d.Kind + "/" + d.Name
}

// body is the document's mapping; nil without one.
func (d Document) body() *yaml.Node {
	if d.node == nil {
		return nil
	}

	return d.node.Content[0]
}

// Config is a machine configuration.
type Config struct {
	Documents []Document
}

// mainKind stands for the kind of the main document, which has none.
const mainKind = "v1alpha1"

// Parse reads a configuration. Input that is not a YAML mapping, or has a document twice, is a usage error.
func Parse(text []byte) (Config, error) { return parse(text, false) }

// parse reads a configuration or a patch. In a patch, a document may follow one that deletes.
func parse(text []byte, isPatch bool) (Config, error) {
	var out Config

	documents, err := foreign.Documents(text)
	if err != nil {
		return out, errs.Usagef("cannot parse the machine configuration: %w", err)
	}

	for _, doc := range documents {
		if len(doc.Content) == 0 || doc.Content[0].ShortTag() == "!!null" {
			continue
		}

		body := doc.Content[0]
		if body.Kind != yaml.MappingNode {
			return out, errs.Usagef("cannot parse the machine configuration: line %d is not a mapping", body.Line)
		}

		d := Document{Kind: mainKind, node: doc}
		if kind := scalar(body, "kind"); kind != "" {
			d.Kind, d.Name = kind, scalar(body, "name")
		}

		if first := out.find(d.Key()); first.node != nil && (!isPatch || !deletes(first.body())) {
			return out, errs.Usagef("cannot parse the machine configuration: lines %d and %d are both the document %s", first.body().Line, body.Line, d.Key()).
				WithHint("merge them: a document may be there once")
		}

		out.Documents = append(out.Documents, d)
	}

	if len(out.Documents) == 0 {
		return out, errs.Usagef("the machine configuration is empty")
	}

	return out, nil
}

// Full reports whether the main document is there; without it a file is a fragment.
func (c Config) Full() bool { return c.find(mainKind).node != nil }

// At gives the scalar at a path of the main document, empty when there is none.
func (c Config) At(path ...string) string {
	if !c.Full() || len(path) == 0 {
		return ""
	}

	n := c.find(mainKind).body()
	for _, key := range path[:len(path)-1] {
		n = foreign.Get(n, key)
	}

	return scalar(n, path[len(path)-1])
}

// Hostname is the name that the configuration gives the node, empty when it leaves it to the network.
func (c Config) Hostname() string {
	for _, d := range c.Documents {
		if d.Kind == "HostnameConfig" {
			return scalar(d.node.Content[0], "hostname")
		}
	}

	return c.At("machine", "network", "hostname")
}

// Type is machine.type of the main document: controlplane, worker, init, or empty without one.
func (c Config) Type() string { return c.At("machine", "type") }

// Redact replaces every secret, for good.
func (c Config) Redact() {
	for i, d := range c.Documents {
		redact.Apply(d.node)
		c.Documents[i].Name = redact.Text(d.Name)
	}
}

// YAML writes the documents again, comments kept.
func (c Config) YAML() ([]byte, error) {
	var out bytes.Buffer

	enc := yaml.NewEncoder(&out)
	enc.SetIndent(4) // as Talos writes it

	for _, d := range c.Documents {
		if err := enc.Encode(d.node); err != nil {
			return nil, fmt.Errorf("cannot write the machine configuration: %w", err)
		}
	}

	return out.Bytes(), enc.Close()
}

// Value gives a document as plain values.
func (d Document) Value() (map[string]any, error) {
	out := map[string]any{}
	err := foreign.Decode(d.node, &out)

	return out, err
}

func scalar(n *yaml.Node, key string) string {
	if c := foreign.Get(n, key); c != nil && c.Kind == yaml.ScalarNode {
		return c.Value
	}

	return ""
}
