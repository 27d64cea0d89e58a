package factory_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/siderolabs/image-factory/pkg/schematic"

	"github.com/talosmate/talosmate/internal/ops/factory"
	"github.com/talosmate/talosmate/internal/registry"
)

// Made of flags, read from YAML, or put together with the library's own types: one ID. The constants pin the
// library's answer, so that a new version of it cannot change IDs unnoticed; the first two are known to the
// public factory.
func TestSchematicIDs(t *testing.T) {
	t.Parallel()

	official := func(names ...string) schematic.SystemExtensions {
		return schematic.SystemExtensions{OfficialExtensions: names}
	}

	for label, c := range map[string]struct {
		flags factory.Customization
		yaml  string
		want  schematic.Schematic
		id    string
	}{
		"empty": {yaml: "customization: {}\n", id: registry.EmptySchematic},
		"one extension": {
			factory.Customization{Extensions: []string{"qemu-guest-agent"}},
			"customization:\n  systemExtensions:\n    officialExtensions:\n      - siderolabs/qemu-guest-agent\n",
			schematic.Schematic{Customization: schematic.Customization{SystemExtensions: official("siderolabs/qemu-guest-agent")}},
			"ce4c980550dd2ab1b17bbf2b08801c7eb59418eafe8f279833297925d67c7515",
		},
		"two extensions": {
			factory.Customization{Extensions: []string{"util-linux-tools", "siderolabs/iscsi-tools", "iscsi-tools"}},
			"customization: {systemExtensions: {officialExtensions: [siderolabs/iscsi-tools, siderolabs/util-linux-tools]}}",
			schematic.Schematic{Customization: schematic.Customization{SystemExtensions: official("siderolabs/iscsi-tools", "siderolabs/util-linux-tools")}},
			"613e1592b2da41ae5e265e8789429f22e121aab91cb4deb6bc3c0b6262961245",
		},
		"kernel arguments": {
			factory.Customization{KernelArgs: []string{"net.ifnames=0", "console=ttyS0"}},
			"customization: {extraKernelArgs: [net.ifnames=0, console=ttyS0]}",
			schematic.Schematic{Customization: schematic.Customization{ExtraKernelArgs: []string{"net.ifnames=0", "console=ttyS0"}}},
			"",
		},
		"kernel arguments, other order": {
			factory.Customization{KernelArgs: []string{"console=ttyS0", "net.ifnames=0"}},
			"customization: {extraKernelArgs: [console=ttyS0, net.ifnames=0]}",
			schematic.Schematic{Customization: schematic.Customization{ExtraKernelArgs: []string{"console=ttyS0", "net.ifnames=0"}}},
			"",
		},
		"meta": {
			factory.Customization{Meta: []string{"0xc=b", "0xa=a=1"}},
			"customization: {meta: [{key: 10, value: a=1}, {key: 12, value: b}]}",
			schematic.Schematic{Customization: schematic.Customization{Meta: []schematic.MetaValue{{Key: 10, Value: "a=1"}, {Key: 12, Value: "b"}}}},
			"",
		},
		"secure boot": {
			factory.Customization{WellKnownCerts: true},
			"customization: {secureboot: {includeWellKnownCertificates: true}}",
			schematic.Schematic{Customization: schematic.Customization{SecureBoot: schematic.SecureBootCustomization{IncludeWellKnownCertificates: true}}},
			"",
		},
		"overlay": {
			factory.Customization{OverlayName: "rpi_generic", OverlayImage: "siderolabs/sbc-raspberrypi"},
			"overlay: {image: siderolabs/sbc-raspberrypi, name: rpi_generic}\ncustomization: {}",
			schematic.Schematic{Overlay: schematic.Overlay{Name: "rpi_generic", Image: "siderolabs/sbc-raspberrypi"}},
			"",
		},
		"overlay with options": {
			factory.Customization{OverlayName: "rpi_generic", OverlayImage: "siderolabs/sbc-raspberrypi", OverlayOptions: map[string]string{"b": "2", "a": "x"}},
			"overlay: {image: siderolabs/sbc-raspberrypi, name: rpi_generic, options: {a: x, b: \"2\"}}\ncustomization: {}",
			schematic.Schematic{Overlay: schematic.Overlay{Name: "rpi_generic", Image: "siderolabs/sbc-raspberrypi", Options: map[string]any{"a": "x", "b": "2"}}},
			"",
		},
		"extension and argument": {
			factory.Customization{Extensions: []string{"gvisor"}, KernelArgs: []string{"mitigations=off"}},
			"customization: {extraKernelArgs: [mitigations=off], systemExtensions: {officialExtensions: [siderolabs/gvisor]}}",
			schematic.Schematic{Customization: schematic.Customization{ExtraKernelArgs: []string{"mitigations=off"}, SystemExtensions: official("siderolabs/gvisor")}},
			"",
		},
		"everything": {
			factory.Customization{
				Extensions: []string{"zfs"}, KernelArgs: []string{"a"}, Meta: []string{"10=x"}, WellKnownCerts: true,
				OverlayName: "o", OverlayImage: "siderolabs/i",
			},
			"overlay: {image: siderolabs/i, name: o}\ncustomization: {extraKernelArgs: [a], meta: [{key: 10, value: x}], " +
				"systemExtensions: {officialExtensions: [siderolabs/zfs]}, secureboot: {includeWellKnownCertificates: true}}",
			schematic.Schematic{
				Overlay: schematic.Overlay{Name: "o", Image: "siderolabs/i"},
				Customization: schematic.Customization{
					ExtraKernelArgs: []string{"a"}, Meta: []schematic.MetaValue{{Key: 10, Value: "x"}}, SystemExtensions: official("siderolabs/zfs"),
					SecureBoot: schematic.SecureBootCustomization{IncludeWellKnownCertificates: true},
				},
			},
			"",
		},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()

			want, err := c.want.ID()
			if err != nil {
				t.Fatal(err)
			}

			if c.id != "" && c.id != want {
				t.Errorf("the library says %s, want %s", want, c.id)
			}

			made, err := factory.Make(c.flags)
			if err != nil {
				t.Fatal(err)
			}

			parsed, err := factory.Parse([]byte(c.yaml))
			if err != nil {
				t.Fatal(err)
			}

			for source, s := range map[string]schematic.Schematic{"flags": made, "file": parsed} {
				if got, err := factory.Describe(s); err != nil || got.ID != want {
					t.Errorf("from %s: %s, %v, want %s", source, got.ID, err, want)
				}
			}

			text, err := parsed.Marshal()
			if err != nil {
				t.Fatal(err)
			}

			node, err := factory.FromNode("n1", want, string(text))
			if err != nil || node.ID != want || node.Node != "n1" || node.YAML != string(text) {
				t.Errorf("from a node: %+v, %v", node, err)
			}
		})
	}
}

