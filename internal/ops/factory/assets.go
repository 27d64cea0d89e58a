package factory

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/imager"
	"github.com/talosmate/talosmate/internal/registry"
)

// Asset is one artefact that a factory serves for a schematic.
type Asset struct {
	Kind string `json:"kind"` // iso, disk, uki, kernel, initramfs, cmdline, installer or pxe.
	Name string `json:"name"` // The file's name, or the installer's flavour.
	URL  string `json:"url"`  // Its URL; for the installer the image reference.
}

// Want selects assets.
type Want struct {
	Factory    string // The factory's URL.
	Schematic  string // The schematic's ID, empty for the stock one.
	Version    string // The Talos version.
	Platform   string // The Talos platform, metal by default.
	Arch       string // amd64 or arm64.
	SecureBoot bool
}

// AssetKinds lists the kinds in the order in which they are shown.
func AssetKinds() []string {
	return []string{"iso", "disk", "uki", "kernel", "initramfs", "cmdline", "installer", "pxe"}
}

// Assets returns the address of everything that a factory serves for a schematic. No request is made: whether the
// schematic is registered shows when an address is opened.
func Assets(w Want) ([]Asset, error) {
	u, err := url.Parse(w.Factory)
	if err != nil || u.Host == "" {
		return nil, errs.Usagef("%q is not the URL of an Image Factory", w.Factory)
	}

	v, err := imager.ParseVersion(w.Version)
	if err != nil {
		return nil, err
	}

	if w.Arch != "amd64" && w.Arch != "arm64" {
		return nil, errs.Usagef("unknown architecture %q, want amd64 or arm64", w.Arch)
	}

	if w.Schematic == "" {
		w.Schematic = registry.EmptySchematic
	}

	if !ValidID(w.Schematic) {
		return nil, errs.Usagef("%q is not a schematic ID: it has 64 hexadecimal digits", w.Schematic).
			WithHint("talosmate factory schematic id -f FILE")
	}

	w.Version = "v" + v.String()

	disk, err := imager.FindProfile(v, w.Platform)
	if err != nil || disk.Kind != imager.KindImage || disk.Name != disk.Platform {
		return nil, errs.Usagef("unknown Talos platform %q", w.Platform).WithHint("platforms: %s", strings.Join(Platforms(w.Version), ", "))
	}

	return w.assets(u, disk), nil
}

func (w Want) assets(u *url.URL, disk imager.Profile) []Asset {
	disk.SecureBoot = w.SecureBoot
	product := func(kind imager.Kind) string {
		p := disk
		p.Kind = kind

		return p.Product(w.Arch)
	}

	base := u.JoinPath("image", w.Schematic, w.Version)
	file := func(kind, name string) Asset { return Asset{Kind: kind, Name: name, URL: base.JoinPath(name).String()} }

	machine := w.Platform + "-" + w.Arch
	if w.SecureBoot {
		machine += "-secureboot"
	}

	out := []Asset{
		file("iso", product(imager.KindISO)), file("disk", product(imager.KindImage)), file("uki", product(imager.KindUKI)),
	}

	// With secure boot, kernel and initramfs exist only inside the signed UKI.
	if !w.SecureBoot {
		out = append(out, file("kernel", "kernel-"+w.Arch), file("initramfs", "initramfs-"+w.Arch+".xz"))
	}

	out = append(out, file("cmdline", "cmdline-"+machine))

	installer := registry.FactoryInstaller(u.Host+strings.TrimSuffix(u.Path, "/"), w.Platform, w.SecureBoot, w.Schematic, w.Version)
	out = append(out, Asset{Kind: "installer", Name: installer.Flavour, URL: installer.String()})

	// The public factory serves PXE scripts on another host name, which also serves plain HTTP.
	pxe := *u
	if pxe.Host == registry.FactoryHost {
		pxe.Host = "pxe." + pxe.Host
	}

	return append(out, Asset{Kind: "pxe", Name: machine, URL: pxe.JoinPath("pxe", w.Schematic, w.Version, machine).String()})
}

// Platforms lists the platforms of a Talos version that have disk images.
func Platforms(version string) []string {
	v, err := imager.ParseVersion(version)
	if err != nil {
		return nil
	}

	images := lists.Filter(imager.Profiles(v), func(p imager.Profile) bool { return p.Kind == imager.KindImage && p.Name == p.Platform })

	return lists.Map(images, func(p imager.Profile) string { return p.Name })
}

// ValidID reports whether a string has the form of a schematic's ID.
func ValidID(id string) bool {
	return len(id) == 64 && !slices.ContainsFunc([]byte(id), func(c byte) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'f')
	})
}

// FromNode makes the schematic from what the node reports. Nodes that were not made by a factory have none.
func FromNode(node, id, text string) (Schematic, error) {
	if id == "" {
		return Schematic{}, errs.New(errs.Failed, "cannot read the schematic of %s: the node has none", node).
			WithKind(errs.KindNotFound).WithHint("it was not installed from an Image Factory image")
	}

	if text == "" {
		return Schematic{ID: id, Node: node, Extensions: []string{}, KernelArgs: []string{}}, nil
	}

	out := Schematic{ID: id, Node: node, YAML: text, Extensions: []string{}, KernelArgs: []string{}}

	// A newer factory may have written fields that this library does not know; the text is valid anyway.
	if s, err := Parse([]byte(text)); err == nil {
		out.Overlay = s.Overlay.Name
		out.Extensions = append(out.Extensions, s.Customization.SystemExtensions.OfficialExtensions...)
		out.KernelArgs = append(out.KernelArgs, s.Customization.ExtraKernelArgs...)
	}

	// The factory writes the canonical text into the image; the ID is the hash of this text (image-factory,
	// internal/artifacts/schematic.go).
	if sum := sha256.Sum256([]byte(text)); hex.EncodeToString(sum[:]) != id {
		return out, errs.New(errs.Failed, "the schematic that %s shows has the ID %x, not %s", node, sum, id).
			WithHint("the ID is what the image was made from; do not rely on the text")
	}

	return out, nil
}
