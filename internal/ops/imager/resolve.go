package imager

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/registry"
)

// Roles of an image in a build.
const (
	RoleImager        = "imager"
	RoleBaseInstaller = "base-installer"
	RoleExtension     = "extension"
	RoleOverlay       = "overlay"
	RoleImageCache    = "image-cache"
)

// Input is one image that is an input of a build.
type Input struct {
	Role      string `json:"role" yaml:"role"`               // imager, base-installer, extension, overlay or image-cache.
	Name      string `json:"name" yaml:"name"`               // The extension's or overlay's short name; else the role.
	Reference string `json:"reference" yaml:"reference"`     // The image by tag, or by digest where it has no tag.
	Digest    string `json:"digest,omitempty" yaml:"digest"` // Its digest; empty only for a local image that is in no registry.
}

// Pinned is the image by digest where it is known.
func (i Input) Pinned() string {
	if i.Digest == "" || strings.Contains(i.Reference, "@") {
		return i.Reference
	}

	return i.Reference + "@" + i.Digest
}

// byDigest is the image by digest only: not every engine accepts a tag together with a digest.
func (i Input) byDigest() string {
	if i.Digest == "" {
		return i.Reference
	}

	return imageref.Split(i.Reference).Repository + "@" + i.Digest
}

// resolver turns names into images with digests.
type resolver struct {
	registry Registry
	// local reports whether the engine has an image; nil when there is no engine.
	local func(context.Context, string) bool
	byTag bool // An image whose registry cannot be reached keeps its tag.
}

// resolve finds every image of a build, in the order imager, base installer, extensions, overlay, cache.
func (r resolver) resolve(ctx context.Context, b Build, t target) ([]Input, error) {
	tool, err := r.imager(ctx, b.Registry+"/imager:"+b.TalosVersion)
	if err != nil {
		return nil, err
	}

	out := []Input{tool}

	if t.profile.Kind == KindInstaller && !b.document.hasInstaller() {
		reference := b.Installer
		if reference == "" {
			reference = b.Registry + "/installer-base:" + b.TalosVersion
		}

		base, err := r.image(ctx, RoleBaseInstaller, RoleBaseInstaller, reference)
		if err != nil {
			return nil, err
		}

		out = append(out, base)
	}

	extensions, err := r.extensions(ctx, b, t)
	if err != nil {
		return nil, err
	}

	out = append(out, extensions...)

	if b.Overlay != nil {
		overlay, err := r.overlay(ctx, b)
		if err != nil {
			return nil, err
		}

		out = append(out, overlay)
	}

	if b.ImageCache != "" && !b.cacheIsLocal() {
		cache, err := r.image(ctx, RoleImageCache, RoleImageCache, b.ImageCache)
		if err != nil {
			return nil, err
		}

		out = append(out, cache)
	}

	return out, nil
}

// imager resolves the imager itself. If no registry can be reached, an image that the engine has is used.
func (r resolver) imager(ctx context.Context, reference string) (Input, error) {
	in, err := r.image(ctx, RoleImager, RoleImager, reference)
	if errors.Is(err, registry.ErrUnreachable) && r.local != nil && r.local(ctx, reference) {
		return Input{Role: RoleImager, Name: RoleImager, Reference: reference}, nil
	}

	return in, err
}

func (r resolver) image(ctx context.Context, role, name, reference string) (Input, error) {
	if ref := imageref.Split(reference); ref.Digest == "" && (ref.Tag == "" || ref.Tag == "latest") {
		return Input{}, errs.Usagef("refusing %s %s: it names no version", role, reference).WithHint("name a tag other than latest, or a digest")
	}

	image, err := r.registry.Resolve(ctx, reference)
	if r.without(err) {
		return Input{Role: role, Name: name, Reference: reference}, nil
	}

	if err != nil {
		return Input{}, err
	}

	return Input{Role: role, Name: name, Reference: reference, Digest: image.Digest}, nil
}

