package factory_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/factory"
)

// FuzzSchematic holds that a schematic has an ID, and the same one when it is written and read again.
func FuzzSchematic(f *testing.F) {
	for _, text := range []string{
		"", "customization: {}\n", "customization:\n  systemExtensions:\n    officialExtensions: [siderolabs/zfs]\n", "overlay: {name: rpi, image: a, options: {a: [1]}}\n", "later: 1\n", "[]", "a: &a [*a]",
		"customization: {extraKernelArgs: [null]}\n", "customization:\n  meta: [{key: 10, value: x}]\n",
	} {
		f.Add([]byte(text))
	}

	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := factory.Parse(text)
		if err != nil {
			if errs.ExitCode(err) != errs.Usage {
				t.Fatalf("exit code %d: %v", errs.ExitCode(err), err)
			}

			return
		}

		id, err := s.ID()
		if err != nil || !factory.ValidID(id) {
			t.Fatalf("%q: %v", id, err)
		}

		written, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}

		again, err := factory.Parse(written)
		if err != nil {
			t.Fatalf("%v\n%s", err, written)
		}

		if second, err := again.ID(); err != nil || second != id {
			t.Fatalf("%s and then %s: %v\n%s", id, second, err, written)
		}
	})
}
