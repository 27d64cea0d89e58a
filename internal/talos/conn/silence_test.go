package conn

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
)

// TestSilentNode asks a node that sends nothing one question after the other: only the first one takes the whole time, and
// the node is heard again as soon as it answers.
func TestSilentNode(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		all, c, stop := gates(t, 1)
		defer stop()

		ask := func(want errs.Kind, took time.Duration) {
			t.Helper()

			began := time.Now()
			if err := hostname(t, c, 30*time.Second); KindOf(err) != want || time.Since(began) != took {
				t.Errorf("%v after %s, want %q after %s", err, time.Since(began), want, took)
			}
		}

		all[0].slow.Store(int64(time.Hour))
		all[0].mute.Store(true)
		ask(errs.KindUnreachable, 30*time.Second)
		ask(errs.KindUnreachable, silentLimit)

		var together sync.WaitGroup

		for range 3 { // one question serves all
			together.Go(func() { ask(errs.KindUnreachable, silentLimit) })
		}

		together.Wait()

		if asked := all[0].asked.Load(); asked != 1 {
			t.Errorf("it was asked %d times for what takes long, want once", asked)
		}

		all[0].mute.Store(false) // it answers, and what was asked takes an hour
		ask(errs.KindUnreachable, 30*time.Second)

		all[0].slow.Store(int64(10 * time.Second))
		ask("", 10*time.Second)
		all[0].mute.Store(true)
		ask("", 10*time.Second)
	})
}

// TestShortDeadline: a node that let a short deadline pass is not known to be silent.
func TestShortDeadline(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		all, c, stop := gates(t, 1)
		defer stop()

		all[0].slow.Store(int64(5 * time.Second))
		all[0].mute.Store(true)

		if err := hostname(t, c, time.Second); KindOf(err) != errs.KindUnreachable {
			t.Error(err)
		}

		if err := hostname(t, c, 30*time.Second); err != nil {
			t.Error(err)
		}
	})
}
