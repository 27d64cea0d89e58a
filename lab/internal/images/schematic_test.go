package images_test

import (
	"testing"

	"github.com/talosmate/talosmate/lab/internal/images"
)

// The IDs are the public factory's.
func TestSchematic(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		names []string
		id    string
	}{
		{nil, images.EmptySchematic},
		{[]string{"qemu-guest-agent"}, "ce4c980550dd2ab1b17bbf2b08801c7eb59418eafe8f279833297925d67c7515"},
		{[]string{"util-linux-tools", "siderolabs/iscsi-tools", "iscsi-tools"}, "613e1592b2da41ae5e265e8789429f22e121aab91cb4deb6bc3c0b6262961245"},
	} {
		s, err := images.NewSchematic(c.names...)
		if err != nil || s.ID() != c.id {
			t.Errorf("%v: %s, %v", c.names, s.ID(), err)
		}

		if found, ok := images.FindSchematic(c.id); !ok || found.YAML() != s.YAML() {
			t.Errorf("%s: found %+v, %v", c.id, found, ok)
		}
	}

	if _, err := images.NewSchematic("nonsense"); err == nil {
		t.Error("an unknown extension was accepted")
	}

	if _, ok := images.FindSchematic("0123"); ok {
		t.Error("an unknown schematic was found")
	}
}
