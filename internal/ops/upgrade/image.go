package upgrade

import (
	"context"
	"errors"
	"slices"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// ImageAnnotation names the installer image of a Kubernetes node where nothing on the node tells what the image holds: one
// of a registry that is neither Sidero Labs' nor an Image Factory's. It is written when an upgrade to it was verified.
const ImageAnnotation = "talosmate.dev/image"

// Digest asks an image's registry for the image's digest.
type Digest func(ctx context.Context, image string) (digest string, err error)

// current reports whether the node already runs the target: its version, and what the image holds.
func (f facts) current() bool {
	return f.target() != "" && release.Same(f.version.Tag, f.target()) && f.holds()
}

// holds reports whether the running system is the image's, the version aside. A schematic is named by its content, from
// whatever registry it comes. What an image of any other name holds is not known: it counts as the one that runs if this
// tool installed it, or if the node is configured to be installed from its repository.
func (f facts) holds() bool {
	switch {
	case f.unnamed:
		return true // each node keeps what it has where only a version is wanted
	case f.image.Factory():
		return f.image.Schematic == f.system.Schematic
	case IsStock(f.image):
		return f.system.Schematic == "" && len(f.system.Extensions) == 0
	default:
		return f.image.String() == f.recorded || f.image.Digest == "" && f.image.Repository() == f.installed.Repository()
	}
}

// opaque reports whether nothing on a node tells what the image holds.
func (f facts) opaque() bool { return !f.image.Factory() && !IsStock(f.image) }

// differs says in what the running system of the wanted version differs from the image.
func (f facts) differs() string {
	has := "no schematic"
	if f.system.Schematic != "" {
		has = "the schematic " + short(f.system.Schematic)
	}

	switch {
	case f.image.Factory():
		return "with " + has + ", the image has the schematic " + short(f.image.Schematic)
	case IsStock(f.image) && f.system.Schematic == "":
		return "with extensions, the image is a stock image"
	case IsStock(f.image):
		return "with " + has + ", the image is a stock image"
	default:
		return "and nothing tells that it is this image"
	}
}

func short(schematic string) string { return schematic[:min(len(schematic), 12)] + "…" }

// identify reads what is known of the image that runs, where the node itself does not tell. The configuration takes an
// admin's certificate to read.
func (r *run) identify(ctx context.Context, recorded string) error {
	r.f.recorded = recorded

	if !r.f.opaque() {
		return nil
	}

	config, err := r.Node.Read.ConfigFacts(ctx)
	if conn.KindOf(err) == errs.KindPermissionDenied {
		return nil
	}

	if err == nil && config.InstallImage != "" {
		r.f.installed, _ = registry.ParseInstaller(config.InstallImage) // one that does not parse names no repository
	}

	return err
}

// record notes which image the node runs, where nothing on the node tells; an empty text removes the note.
func (r *run) record(ctx context.Context, image string) error {
	if image == r.f.recorded {
		return nil
	}

	err := r.annotate(ctx, ImageAnnotation, image)
	if err == nil {
		r.f.recorded = image
	}

	return err
}

// recordVerified notes the image of an upgrade that was verified.
func (r *run) recordVerified(ctx context.Context) error {
	if r.f.opaque() {
		return r.record(ctx, r.f.image.String())
	}

	return r.record(ctx, "")
}

// gateSame checks the image of an upgrade that has nothing to do: it may be one that does not exist, or that the node
// could not boot.
func (r *run) gateSame(ctx context.Context) []gate.Verdict {
	node := r.Target.Address
	out := []gate.Verdict{r.f.gateSystem(node), r.f.gatePlatform(node)}

	if r.o.Digest != nil {
		config, _ := r.Node.Read.ConfigFacts(ctx) // without it no mirror is known
		_, err := r.o.Digest(ctx, r.o.Image)
		out = append(out, GateImage(node, r.o.Image, err, config.Mirrors))
	}

	return out
}

// GateImage judges the answer of an image's registry. One that does not answer us may answer the node, which has
// credentials, mirrors and a network of its own; mirrors are the registries that it pulls through one.
func GateImage(node, image string, err error, mirrors []string) gate.Verdict {
	parsed, _ := registry.ParseInstaller(image) // it was checked when it was composed or asked for

	switch {
	case err == nil:
		return gate.New(gate.ImageMissing, gate.Pass, node, "%s exists", image)
	case errors.Is(err, registry.ErrNotFound) && (slices.Contains(mirrors, parsed.Registry) || slices.Contains(mirrors, "*")):
		return gate.New(gate.ImageMissing, gate.Warn, node, "%s does not have %s; the node pulls through a mirror, and its own pull will tell", parsed.Registry, image)
	case errors.Is(err, registry.ErrNotFound):
		return gate.New(gate.ImageMissing, gate.Refuse, node, "%s does not exist", image).
			WithRemedy("is the version published? name another image with --image")
	case errors.Is(err, registry.ErrUnauthorised):
		return gate.New(gate.ImageMissing, gate.Warn, node, "the registry of %s does not let us look; the node may have credentials of its own", image)
	default:
		return gate.New(gate.ImageMissing, gate.Warn, node, "the registry of %s cannot be reached from here; the node's own pull will tell", image)
	}
}