func TestMakeRefuses(t *testing.T) {
	t.Parallel()

	for label, c := range map[string]factory.Customization{
		"a version":              {Extensions: []string{"zfs:2.4.1"}},
		"an empty name":          {Extensions: []string{""}},
		"meta without a value":   {Meta: []string{"10"}},
		"a big meta key":         {Meta: []string{"256=x"}},
		"overlay without image":  {OverlayName: "x"},
		"image without overlay":  {OverlayImage: "x"},
		"options but no overlay": {OverlayOptions: map[string]string{"a": "b"}},
	} {
		if _, err := factory.Make(c); err == nil {
			t.Errorf("%s was accepted", label)
		}
	}

	if _, err := factory.Parse([]byte("customization:\n  extensions: [x]\n")); err == nil {
		t.Error("an unknown key was accepted")
	}

	if _, err := factory.FromNode("n1", "", ""); err == nil {
		t.Error("a node without a schematic has one")
	}

	// What a newer factory knows passes through as long as the hash is right.
	newer := "customization:\n    somethingNew: true\n"
	id := fmt.Sprintf("%x", sha256.Sum256([]byte(newer)))

	if got, err := factory.FromNode("n1", id, newer); err != nil || got.YAML != newer || got.ID != id {
		t.Errorf("an unknown field: %+v, %v", got, err)
	}

	if _, err := factory.FromNode("n1", strings.Repeat("0", 64), "customization: {}\n"); err == nil {
		t.Error("an ID that does not fit its YAML was accepted")
	}
}
