package imager

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/talos/pkg/machinery/gendata"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
)

// The header of build and lock files.
const (
	FileVersion   = "talosmate/v1"
	BuildFileKind = "ImagerBuild"
	LockFileKind  = "ImagerLock"
)

// OfficialRegistry holds the release images.
const OfficialRegistry = "ghcr.io/siderolabs"

// Build describes a build. It is also the build file (`-f`).
type Build struct {
	Version      string      `json:"version" yaml:"version"`                                     // The file's format, talosmate/v1.
	Kind         string      `json:"kind" yaml:"kind"`                                           // Always ImagerBuild.
	TalosVersion string      `json:"talos_version,omitempty" yaml:"talos_version,omitempty"`     // The Talos version, v1.13.9.
	Profile      string      `json:"profile" yaml:"profile"`                                     // The imager's profile: iso, metal, installer, aws, …
	Arch         string      `json:"arch,omitempty" yaml:"arch,omitempty"`                       // amd64 or arm64.
	Platform     string      `json:"platform,omitempty" yaml:"platform,omitempty"`               // Another platform than the profile's.
	OutputKind   string      `json:"output_kind,omitempty" yaml:"output_kind,omitempty"`         // Another kind of output than the profile's: kernel, initramfs, uki, cmdline, …
	Registry     string      `json:"registry,omitempty" yaml:"registry,omitempty"`               // Where the release images are, ghcr.io/siderolabs by default.
	Extensions   []string    `json:"extensions,omitempty" yaml:"extensions,omitempty"`           // System extensions: a short name, NAME:TAG, NAME@DIGEST or a full reference.
	Overlay      *Overlay    `json:"overlay,omitempty" yaml:"overlay,omitempty"`                 // The overlay for a single board computer.
	KernelArgs   []string    `json:"kernel_args,omitempty" yaml:"kernel_args,omitempty"`         // Extra kernel arguments, in order.
	Meta         []string    `json:"meta,omitempty" yaml:"meta,omitempty"`                       // META values, KEY=VALUE with the key in hexadecimal: 0xa=….
	Installer    string      `json:"base_installer,omitempty" yaml:"base_installer,omitempty"`   // Another base installer image than the release's, for installers.
	ImageCache   string      `json:"image_cache,omitempty" yaml:"image_cache,omitempty"`         // An image cache: a reference, or a local OCI layout directory.
	Embedded     string      `json:"embedded_config,omitempty" yaml:"embedded_config,omitempty"` // A file with the machine configuration to embed.
	SecureBoot   *SecureBoot `json:"secureboot,omitempty" yaml:"secureboot,omitempty"`           // Keys and options of secure boot profiles.

	document *document // The imager's own profile document, where the build was given as one.
}

// Overlay is a board's overlay.
type Overlay struct {
	Name    string            `json:"name" yaml:"name"`                           // The overlay's name in the release's catalogue, rpi_generic.
	Image   string            `json:"image,omitempty" yaml:"image,omitempty"`     // Its image, where it is not in the catalogue.
	Options map[string]string `json:"options,omitempty" yaml:"options,omitempty"` // Options for the overlay, a value of @FILE is read from that file.
}

// OverlayOptions reads KEY=VALUE; nil where there are none.
func OverlayOptions(options []string) (map[string]string, error) {
	var out map[string]string

	for _, option := range options {
		key, value, ok := strings.Cut(option, "=")
		if !ok || key == "" {
			return nil, errs.Usagef("overlay option %q is not KEY=VALUE", option)
		}

		if out == nil {
			out = map[string]string{}
		}

		out[key] = value
	}

	return out, nil
}

// ParseBuild reads a build file. Unknown keys are errors, paths are relative to the file's directory.
func ParseBuild(data []byte, dir string) (Build, error) {
	var b Build

	if err := strict(data, &b); err != nil {
		return b, errs.Usagef("cannot read the build file: %w", err)
	}

	if b.Version != FileVersion || b.Kind != BuildFileKind {
		return b, errs.Usagef("not a build file: version is %q and kind %q, want %s and %s", b.Version, b.Kind, FileVersion, BuildFileKind)
	}

	b.Embedded = relative(dir, b.Embedded)

	if b.SecureBoot != nil {
		b.SecureBoot.Keys = relative(dir, b.SecureBoot.Keys)
	}

	if strings.HasPrefix(b.ImageCache, ".") {
		b.ImageCache = relative(dir, b.ImageCache)
	}

	return b, nil
}

func relative(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}

	return filepath.Join(dir, path)
}

func strict(data []byte, into any) error {
	return foreign.Strict(data, into)
}

