package images

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// EmptySchematic is the Image Factory's ID of a schematic without customisation.
const EmptySchematic = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"

// ErrNotFound is the error for an image that does not exist.
var ErrNotFound = errors.New("not found")

// Manifest is one image in a registry.
type Manifest struct {
	Repository string
	Tag        string
	Digest     string // of the manifest
	Config     string // the image ID
	Size       int64
	// Installer is set for Talos installers.
	Installer *Installer
}

// Installer is what a Talos installer image would install.
type Installer struct {
	Version    string
	Schematic  string // empty for images that were not made by an Image Factory
	Platform   string
	SecureBoot bool
}

// Registry simulates all registries. A rule decides which images exist, and digests follow from the name, so every run
// of the lab has the same images.
type Registry struct {
	mu       sync.Mutex
	byDigest map[string]Manifest
}

// NewRegistry makes an empty registry; images are created when they are requested.
func NewRegistry() *Registry {
	return &Registry{byDigest: map[string]Manifest{}}
}

// Resolve finds an image by tag or digest.
func (r *Registry) Resolve(ref Reference) (Manifest, error) {
	if ref.Digest != "" {
		r.mu.Lock()
		defer r.mu.Unlock()

		m, ok := r.byDigest[ref.Digest]
		if !ok || m.Repository != ref.Repository {
			return Manifest{}, fmt.Errorf("%s: %w", ref, ErrNotFound)
		}

		return m, nil
	}

	m := describe(ref)
	if !exists(ref, m) {
		return Manifest{}, fmt.Errorf("%s: %w", ref, ErrNotFound)
	}

	r.Publish(m)

	return m, nil
}

// Publish makes an image available by its digest.
func (r *Registry) Publish(m Manifest) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.byDigest[m.Digest] = m
}

// Describe returns the image that a name would have, whether it exists or not.
func Describe(ref Reference) Manifest { return describe(ref) }

func describe(ref Reference) Manifest {
	m := Manifest{
		Repository: ref.Repository,
		Tag:        ref.Tag,
		Digest:     ref.Digest,
		Config:     sum("config", ref.Repository, ref.Tag, ref.Digest),
	}

	if m.Digest == "" {
		m.Digest = sum("manifest", ref.Repository, ref.Tag)
	}

	m.Installer = installer(ref)

	// between 2 and 300 MB, by name
	n, _ := strconv.ParseInt(m.Config[7:15], 16, 64) //nolint:errcheck // a hex digest
	m.Size = 2_000_000 + n%298_000_000

	if m.Installer != nil {
		m.Size = 120_000_000 + n%20_000_000
	}

	return m
}

// installer recognises the repositories of installers: ghcr.io/siderolabs, an Image Factory
// (PLATFORM-installer[-secureboot]/SCHEMATIC or the older installer[-secureboot]/SCHEMATIC), or a private copy of
// either.
func installer(ref Reference) *Installer {
	parts := strings.Split(ref.Path(), "/")
	in := &Installer{Version: ref.Tag, Platform: "metal"}

	last := parts[len(parts)-1]
	if regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(last) && len(parts) > 1 {
		in.Schematic = last
		last = parts[len(parts)-2]
	}

	base, secure := strings.CutSuffix(last, "-secureboot")
	in.SecureBoot = secure

	platform, found := strings.CutSuffix(base, "-installer")

	switch {
	case base == "installer", base == "installer-base":
	case found:
		in.Platform = platform
	default:
		return nil
	}

	return in
}

// exists is the lab's rule for which images were published.
func exists(ref Reference, m Manifest) bool {
	if strings.Contains(ref.Repository, "nosuch") || strings.Contains(ref.Tag, "nosuch") {
		return false
	}

	if m.Installer == nil {
		return true
	}

	major, minor, patch, ok := parseVersion(ref.Tag)
	if !ok || major != 1 || minor < 8 || minor > 14 || patch > 20 {
		return false
	}

	// ghcr.io/siderolabs/installer is not published from 1.14
	if ref.Registry() == "ghcr.io" && strings.HasPrefix(ref.Path(), "siderolabs/") && minor >= 14 {
		return false
	}

	return true
}

func parseVersion(tag string) (major, minor, patch int, ok bool) {
	match := regexp.MustCompile(`^v(\d+)\.(\d+)\.(\d+)(?:-[0-9A-Za-z.]+)?$`).FindStringSubmatch(tag)
	if match == nil {
		return 0, 0, 0, false
	}

	major, _ = strconv.Atoi(match[1]) //nolint:errcheck // digits
	minor, _ = strconv.Atoi(match[2]) //nolint:errcheck // digits
	patch, _ = strconv.Atoi(match[3]) //nolint:errcheck // digits

	return major, minor, patch, true
}
