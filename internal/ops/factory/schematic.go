// Package factory works with Siderolabs' Image Factory: it computes schematic IDs offline with the factory's
// own library, registers schematics, and knows the URL of every asset.
package factory

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/siderolabs/image-factory/pkg/schematic"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/lists"
)

// Customization is the content of a schematic that is not read from a file.
type Customization struct {
	Extensions     []string          // Names, siderolabs/NAME or just NAME for the official ones.
	KernelArgs     []string          // In order: the order is part of the ID.
	Meta           []string          // KEY=VALUE.
	OverlayName    string            // The overlay of a board.
	OverlayImage   string            // Its image, siderolabs/sbc-raspberrypi.
	OverlayOptions map[string]string // Its options.
	WellKnownCerts bool              // Enroll Microsoft's certificates too, for secure boot.
}

// Schematic is a schematic with its ID.
type Schematic struct {
	ID         string   `json:"id"`                // The ID: the SHA-256 of the canonical YAML.
	Extensions []string `json:"extensions"`        // The official extensions in it, never null.
	KernelArgs []string `json:"kernel_args"`       // The extra kernel arguments in it, never null.
	Overlay    string   `json:"overlay,omitempty"` // The overlay's name.
	YAML       string   `json:"yaml,omitempty"`    // The canonical YAML, as it is hashed; empty where only the ID is known.
	Node       string   `json:"node,omitempty"`    // The node it was read from.
	Created    bool     `json:"created"`           // Whether it was registered at a factory.
	Factory    string   `json:"factory,omitempty"` // That factory's URL.
}

// ErrUnknownFields marks a schematic with fields that this program does not know. A factory may know them.
var ErrUnknownFields = errors.New("fields that this program does not know")

// Parse reads a schematic file as the factory reads it: unknown keys are errors (ErrUnknownFields).
func Parse(data []byte) (schematic.Schematic, error) {
	if err := foreign.Check(data); err != nil {
		return schematic.Schematic{}, errs.Usagef("cannot read the schematic: %w", err)
	}

	if len(bytes.TrimSpace(data)) == 0 {
		return schematic.Schematic{}, errs.Usagef("the schematic is empty").WithHint("the schematic without customization is {}")
	}

	s, err := schematic.Unmarshal(data)

	var lenient schematic.Schematic
	if fields := unknownFields(err); len(fields) > 0 && foreign.YAML(data, &lenient) == nil {
		return lenient, errs.Usagef("cannot compute the schematic's ID: it has %w: %s", ErrUnknownFields, strings.Join(fields, ", ")).
			WithHint("talosmate factory schematic create -f FILE")
	}

	if err != nil {
		return schematic.Schematic{}, errs.Usagef("cannot read the schematic: %w", err)
	}

	return *s, nil
}

// unknownFields names the fields that a decoder does not know, each with its line; nil if anything else is wrong too.
func unknownFields(err error) []string {
	var (
		all   *yaml.LoadErrors
		names []string
	)

	if !errors.As(err, &all) {
		return nil
	}

	for _, e := range all.Errors {
		name, rest, found := strings.Cut(strings.TrimPrefix(e.Message, "field "), " not found")
		if !found || strings.Contains(name, " ") || rest == "" {
			return nil
		}

		names = append(names, fmt.Sprintf("%s (line %d)", name, e.Mark.Line))
	}

	return names
}

// Make composes a schematic. Extensions are sorted and unique, so that the same set has one ID.
func Make(c Customization) (schematic.Schematic, error) {
	var s schematic.Schematic

	for _, e := range c.Extensions {
		switch {
		case e == "" || strings.ContainsAny(e, ":@ "):
			return s, errs.Usagef("%q is not the name of an official extension", e).
				WithHint("a schematic names extensions without a version: the factory takes the one of the Talos release")
		case !strings.Contains(e, "/"):
			e = "siderolabs/" + e
		}

		s.Customization.SystemExtensions.OfficialExtensions = append(s.Customization.SystemExtensions.OfficialExtensions, e)
	}

	slices.Sort(s.Customization.SystemExtensions.OfficialExtensions)
	s.Customization.SystemExtensions.OfficialExtensions = slices.Compact(s.Customization.SystemExtensions.OfficialExtensions)
	s.Customization.ExtraKernelArgs = c.KernelArgs
	s.Customization.SecureBoot.IncludeWellKnownCertificates = c.WellKnownCerts

	for _, m := range c.Meta {
		key, value, ok := strings.Cut(m, "=")

		number, err := strconv.ParseUint(key, 0, 8)
		if !ok || err != nil {
			return s, errs.Usagef("META value %q is not KEY=VALUE with a key up to 0xff", m)
		}

		s.Customization.Meta = append(s.Customization.Meta, schematic.MetaValue{Key: uint8(number), Value: value})
	}

	lists.Sort(s.Customization.Meta, func(a, b schematic.MetaValue) int { return cmp.Compare(a.Key, b.Key) })

	if (c.OverlayName == "") != (c.OverlayImage == "") {
		return s, errs.Usagef("an overlay needs a name and an image").WithHint("talosmate imager overlays")
	}

	if c.OverlayName == "" {
		if len(c.OverlayOptions) > 0 {
			return s, errs.Usagef("overlay options without an overlay")
		}

		return s, nil
	}

	s.Overlay.Name, s.Overlay.Image = c.OverlayName, c.OverlayImage

	for _, key := range slices.Sorted(maps.Keys(c.OverlayOptions)) {
		if s.Overlay.Options == nil {
			s.Overlay.Options = map[string]any{}
		}

		s.Overlay.Options[key] = c.OverlayOptions[key]
	}

	return s, nil
}

// Describe computes the ID and describes the content of a schematic.
func Describe(s schematic.Schematic) (Schematic, error) {
	text, err := s.Marshal()
	if err != nil {
		return Schematic{}, errs.New(errs.Failed, "cannot write the schematic: %w", err)
	}

	id, err := s.ID()
	if err != nil {
		return Schematic{}, errs.New(errs.Failed, "cannot compute the schematic's ID: %w", err)
	}

	out := describe(s)
	out.ID, out.YAML = id, string(text)

	return out, nil
}

func describe(s schematic.Schematic) Schematic {
	return Schematic{
		Overlay:    s.Overlay.Name,
		Extensions: append([]string{}, s.Customization.SystemExtensions.OfficialExtensions...),
		KernelArgs: append([]string{}, s.Customization.ExtraKernelArgs...),
	}
}
