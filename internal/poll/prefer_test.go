package poll_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/poll"
)

func TestPrefer(t *testing.T) {
	t.Parallel()

	way := func(after time.Duration, err error) func(context.Context) error {
		return func(ctx context.Context) error { return errors.Join(poll.Pause(ctx, after), err) }
	}

	bad := errors.New("bad")

	for name, tt := range map[string]struct {
		first, second func(context.Context) error
		want          int
		took          time.Duration
	}{
		"both, the first at once":         {way(0, nil), way(time.Second, nil), 0, 0},
		"both, the first a little later":  {way(400*time.Millisecond, nil), way(0, nil), 0, 400 * time.Millisecond},
		"both, the first too late":        {way(time.Minute, nil), way(time.Second, nil), 1, 1500 * time.Millisecond},
		"only the second":                 {way(0, bad), way(time.Second, nil), 1, time.Second},
		"only the second, and it is fast": {way(100*time.Millisecond, bad), way(0, nil), 1, 100 * time.Millisecond},
		"only the first":                  {way(time.Minute, nil), way(0, bad), 0, time.Minute},
		"neither":                         {way(time.Second, bad), way(0, bad), -1, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				if got := poll.Prefer(t.Context(), 500*time.Millisecond, tt.first, tt.second); got != tt.want || time.Since(began) != tt.took {
					t.Errorf("%d after %s, want %d after %s", got, time.Since(began), tt.want, tt.took)
				}
			})
		})
	}
}
