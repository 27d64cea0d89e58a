package talos

import (
	"context"
)

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
			return "", "", n.fail("read the schematic", err)
		}

		if spec.Metadata.Name == SchematicExtension {
			return spec.Metadata.Version, spec.Metadata.ExtraInfo, nil
		}
	}

	id, err = n.schematicResource(ctx)

	return id, "", err
}
