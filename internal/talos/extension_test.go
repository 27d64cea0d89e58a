package talos

import (
	"slices"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

func TestNodeExtensionsCarryTheSchematic(t *testing.T) {
	t.Parallel()

	tools := runtime.NewExtensionStatus(runtime.NamespaceName, "0")
	tools.TypedSpec().Image = "000.ghcr.io-siderolabs-qemu"
	tools.TypedSpec().Metadata.Name, tools.TypedSpec().Metadata.Version = "qemu-guest-agent", "9.2"
	tools.TypedSpec().Metadata.Author, tools.TypedSpec().Metadata.Description = "Sidero Labs", "agent"

	schematic := runtime.NewExtensionStatus(runtime.NamespaceName, "1")
	schematic.TypedSpec().Metadata.Name, schematic.TypedSpec().Metadata.Version = SchematicExtension, "3765"

	list, err := nodeWith(t, schematic, tools).NodeExtensions(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	want := []NodeExtension{
		{
			Extension: Extension{Name: "qemu-guest-agent", Version: "9.2", Author: "Sidero Labs", Description: "agent", Image: "000.ghcr.io-siderolabs-qemu"},
			Schematic: "3765",
		},
		{Extension: Extension{Name: SchematicExtension, Version: "3765"}, Schematic: "3765"},
	}
	if !slices.Equal(list, want) {
		t.Errorf("extensions %+v", list)
	}
}

func TestDiffExtensions(t *testing.T) {
	t.Parallel()

	a, b, none := NodeRef{Node: "10.0.0.1"}, NodeRef{Node: "10.0.0.2"}, NodeRef{Node: "10.0.0.3"}
	row := func(n NodeRef, name, version string) NodeExtension {
		return NodeExtension{NodeRef: n, Extension: Extension{Name: name, Version: version}}
	}

	same := []NodeExtension{row(a, "x", "1"), row(b, "x", "1")}
	if got := DiffExtensions([]NodeRef{a, b}, same); len(got) != 0 {
		t.Errorf("equal nodes differ: %+v", got)
	}

	got := DiffExtensions([]NodeRef{a, b}, []NodeExtension{row(a, "x", "1"), row(b, "x", "2"), row(b, "y", "1"), row(a, "z", "1"), row(b, "z", "1")})
	words := []string{}

	for _, r := range got {
		words = append(words, r.Node+" "+r.Name+" "+r.Version+" "+r.Difference)
	}

	if want := []string{"10.0.0.1 x 1 version", "10.0.0.1 y  missing", "10.0.0.2 x 2 version", "10.0.0.2 y 1 extra"}; !slices.Equal(words, want) {
		t.Errorf("differences %q", words)
	}

	if got := DiffExtensions([]NodeRef{a, none}, []NodeExtension{row(a, "x", "1")}); len(got) != 2 || got[1].Difference != ExtensionMissing {
		t.Errorf("a node without any extension: %+v", got)
	}
}