// without reports whether an image is taken as it is named, because its registry cannot be reached.
func (r resolver) without(err error) bool { return r.byTag && errors.Is(err, registry.ErrUnreachable) }

// unchecked are the extensions as they are named: what has no registry and tag is of the release's catalogue.
func unchecked(b Build) []Input {
	return lists.Map(b.Extensions, func(wanted string) Input {
		in := Input{Role: RoleExtension, Name: path.Base(imageref.Split(wanted).Repository), Reference: wanted}
		if host, _, _ := strings.Cut(wanted, "/"); !strings.ContainsAny(host, ".:") { // a name, as the catalogue has it
			in.Reference = b.Registry + "/" + in.Name
		}

		return in
	})
}

func (r resolver) extensions(ctx context.Context, b Build, t target) ([]Input, error) {
	if len(b.Extensions) == 0 {
		return nil, nil
	}

	catalog, err := Extensions(ctx, r.registry, b.Registry, b.TalosVersion)
	if r.without(err) {
		return unchecked(b), nil
	}

	if err != nil {
		return nil, err
	}

	var out []Input

	for _, wanted := range b.Extensions {
		e, found, err := pickExtension(catalog, b.Registry, b.TalosVersion, wanted)
		if err != nil {
			return nil, err
		}

		in := Input{Role: RoleExtension, Name: e.Name, Reference: e.Image, Digest: e.Digest}

		if !found {
			if in, err = r.foreign(ctx, wanted, b, t); err != nil {
				return nil, err
			}
		}

		if slices.ContainsFunc(out, func(o Input) bool { return o.Name == in.Name }) {
			return nil, errs.Usagef("extension %s is named twice", in.Name)
		}

		out = append(out, in)
	}

	return out, nil
}

// foreign resolves an extension that is not in the release's catalogue, and checks the Talos version that it declares.
func (r resolver) foreign(ctx context.Context, wanted string, b Build, t target) (Input, error) {
	ref := imageref.Split(wanted)

	if built, ok := builtFor(ref.Tag); ok && built != b.TalosVersion {
		return Input{}, errs.Usagef("refusing extension %s: it was built for Talos %s, not %s", wanted, built, b.TalosVersion)
	}

	in, err := r.image(ctx, RoleExtension, path.Base(ref.Repository), wanted)
	if err != nil {
		return in, err
	}

	files, err := r.registry.Files(ctx, in.byDigest(), "manifest.yaml")
	if r.without(err) {
		return in, nil
	}

	if err != nil {
		return in, err
	}

	manifest, ok := files["manifest.yaml"]
	if !ok {
		return in, errs.Usagef("%s is not a system extension: it has no manifest.yaml", wanted)
	}

	constraint, fits, err := compatible(manifest, t.version)

	switch {
	case err != nil:
		return in, errs.Usagef("cannot read the manifest of extension %s: %w", wanted, err)
	case !fits:
		return in, errs.Usagef("refusing extension %s: it is for Talos %s, not %s", wanted, constraint, b.TalosVersion)
	}

	return in, nil
}

func (r resolver) overlay(ctx context.Context, b Build) (Input, error) {
	if b.Overlay.Image != "" {
		return r.image(ctx, RoleOverlay, b.Overlay.Name, b.Overlay.Image)
	}

	catalog, err := Overlays(ctx, r.registry, b.Registry, b.TalosVersion)
	if r.without(err) {
		return Input{Role: RoleOverlay, Name: b.Overlay.Name, Reference: b.Registry + "/" + b.Overlay.Name}, nil
	}

	if err != nil {
		return Input{}, err
	}

	i := slices.IndexFunc(catalog, func(o BoardOverlay) bool { return o.Name == b.Overlay.Name })
	if i < 0 {
		return Input{}, errs.Usagef("Talos %s has no overlay %q", b.TalosVersion, b.Overlay.Name).
			WithHint("talosmate imager overlays")
	}

	return Input{Role: RoleOverlay, Name: catalog[i].Name, Reference: catalog[i].Image, Digest: catalog[i].Digest}, nil
}
