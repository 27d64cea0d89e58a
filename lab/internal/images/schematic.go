package images

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Schematic is the input of an Image Factory for an image.
type Schematic struct {
	Extensions []Extension
}

// Extension is an official system extension.
type Extension struct {
	Name        string
	Version     string
	Author      string
	Description string
}

// Extensions are those of the simulated Image Factory, by name.
func Extensions() []Extension {
	const author = "Sidero Labs"

	return []Extension{
		{"gvisor", "20260810.0", author, "This system extension provides gVisor using containerd's runtime handler."},
		{"iscsi-tools", "v0.2.0", author, "This system extension provides iscsi-tools."},
		{"multipath-tools", "v0.1.0", author, "This system extension provides multipath-tools."},
		{"qemu-guest-agent", "10.2.0", author, "This system extension provides the QEMU Guest Agent service."},
		{"tailscale", "1.96.2", author, "This system extension provides Tailscale."},
		{"util-linux-tools", "2.41.2", author, "This system extension provides Util Linux Tools."},
	}
}

// NewSchematic makes the schematic with the named extensions.
func NewSchematic(names ...string) (Schematic, error) {
	var s Schematic

	for _, name := range names {
		i := slices.IndexFunc(Extensions(), func(e Extension) bool { return e.Name == strings.TrimPrefix(name, "siderolabs/") })
		if i < 0 {
			return s, fmt.Errorf("the lab's Image Factory has no extension %q", name)
		}

		s.Extensions = append(s.Extensions, Extensions()[i])
	}

	slices.SortFunc(s.Extensions, func(a, b Extension) int { return strings.Compare(a.Name, b.Name) })
	s.Extensions = slices.Compact(s.Extensions)

	return s, nil
}

// FindSchematic finds the schematic with an ID. Every set of the known extensions is registered; the content of any
// other ID is unknown to the lab.
func FindSchematic(id string) (Schematic, bool) {
	all := Extensions()

	for set := range 1 << len(all) {
		var s Schematic

		for i, e := range all {
			if set&(1<<i) != 0 {
				s.Extensions = append(s.Extensions, e)
			}
		}

		if s.ID() == id {
			return s, true
		}
	}

	return Schematic{}, false
}

// YAML is the canonical text, which the factory writes into the image and hashes (image-factory,
// pkg/schematic/schematic.go).
func (s Schematic) YAML() string {
	if len(s.Extensions) == 0 {
		return "customization: {}\n"
	}

	var out strings.Builder

	out.WriteString("customization:\n    systemExtensions:\n        officialExtensions:\n")

	for _, e := range s.Extensions {
		out.WriteString("            - siderolabs/" + e.Name + "\n")
	}

	return out.String()
}

// ID is the SHA-256 of the text.
func (s Schematic) ID() string {
	sum := sha256.Sum256([]byte(s.YAML()))

	return hex.EncodeToString(sum[:])
}
