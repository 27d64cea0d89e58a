package imager

import (
	"bufio"
	"bytes"
	"context"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/blang/semver/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/registry"
)

// Registry has the calls that this package makes to registries.
type Registry interface {
	Resolve(ctx context.Context, reference string) (registry.Image, error)
	Files(ctx context.Context, reference string, names ...string) (map[string][]byte, error)
	Push(ctx context.Context, archive, reference string) (registry.Image, error)
}

// Extension is a system extension of a release's catalogue.
type Extension struct {
	Name        string `json:"name"`        // The short name, qemu-guest-agent.
	Tag         string `json:"tag"`         // The extension's own version.
	Tier        string `json:"tier"`        // core, extra or contrib; unknown where the catalogue does not say.
	Author      string `json:"author"`      // Its author.
	Description string `json:"description"` // Its description.
	Image       string `json:"image"`       // Its image by tag.
	Digest      string `json:"digest"`      // The image's digest.
}

// Pinned is the extension's image by tag and digest.
func (e Extension) Pinned() string { return e.Image + "@" + e.Digest }

// BoardOverlay is an overlay of a release's catalogue.
type BoardOverlay struct {
	Name   string `json:"name"`   // The overlay's name, rpi_generic.
	Image  string `json:"image"`  // Its image by tag; one image can hold several overlays.
	Digest string `json:"digest"` // The image's digest.
}

// Pinned is the overlay's image by tag and digest.
func (o BoardOverlay) Pinned() string { return o.Image + "@" + o.Digest }

// TierUnknown is the tier of an extension whose catalogue does not have one.
const TierUnknown = "unknown"

// Extensions reads the catalogue of a release's system extensions, by name. The catalogue is the image
// `extensions:VERSION` with the files image-digests and descriptions.yaml (siderolabs/extensions, Makefile).
func Extensions(ctx context.Context, r Registry, base, version string) ([]Extension, error) {
	image := base + "/extensions:" + version

	files, err := r.Files(ctx, image, "image-digests", "descriptions.yaml")
	if err != nil {
		return nil, err
	}

	list, ok := files["image-digests"]
	if !ok {
		return nil, errs.New(errs.Failed, "%s is not an extensions catalogue: it has no image-digests", image)
	}

	var about map[string]struct {
		Author      string `yaml:"author"`
		Description string `yaml:"description"`
	}

	if err = foreign.YAML(files["descriptions.yaml"], &about); err != nil {
		return nil, errs.New(errs.Failed, "cannot read descriptions.yaml of %s: %w", image, err)
	}

	out := []Extension{}
	lines := bufio.NewScanner(bytes.NewReader(list))

	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())

		ref := imageref.Split(line)
		if ref.Digest == "" {
			continue
		}

		e := Extension{
			Name: path.Base(ref.Repository), Tag: ref.Tag, Digest: ref.Digest, Image: rebase(base, ref.Repository) + ":" + ref.Tag,
		}
		e.Author = about[line].Author
		e.Tier, e.Description = TierOf(about[line].Description)

		out = append(out, e)
	}

	lists.Sort(out, func(a, b Extension) int { return strings.Compare(a.Name, b.Name) })

	return out, lines.Err()
}

// TierOf splits a description, `[core] This system extension …`, into the tier and the text.
func TierOf(description string) (tier, text string) {
	description = strings.Join(strings.Fields(description), " ")

	m := regexp.MustCompile(`^\[(\w+)\] *(.*)$`).FindStringSubmatch(description)
	if m == nil {
		return TierUnknown, description
	}

	return m[1], m[2]
}

// Overlays reads the catalogue of a release's board overlays, by name: the image `overlays:VERSION` with the
// file overlays.yaml (siderolabs/overlays).
func Overlays(ctx context.Context, r Registry, base, version string) ([]BoardOverlay, error) {
	image := base + "/overlays:" + version

	files, err := r.Files(ctx, image, "overlays.yaml")
	if err != nil {
		return nil, err
	}

	body, ok := files["overlays.yaml"]
	if !ok {
		return nil, errs.New(errs.Failed, "%s is not an overlays catalogue: it has no overlays.yaml", image)
	}

	var list struct {
		Overlays []struct {
			Name   string `yaml:"name"`
			Image  string `yaml:"image"`
			Digest string `yaml:"digest"`
		} `yaml:"overlays"`
	}

	if err = foreign.YAML(body, &list); err != nil {
		return nil, errs.New(errs.Failed, "cannot read overlays.yaml of %s: %w", image, err)
	}

	out := []BoardOverlay{}

	for _, o := range list.Overlays {
		image := imageref.Split(o.Image)
		out = append(out, BoardOverlay{Name: o.Name, Image: rebase(base, image.Repository) + ":" + image.Tag, Digest: o.Digest})
	}

	lists.Sort(out, func(a, b BoardOverlay) int { return strings.Compare(a.Name, b.Name) })

	return out, nil
}

