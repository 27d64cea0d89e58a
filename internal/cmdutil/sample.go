package cmdutil

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/poll"
)

// Interval adds the --interval flag of a command that measures between two readings.
func Interval(fs *Flags, p *time.Duration, zero string) {
	fs.DurationVar(p, "interval", time.Second, "measure over this time; 0 for "+zero)
	fs.NotNegative("interval")
}

// CheckInterval refuses an interval that a node's answer cannot fit in.
func CheckInterval(p *time.Duration) func(*Call) error {
	return func(c *Call) error {
		if limit := c.Timeout(); limit > 0 && *p >= limit {
			return errs.Usagef("--interval %s does not fit into --timeout %s", *p, limit).WithHint("%s", c.Again("--timeout="+(*p+limit).String()))
		}

		return nil
	}
}

// Twice reads, waits and reads again. Without an interval it reads once, and the first reading is the zero
// value. The time between the answers is what passed, not what was asked for.
func Twice[T any](ctx context.Context, interval time.Duration, read func(context.Context) (T, error)) (before, after T, passed time.Duration, err error) {
	if interval > 0 {
		if before, err = read(ctx); err != nil {
			return before, after, 0, err
		}

		start := time.Now()

		if err = poll.Pause(ctx, interval); err != nil {
			return before, after, 0, err
		}

		after, err = read(ctx)

		return before, after, time.Since(start), err
	}

	after, err = read(ctx)

	return before, after, 0, err
}
