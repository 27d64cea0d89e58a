package rollout_test

import (
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/ops/rollout"
)

// FuzzWindow holds that a window that is accepted opens and closes in the course of a week, and means the same when its
// text is read again.
func FuzzWindow(f *testing.F) {
	for _, text := range []string{"", "02:00-05:00", "Sat 02:00-05:00", "Mon-Fri 22:00-04:00", "Sat,Sun 00:00-24:00", "Fri-Mon 1:2-3:4", "Sat 24:00-00:00", "x-y", "Mon- -"} {
		f.Add(text)
	}

	f.Fuzz(func(t *testing.T, text string) {
		w, err := rollout.ParseWindow(text)
		if err != nil || w == nil {
			return
		}

		again, err := rollout.ParseWindow(w.String())
		if err != nil {
			t.Fatalf("%q is written as %q: %v", text, w, err)
		}

		open := 0
		monday := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

		for minute := range 7 * 24 * 60 {
			at := monday.Add(time.Duration(minute) * time.Minute)
			if w.Open(at) != again.Open(at) {
				t.Fatalf("%q and %q differ at %s", text, w, at)
			}

			if w.Open(at) {
				open++
			}
		}

		if open == 0 {
			t.Fatalf("%q never opens", text)
		}
	})
}
