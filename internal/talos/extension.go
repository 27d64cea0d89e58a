package talos

import (
	"context"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/lists"
)

// Extension is a system extension of the running system.
type Extension struct {
	Name        string `json:"name"`        // The extension's name.
	Version     string `json:"version"`     // Its version; for the extension "schematic" the schematic's ID.
	Author      string `json:"author"`      // Its author.
	Description string `json:"description"` // Its description.
	Image       string `json:"image"`       // The image it came from, where recorded.
}

// SchematicExtension is the name of the virtual extension whose version is the Image Factory schematic.
const SchematicExtension = "schematic"

// Extensions lists the running system's extensions, the virtual ones included. Roles: reader, operator,
// admin.
func (n *Node) Extensions(ctx context.Context) ([]Extension, error) {
	type spec struct {
		Image    string `json:"image"`
		Metadata struct {
			Name        string `json:"name"`
			Version     string `json:"version"`
			Author      string `json:"author"`
			Description string `json:"description"`
		} `json:"metadata"`
	}

	return View[spec, Extension]{
		Namespace: "runtime", Type: "ExtensionStatuses.runtime.talos.dev",
		Row: func(_ string, s spec) Extension {
			m := s.Metadata

			return Extension{Name: m.Name, Version: m.Version, Author: m.Author, Description: m.Description, Image: s.Image}
		},
	}.List(ctx, n)
}

// The differences of an extension between nodes.
const (
	ExtensionMissing = "missing" // This node does not have it, another does.
	ExtensionExtra   = "extra"   // This node has it, another does not.
	ExtensionVersion = "version" // Every node has it, in different versions.
)

// NodeExtension is an extension of one node.
type NodeExtension struct {
	NodeRef
	Extension

	Schematic  string `json:"schematic"`            // The node's Image Factory schematic, empty where none is recorded.
	Difference string `json:"difference,omitempty"` // With --diff: missing, extra or version.
}

// NodeExtensions lists the node's extensions by name, each with the node's schematic.
func (n *Node) NodeExtensions(ctx context.Context) ([]NodeExtension, error) {
	list, err := n.Extensions(ctx)
	if err != nil {
		return nil, err
	}

	schematic, _ := lists.Find(list, func(e Extension) bool { return e.Name == SchematicExtension })

	out := lists.Map(list, func(e Extension) NodeExtension { return NodeExtension{Extension: e, Schematic: schematic.Version} })
	lists.Sort(out, func(a, b NodeExtension) int { return strings.Compare(a.Name, b.Name) })

	return out, nil
}

// DiffExtensions keeps the extensions that are not the same on all nodes, with a row for each node that lacks one. The
// order of the nodes is kept.
func DiffExtensions(nodes []NodeRef, rows []NodeExtension) []NodeExtension {
	byName := map[string]map[string]NodeExtension{} // extension → node → row
	names := []string{}

	for _, r := range rows {
		if byName[r.Name] == nil {
			byName[r.Name] = map[string]NodeExtension{}
			names = append(names, r.Name)
		}

		byName[r.Name][r.Node] = r
	}

	slices.Sort(names)

	out := []NodeExtension{}

	for _, node := range nodes {
		for _, name := range names {
			word := differenceOf(byName[name], len(nodes))
			if word == "" {
				continue
			}

			row, has := byName[name][node.Node]
			if !has {
				row, word = NodeExtension{NodeRef: node, Extension: Extension{Name: name}}, ExtensionMissing
			}

			row.Difference = word
			out = append(out, row)
		}
	}

	return out
}

func differenceOf(holders map[string]NodeExtension, nodes int) string {
	versions := map[string]bool{}
	for _, r := range holders {
		versions[r.Version] = true
	}

	switch {
	case len(holders) < nodes:
		return ExtensionExtra
	case len(versions) > 1:
		return ExtensionVersion
	default:
		return ""
	}
}

// Schematic reads the Image Factory schematic of the running system: its ID, and its YAML if the node keeps it (in
// extraInfo of the virtual extension "schematic"). Both are empty on a node that was not made by a factory. Roles:
// reader, operator, admin.
func (n *Node) Schematic(ctx context.Context) (id, text string, err error) {
	list, err := n.Resources(ctx, "runtime", "ExtensionStatuses.runtime.talos.dev")
	if err != nil {
		return "", "", err
	}

	for _, r := range list {
		spec, err := Decode[struct {
			Metadata struct {
				Name      string `json:"name"`
				Version   string `json:"version"`
				ExtraInfo string `json:"extraInfo"`
			} `json:"metadata"`
		}](r)
		if err != nil {
			return "", "", n.Fail("read the schematic", err)
		}

		if spec.Metadata.Name == SchematicExtension {
			return spec.Metadata.Version, spec.Metadata.ExtraInfo, nil
		}
	}

	id, err = n.schematicResource(ctx)

	return id, "", err
}
