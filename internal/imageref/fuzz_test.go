package imageref_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/imageref"
)

// FuzzReference holds that the parts of a reference make the reference again, and that a full spelling is its own.
func FuzzReference(f *testing.F) {
	for _, reference := range []string{
		"", "nginx", "nginx:1", "[::1]:5000/a:b", "ghcr.io/x/y:v1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "sha256:00", "a@", ":@", "a:b@c@d", "../a", "a:1@",
	} {
		f.Add(reference)
	}

	f.Fuzz(func(t *testing.T, reference string) {
		parts := imageref.Split(reference)

		again := parts.Repository
		if parts.Tag != "" {
			again += ":" + parts.Tag
		}

		if parts.Digest != "" {
			again += "@" + parts.Digest
		}

		if again != reference && again+"@" != reference {
			t.Fatalf("%q is %+v", reference, parts)
		}

		if name := imageref.Canonical(reference); name != "" && len(name) < 250 && imageref.Canonical(name) != name { // longer ones are refused
			t.Fatalf("%q is %q, which is %q", reference, name, imageref.Canonical(name))
		}
	})
}
