package registry

import (
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/talosmate/talosmate/internal/imageref"
)

// FactoryHost is the public Image Factory.
const FactoryHost = "factory.talos.dev"

// EmptySchematic is the ID of the schematic without extensions and other changes
// (https://www.talos.dev/latest/learn-more/image-factory/).
const EmptySchematic = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"

// Installer is a parsed reference to a Talos installer image. Image Factory references are
// REGISTRY[/PATH]/FLAVOUR/SCHEMATIC:VERSION, where PATH is that of a mirror; every other reference keeps its whole
// repository in Path and has neither flavour nor schematic.
type Installer struct {
	Registry  string `json:"registry"`            // The registry's host, with its port where given.
	Path      string `json:"path,omitempty"`      // Mirror prefix of a factory image; the whole repository of any other.
	Flavour   string `json:"flavour,omitempty"`   // metal-installer, metal-installer-secureboot, installer, aws-installer, …
	Schematic string `json:"schematic,omitempty"` // The schematic's ID, 64 hex digits.
	Version   string `json:"version,omitempty"`   // The tag, empty when only a digest was given.
	Digest    string `json:"digest,omitempty"`    // The digest, where the reference is pinned.
}

// FactoryInstaller composes the reference of an Image Factory installer. An empty host is the public factory, an empty
// schematic the stock one. Factories of Talos releases up to 1.9 have only the platform-less `installer`; it is the
// flavour when platform is empty.
func FactoryInstaller(host, platform string, secureBoot bool, schematic, version string) Installer {
	if host == "" {
		host = FactoryHost
	}

	if schematic == "" {
		schematic = EmptySchematic
	}

	host, path, _ := strings.Cut(host, "/")

	return Installer{Registry: host, Path: path, Flavour: flavour(platform, secureBoot), Schematic: schematic, Version: version}
}

func flavour(platform string, secureBoot bool) string {
	out := "installer"
	if platform != "" {
		out = platform + "-installer"
	}

	if secureBoot {
		out += "-secureboot"
	}

	return out
}

// ParseInstaller parses an installer reference. Any valid image reference parses; Factory reports whether it is an
// Image Factory's. A reference without tag and digest has no version.
func ParseInstaller(reference string) (Installer, error) {
	ref, err := name.ParseReference(reference, name.WithDefaultTag(""))
	if err != nil {
		return Installer{}, badReference(reference, err)
	}

	out := Installer{Registry: ref.Context().RegistryStr(), Path: ref.Context().RepositoryStr()}

	parts := imageref.Split(reference)
	out.Version, out.Digest = parts.Tag, parts.Digest

	if out.Digest != "" {
		if _, err = v1.NewHash(out.Digest); err != nil {
			return Installer{}, badReference(reference, err)
		}
	}

	if m := regexp.MustCompile(`^(?:(.+)/)?([a-z0-9-]*installer(?:-secureboot)?)/([0-9a-f]{64})$`).FindStringSubmatch(out.Path); m != nil {
		out.Path, out.Flavour, out.Schematic = m[1], m[2], m[3]
	}

	return out, nil
}

// Factory reports whether the reference follows the Image Factory's scheme.
func (i Installer) Factory() bool { return i.Schematic != "" }

// FactoryURL is the URL of the factory whose registry the image is in, empty for other images.
func (i Installer) FactoryURL() string {
	host, err := name.NewRegistry(i.Registry)
	if err != nil || !i.Factory() {
		return ""
	}

	return host.Scheme() + "://" + i.Registry
}

// Platform is the Talos platform that the flavour names, empty where it names none.
func (i Installer) Platform() string {
	platform, _ := strings.CutSuffix(strings.TrimSuffix(i.Flavour, "-secureboot"), "-installer")
	if platform == "installer" {
		return ""
	}

	return platform
}

// SecureBoot reports whether the flavour is a secure boot one. It is known for factory references only.
func (i Installer) SecureBoot() bool { return strings.HasSuffix(i.Flavour, "-secureboot") }

// Repository is the reference without tag and digest.
func (i Installer) Repository() string {
	rest := slices.DeleteFunc([]string{i.Path, i.Flavour, i.Schematic}, func(p string) bool { return p == "" })

	return strings.Join(append([]string{i.Registry}, rest...), "/")
}

// String composes the reference again.
func (i Installer) String() string {
	out := i.Repository()

	if i.Version != "" {
		out += ":" + i.Version
	}

	if i.Digest != "" {
		out += "@" + i.Digest
	}

	return out
}

// ForVersion is the same installer (registry, flavour, schematic) of another Talos version, given with or without its
// leading v. The digest is dropped, since it belongs to the old version.
func (i Installer) ForVersion(version string) Installer {
	if version != "" && version[0] >= '0' && version[0] <= '9' {
		version = "v" + version
	}

	i.Version, i.Digest = version, ""

	return i
}

// WithSchematic is the same installer (registry, flavour, version) with another schematic. References that are not a
// factory's are returned unchanged.
func (i Installer) WithSchematic(id string) Installer {
	if i.Factory() {
		i.Schematic, i.Digest = id, ""
	}

	return i
}

// Pinned is the installer by digest, with its tag kept for people to read.
func (i Installer) Pinned(digest string) Installer {
	i.Digest = digest

	return i
}