// rebase moves an official image to another registry, a mirror of the official one.
func rebase(base, repository string) string {
	if rest, ok := strings.CutPrefix(repository, OfficialRegistry+"/"); ok {
		return base + "/" + rest
	}

	return repository
}

// pickExtension finds an extension in the catalogue. found is false for an image that is not in the catalogue. An image
// that is must have the catalogue's tag and digest: otherwise it was built for another release.
func pickExtension(catalog []Extension, base, version, wanted string) (e Extension, found bool, err error) {
	ref := imageref.Split(wanted)
	repository, tag, digest := ref.Repository, ref.Tag, ref.Digest

	if tag == "latest" {
		return e, false, errs.Usagef("refusing extension %s: `latest` does not name the Talos version that it was built for", wanted).
			WithHint("use the short name %s: its version follows from the Talos version", path.Base(repository))
	}

	i := slices.IndexFunc(catalog, func(e Extension) bool { return matches(e, base, repository) })
	if i < 0 {
		if !strings.Contains(repository, "/") {
			return e, false, errs.Usagef("Talos %s has no extension %q", version, repository).WithHint("%s", suggest(catalog, repository))
		}

		return e, false, nil
	}

	e = catalog[i]

	if tag != "" && tag != e.Tag || digest != "" && digest != e.Digest {
		return e, false, errs.Usagef("refusing extension %s: Talos %s was released with %s:%s@%s", wanted, version, e.Name, e.Tag, e.Digest).
			WithHint("use the short name %s, or build for the Talos version that this extension was released with", e.Name)
	}

	return e, true, nil
}

// matches accepts the short name, the owner's form that schematics use (siderolabs/NAME), and both the
// official and the mirrored repository.
func matches(e Extension, base, repository string) bool {
	image := imageref.Split(e.Image).Repository

	return repository == e.Name || repository == "siderolabs/"+e.Name || repository == image ||
		rebase(base, repository) == image
}

func suggest(catalog []Extension, name string) string {
	near := lists.Filter(catalog, func(e Extension) bool { return strings.Contains(e.Name, name) || strings.Contains(name, e.Name) })
	if len(near) == 0 {
		return "run `talosmate imager extensions` for the list"
	}

	return "did you mean " + lists.Join(near, " or ", func(e Extension) string { return e.Name }) + "?"
}

// compatible checks the compatibility that a foreign extension declares (manifest.yaml,
// metadata.compatibility.talos.version) against the Talos version. An extension that declares none is accepted.
func compatible(manifest []byte, v semver.Version) (constraint string, ok bool, err error) {
	var m struct {
		Metadata struct {
			Compatibility struct {
				Talos struct {
					Version string `yaml:"version"`
				} `yaml:"talos"`
			} `yaml:"compatibility"`
		} `yaml:"metadata"`
	}

	if err = foreign.YAML(manifest, &m); err != nil {
		return "", false, err
	}

	constraint = m.Metadata.Compatibility.Talos.Version
	if constraint == "" {
		return "", true, nil
	}

	allowed, err := semver.ParseRange(regexp.MustCompile(`v(\d)`).ReplaceAllString(constraint, "$1"))
	if err != nil {
		return constraint, false, err
	}

	// A pre-release counts as its release.
	v.Pre = nil

	return constraint, allowed(v), nil
}

// builtFor reads the Talos version from a tag such as 20240826-v1.8.0, which extensions with kernel modules have; ok is
// false for other tags.
func builtFor(tag string) (version string, ok bool) {
	m := regexp.MustCompile(`-(v\d+\.\d+\.\d+(?:-(?:alpha|beta|rc)\.\d+)?)$`).FindStringSubmatch(tag)
	if m == nil {
		return "", false
	}

	return m[1], true
}
