package upgrade

import (
	"context"
	"path"
	"slices"

	"github.com/talosmate/talosmate/internal/registry"
)

// compareExtensions says what becomes of the node's extensions. A schematic names official extensions, siderolabs/NAME, and
// a node the NAME in their manifests: those are the same for all of them.
func (p *planner) compareExtensions(ctx context.Context, n *NodePlan, f facts) {
	had := extensionNames(f.system.Extensions)
	n.SchematicTo = f.image.Schematic

	switch {
	case f.image.Schematic != "" && f.image.Schematic == f.system.Schematic:
		n.ExtensionsKept = had

		return
	case isStock(f.image), f.image.Schematic == registry.EmptySchematic:
		n.ExtensionsLost = had

		return
	}

	comes, known := p.contents(ctx, f.image)
	if !known {
		n.ExtensionsUnknown = had

		return
	}

	for _, e := range had {
		at := slices.IndexFunc(comes, func(official string) bool { return path.Base(official) == extensionName(e) })
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
	if p.fleet.Extensions == nil || !image.Factory() {
		return nil, false
	}

	list, err := p.extensions.get(image.Registry+"/"+image.Schematic, func() ([]string, error) { return p.fleet.Extensions(ctx, image) })

	return slices.Clone(list), err == nil
}
