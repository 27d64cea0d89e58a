package rollout

import (
	"context"
	"path"
	"slices"

	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos"
)

// compareExtensions says what becomes of the node's extensions. A schematic names official extensions, siderolabs/NAME, and
// a node the NAME in their manifests: those are the same for all of them.
func (p *planner) compareExtensions(ctx context.Context, n *NodePlan, system talos.System, image registry.Installer) {
	had := upgrade.ExtensionNames(system.Extensions)
	n.SchematicTo = image.Schematic

	switch {
	case image.Schematic != "" && image.Schematic == system.Schematic:
		n.ExtensionsKept = had

		return
	case upgrade.IsStock(image), image.Schematic == registry.EmptySchematic:
		n.ExtensionsLost = had

		return
	}

	comes, known := p.contents(ctx, image)
	if !known {
		n.ExtensionsUnknown = had

		return
	}

	for _, e := range had {
		at := slices.IndexFunc(comes, func(official string) bool { return path.Base(official) == upgrade.ExtensionName(e) })
		if at < 0 {
			n.ExtensionsLost = append(n.ExtensionsLost, e)

			continue
		}

		n.ExtensionsKept = append(n.ExtensionsKept, e)
		comes = slices.Delete(comes, at, at+1)
	}

	n.ExtensionsAdded = append(n.ExtensionsAdded, comes...)
	slices.Sort(n.ExtensionsAdded)
}

// contents asks the factory once a schematic; not known when it is none of a factory's, or the factory does not tell.
func (p *planner) contents(ctx context.Context, image registry.Installer) ([]string, bool) {
	if p.cluster.Extensions == nil || !image.Factory() {
		return nil, false
	}

	list, err := p.extensions.get(image.Registry+"/"+image.Schematic, func() ([]string, error) { return p.cluster.Extensions(ctx, image) })

	return slices.Clone(list), err == nil
}
