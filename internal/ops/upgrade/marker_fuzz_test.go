package upgrade_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/ops/upgrade"
)

// FuzzMarker holds that the annotation of a node, whoever wrote it, is a marker that reads the same again, or none.
func FuzzMarker(f *testing.F) {
	for _, text := range []string{"", "{}", "null", `{"image":"a","phase":"installed","time":"2026-11-23T00:00:00Z"}`, `{"time":"x"}`, `[]`, `{"unmet":["\u001b[2J"]}`, "{\"image\":{}}"} {
		f.Add(text)
	}

	f.Fuzz(func(t *testing.T, text string) {
		m, ok := upgrade.ParseMarker(text)
		if !ok {
			return
		}

		again, ok := upgrade.ParseMarker(m.String())
		if !ok || again.String() != m.String() {
			t.Fatalf("%q: %s, then %v %s", text, m, ok, again)
		}
	})
}
