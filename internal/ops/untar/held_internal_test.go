package untar

import (
	"archive/tar"
	"os"
	"strings"
	"testing"
)

// What is held in memory until the end is bounded, whatever kind of entry it is of.
func TestHeldIsBounded(t *testing.T) {
	t.Parallel()

	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}

	defer root.Close()

	for _, h := range []*tar.Header{
		{Name: "dir", Typeflag: tar.TypeDir},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "dir"},
		{Name: "device", Typeflag: tar.TypeChar},
		{Name: "holes", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"GNU.sparse.major": "1"}},
		{Name: "above/below", Typeflag: tar.TypeReg},
	} {
		u := &unpacker{root: root, source: "/", links: map[string]bool{"above": true}, read: map[string]string{}}
		if err := u.entry(h, strings.NewReader("")); err != nil {
			t.Errorf("%s: %v", h.Name, err)
		}

		u.held = maxHeld
		h.Name = strings.Replace(h.Name, "below", "again", 1)

		if err := u.entry(h, strings.NewReader("")); err == nil || !strings.Contains(err.Error(), "too many directories, links or files") {
			t.Errorf("%s is not counted: %v", h.Name, err)
		}
	}
}
