package migrate

import (
	"context"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// API is what a migration asks a node.
type API interface {
	Version(ctx context.Context) (talos.Version, error)
	MachineConfig(ctx context.Context) ([]byte, error)
	Interfaces(ctx context.Context, linkLocal bool) ([]talos.Interface, error)
	Name() string
}

// Node migrates the configuration that a node runs with, and its physical links are known. It sends nothing that changes
// the node. A release that is newer than the node's is refused: the node does not know the documents.
func Node(ctx context.Context, n API, o Options) (Result, error) {
	version, err := n.Version(ctx)
	if err != nil {
		return Result{}, err
	}

	if release.Lower(version.Tag, o.To+".0-alpha.0") {
		return Result{}, errs.New(errs.Refused, "cannot migrate the machine configuration of %s to %s: the node runs %s, which does not know its documents", n.Name(), o.To, version.Tag).
			WithHint("upgrade the node first, or migrate to a release that it runs")
	}

	links, err := n.Interfaces(ctx, false)
	if err != nil {
		return Result{}, err
	}

	o.Links, o.Aliases = []string{}, map[string][]string{}

	for _, l := range links {
		if l.Kind != "" || l.Type != "ether" {
			continue
		}

		o.Links = append(o.Links, l.Name)

		for _, name := range append(l.AltNames, l.Alias) {
			if name != "" {
				o.Aliases[l.Name] = append(o.Aliases[l.Name], name)
			}
		}
	}

	text, err := n.MachineConfig(ctx)
	if err != nil {
		return Result{}, err
	}

	return Migrate(text, o)
}

// links gives the physical links by the name that the configuration has for them.
func (o Options) links(s *source) []string {
	names := map[string]bool{}
	for _, d := range s.provider.Machine().Network().Devices() {
		names[d.Interface()] = true

		if d.Bond() != nil {
			for _, member := range d.Bond().Interfaces() {
				names[member] = true
			}
		}

		if d.Bridge() != nil {
			for _, member := range d.Bridge().Interfaces() {
				names[member] = true
			}
		}
	}

	var out []string

	for _, link := range o.Links {
		for _, other := range o.Aliases[link] {
			if names[other] && !names[link] {
				link = other

				break
			}
		}

		out = append(out, link)
	}

	return out
}
