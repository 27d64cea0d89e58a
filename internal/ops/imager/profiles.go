// Package imager builds Talos boot assets with the Talos imager in a container: it knows the profiles of each release,
// resolves every input to a digest, runs the container with no more privileges than the release and profile need, and
// returns complete files only.
package imager

import (
	"fmt"
	"slices"
	"strings"

	"github.com/blang/semver/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
)

// Kind is what a profile produces.
type Kind string

// The kinds, as the imager's --output-kind names them.
const (
	KindISO       Kind = "iso"
	KindImage     Kind = "image" // A disk image.
	KindInstaller Kind = "installer"
	KindKernel    Kind = "kernel"
	KindInitramfs Kind = "initramfs"
	KindUKI       Kind = "uki"
	KindCmdline   Kind = "cmdline"
)

// Kinds lists every kind.
func Kinds() []Kind {
	return []Kind{KindISO, KindImage, KindInstaller, KindKernel, KindInitramfs, KindUKI, KindCmdline}
}

// Profile is one of the imager's built-in profiles.
type Profile struct {
	Name       string `json:"name"`             // The profile, as the imager's argument.
	Kind       Kind   `json:"kind"`             // iso, image, installer or uki.
	Platform   string `json:"platform"`         // The Talos platform it is for.
	SecureBoot bool   `json:"secureboot"`       // Whether the result boots with secure boot.
	Format     string `json:"format,omitempty"` // A disk image's format with its compression: raw.zst, qcow2, vhd.zst, ova, …
	Since      string `json:"since,omitempty"`  // The first Talos version that has it, empty for versions before 1.12.
}

// secureBoot is the prefix of the names of secure boot profiles.
const secureBoot = "secureboot-"

// allProfiles are those of Talos 1.14.0-rc.1, with the version that introduced them if it is newer than 1.12
// (pkg/imager/profile/default.go at v1.12.11, v1.13.9 and v1.14.0-rc.1).
func allProfiles() []Profile {
	const fourteen = "v1.14.0"

	out := []Profile{
		{Name: "iso", Kind: KindISO, Platform: "metal"},
		{Name: "metal", Kind: KindImage, Platform: "metal", Format: "raw.zst"},
		{Name: "metal-4k", Kind: KindImage, Platform: "metal", Format: "raw.zst", Since: fourteen},
		{Name: "metal-uki", Kind: KindUKI, Platform: "metal"},
		{Name: "installer", Kind: KindInstaller, Platform: "metal"},
		{Name: "secureboot-iso", Kind: KindISO, Platform: "metal"},
		{Name: "secureboot-metal", Kind: KindImage, Platform: "metal", Format: "raw.zst"},
		{Name: "secureboot-metal-uki", Kind: KindUKI, Platform: "metal"},
		{Name: "secureboot-installer", Kind: KindInstaller, Platform: "metal"},
		{Name: "alibabacloud", Kind: KindImage, Platform: "alibabacloud", Format: "qcow2", Since: fourteen},
	}

	for platform, format := range map[string]string{
		"akamai": "raw.gz", "aws": "raw.zst", "azure": "vhd.zst", "cloudstack": "raw.zst", "digital-ocean": "raw.gz",
		"exoscale": "qcow2.zst", "gcp": "raw.tar.gz", "hcloud": "raw.zst", "nocloud": "raw.zst", "opennebula": "raw.zst",
		"openstack": "raw.zst", "oracle": "qcow2.zst", "scaleway": "raw.zst", "upcloud": "raw.zst", "vmware": "ova",
		"vultr": "raw.zst",
	} {
		out = append(out, Profile{Name: platform, Kind: KindImage, Platform: platform, Format: format})
	}

	for _, platform := range []string{"azure", "cloudstack", "nocloud", "opennebula", "openstack", "vmware"} {
		i := slices.IndexFunc(out, func(p Profile) bool { return p.Name == platform })
		p := out[i]
		p.Name, p.Since = secureBoot+platform, fourteen
		out = append(out, p)
	}

	for i := range out {
		out[i].SecureBoot = strings.HasPrefix(out[i].Name, secureBoot)
	}

	lists.Sort(out, func(a, b Profile) int { return strings.Compare(a.Name, b.Name) })

	return out
}

// Profiles lists the profiles of a Talos version, by name.
func Profiles(v semver.Version) []Profile {
	return slices.DeleteFunc(allProfiles(), func(p Profile) bool { return !atLeast(v, p.Since) })
}

// FindProfile finds a profile by name; an unknown name is a usage error that lists the known ones.
func FindProfile(v semver.Version, name string) (Profile, error) {
	for _, p := range allProfiles() {
		if p.Name != name {
			continue
		}

		if !atLeast(v, p.Since) {
			return p, errs.Usagef("the imager of Talos v%s has no profile %q: it came with %s", v, name, p.Since)
		}

		return p, nil
	}

	return Profile{}, errs.Usagef("unknown imager profile %q", name).WithHint("profiles of v%s: %s", v,
		lists.Join(Profiles(v), ", ", func(p Profile) string { return p.Name }))
}

// ParseVersion reads a Talos version, with or without its leading v.
func ParseVersion(s string) (semver.Version, error) {
	v, err := semver.Parse(strings.TrimPrefix(s, "v"))
	if err != nil {
		return v, errs.Usagef("%q is not a Talos version", s).WithHint("write it like v1.14.1; `latest` is not a version")
	}

	if v.LT(semver.MustParse("1.10.0-alpha.0")) {
		return v, errs.Usagef("Talos v%s is too old: its imager takes other arguments", v).WithHint("v1.10.0 is the oldest that works here")
	}

	return v, nil
}

// atLeast compares minor versions, so that the pre-releases of a minor count as that minor.
func atLeast(v semver.Version, since string) bool {
	if since == "" {
		return true
	}

	s := semver.MustParse(strings.TrimPrefix(since, "v"))

	return v.Major > s.Major || v.Major == s.Major && v.Minor >= s.Minor
}

// NeedsLoopDevices reports whether the imager attaches loop devices, which needs a privileged container with the host's
// /dev. Only disk images before 1.13 do (pkg/imager/out.go: buildImage; "Talos imager now supports running rootless",
// release notes of 1.13).
func NeedsLoopDevices(v semver.Version, kind Kind) bool {
	return kind == KindImage && !atLeast(v, "v1.13.0")
}

// RunsAsUser reports whether the imager runs under any user ID, so that its files belong to the caller.
func RunsAsUser(v semver.Version) bool { return atLeast(v, "v1.13.0") }

// Product is the name of the file that a profile produces for an architecture.
func (p Profile) Product(arch string) string {
	name := p.Platform + "-" + arch
	if p.SecureBoot {
		name += "-secureboot"
	}

	switch p.Kind {
	case KindISO:
		return name + ".iso"
	case KindImage:
		return name + "." + p.Format
	case KindInstaller:
		name = "installer-" + arch
		if p.SecureBoot {
			name += "-secureboot"
		}

		return name + ".tar"
	case KindUKI:
		return name + "-uki.efi"
	case KindKernel:
		return "kernel-" + arch
	case KindInitramfs:
		return "initramfs-" + name + ".xz"
	case KindCmdline:
		return "cmdline-" + name
	default:
		return name
	}
}

// ParseKind reads an output kind.
func ParseKind(s string) (Kind, error) {
	if slices.Contains(Kinds(), Kind(s)) {
		return Kind(s), nil
	}

	return "", errs.Usagef("unknown output kind %q", s).WithHint("kinds: %s", fmt.Sprint(Kinds()))
}