// Complete fills in defaults: the newest Talos version that this program knows, the given architecture and the official
// registry.
func (b Build) Complete(arch string) Build {
	b.Version, b.Kind = FileVersion, BuildFileKind

	if b.TalosVersion == "" {
		b.TalosVersion = gendata.VersionTag
	}

	if !strings.HasPrefix(b.TalosVersion, "v") && b.TalosVersion != "latest" {
		b.TalosVersion = "v" + b.TalosVersion
	}

	if b.Arch == "" {
		b.Arch = "amd64"
		if arch == "arm64" {
			b.Arch = arch
		}
	}

	if b.Registry == "" {
		b.Registry = OfficialRegistry
	}

	b.Registry = strings.TrimSuffix(b.Registry, "/")

	return b
}

// target is a validated build.
type target struct {
	version semver.Version
	profile Profile
}

// profile is the imager's profile that the build starts from.
func (b Build) profile(v semver.Version) (Profile, error) {
	if b.document != nil {
		return b.document.profile(v)
	}

	return FindProfile(v, b.Profile)
}

// check validates a build as far as possible without a request.
func (b Build) check() (target, error) {
	v, err := ParseVersion(b.TalosVersion)
	if err != nil {
		return target{}, err
	}

	p, err := b.profile(v)
	if err != nil {
		return target{}, err
	}

	if b.Arch != "amd64" && b.Arch != "arm64" {
		return target{}, errs.Usagef("unknown architecture %q, want amd64 or arm64", b.Arch)
	}

	if b.Platform != "" {
		p.Platform = b.Platform
	}

	if b.OutputKind != "" {
		if p.Kind, err = ParseKind(b.OutputKind); err != nil {
			return target{}, err
		}
	}

	t := target{version: v, profile: p}

	for _, check := range []func(target) error{b.checkCustomization, b.checkSecureBoot, b.checkMeta, b.checkVersioned, b.checkFiles} {
		if err = check(t); err != nil {
			return t, err
		}
	}

	return t, nil
}

// checkCustomization states the imager's own rules (pkg/imager/profile/profile.go: Validate).
func (b Build) checkCustomization(t target) error {
	kind := t.profile.Kind

	switch {
	case kind == KindInstaller && len(b.Meta) > 0:
		return errs.Usagef("an installer cannot have META values: they belong to disk images and ISOs")
	case (kind == KindKernel || kind == KindInitramfs) && len(b.Meta)+len(b.KernelArgs) > 0:
		return errs.Usagef("a %s has neither kernel arguments nor META values", kind)
	case (kind == KindKernel || kind == KindInitramfs) && t.profile.SecureBoot:
		return errs.Usagef("there is no secure boot %s", kind)
	case kind != KindInstaller && b.Installer != "":
		return errs.Usagef("only an installer has a base installer: profile %s makes a %s", t.profile.Name, kind)
	case b.Overlay != nil && b.Overlay.Name == "":
		return errs.Usagef("an overlay needs a name")
	}

	for _, a := range b.KernelArgs {
		if strings.TrimSpace(a) == "" {
			return errs.Usagef("an empty kernel argument")
		}
	}

	return nil
}

func (b Build) checkMeta(target) error {
	for _, m := range b.Meta {
		key, _, ok := strings.Cut(m, "=")
		if !ok {
			return errs.Usagef("META value %q is not KEY=VALUE", m).WithHint("for example 0xa=…, the network configuration of a metal machine")
		}

		if _, err := strconv.ParseUint(key, 0, 8); err != nil {
			return errs.Usagef("META key %q is not a number up to 0xff", key)
		}
	}

	return nil
}

func (b Build) checkVersioned(t target) error {
	if b.Embedded != "" && !atLeast(t.version, "v1.12.0") {
		return errs.Usagef("Talos v%s cannot embed a machine configuration: v1.12.0 is the first", t.version)
	}

	return nil
}

func (b Build) checkFiles(target) error {
	if b.Embedded != "" {
		if info, err := os.Stat(b.Embedded); err != nil || info.IsDir() {
			return errs.Usagef("cannot read the machine configuration %s to embed", b.Embedded)
		}
	}

	if b.Overlay == nil {
		return nil
	}

	for _, key := range slices.Sorted(maps.Keys(b.Overlay.Options)) {
		if file, ok := strings.CutPrefix(b.Overlay.Options[key], "@"); ok {
			if _, err := os.Stat(file); err != nil {
				return errs.Usagef("cannot read the overlay option %s: %w", key, err)
			}
		}
	}

	return nil
}

// cacheIsLocal reports whether the image cache is a directory of this machine.
func (b Build) cacheIsLocal() bool {
	info, err := os.Stat(b.ImageCache)

	return b.ImageCache != "" && err == nil && info.IsDir()
}

func marshal(v any) ([]byte, error) {
	out, err := yaml.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cannot write YAML: %w", err)
	}

	return out, nil
}
