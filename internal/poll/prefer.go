package poll

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
)

// Prefer tries two ways at once. It returns 0 when the first works, 1 when only the second does and the first has not
// followed within headStart, and -1 when neither works. Both have ended, or their context is cancelled, when it
// returns.
func Prefer(ctx context.Context, headStart time.Duration, first, second func(context.Context) error) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	try := func(way func(context.Context) error) <-chan bool {
		worked := make(chan bool, 1)

		go func() { worked <- errs.Safely(func() error { return way(ctx) }) == nil }()

		return worked
	}

	preferred, other := try(first), try(second)

	timer := time.NewTimer(headStart)
	defer timer.Stop()

	timer.Stop()

	for {
		select {
		case ok := <-preferred:
			if ok {
				return 0
			}

			if other == nil || <-other {
				return 1
			}

			return -1
		case ok := <-other:
			other = nil

			if ok {
				timer.Reset(headStart)

				continue
			}

			if <-preferred {
				return 0
			}

			return -1
		case <-timer.C:
			return 1
		}
	}
}
