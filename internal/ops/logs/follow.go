package logs

import (
	"context"
	"hash/maphash"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos"
)

// Reconnect is how a broken stream is taken up again.
type Reconnect struct {
	First, Max time.Duration // The pause before the first new attempt, and the longest.
	GiveUp     time.Duration // How long a node that answers may refuse (its service is not back) before that is final.
	Notice     func(error)   // Told once per break, unless the stream just ended.
}

// Default is for people who watch a node reboot.
func Default(notice func(error)) Reconnect {
	return Reconnect{First: 250 * time.Millisecond, Max: 3 * time.Second, GiveUp: 2 * time.Minute, Notice: notice}
}

// Follow runs attempt again whenever its stream ends or breaks in a way that a reboot explains, until ctx
// ends or the error is final. attempt calls alive when something came; a first attempt that fails before is
// final unless the connection itself broke after it stood.
func (r Reconnect) Follow(ctx context.Context, attempt func(ctx context.Context, again bool, alive func()) error) error {
	pause := r.First

	var broken time.Time

	for again := false; ; again = true {
		lived := false

		err := attempt(ctx, again, func() {
			lived = true
			pause, broken = r.First, time.Time{}
		})

		if ctx.Err() != nil {
			return context.Cause(ctx)
		}

		now := time.Now()

		switch {
		case !talos.Breaks(err):
			return err
		case !again && !lived && err != nil && !talos.Transient(err):
			return err
		case broken.IsZero():
			broken = now

			if r.Notice != nil && err != nil {
				r.Notice(err)
			}
		case err != nil && !talos.Transient(err) && now.Sub(broken) > r.GiveUp:
			return err
		}

		timer := time.NewTimer(pause)

		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()

			return context.Cause(ctx)
		}

		pause = min(pause*2, r.Max)
	}
}

// Resume finds where a log broke off. A log may begin anew with a boot, or not, and its oldest lines may be
// gone: the last line that was seen is searched for in the log as it is now, in constant memory.
type Resume struct {
	seed maphash.Seed
	last uint64
	any  bool

	scanned, known, skip int
}

// NewResume starts with nothing seen.
func NewResume() *Resume { return &Resume{seed: maphash.MakeSeed()} }

// Scan starts a search: every line of the log as it is now goes through Scanned.
func (r *Resume) Scan() { r.scanned, r.known = 0, 0 }

// Scanned looks at one line of the search.
func (r *Resume) Scanned(line []byte) {
	r.scanned++

	if r.any && maphash.Bytes(r.seed, line) == r.last {
		r.known = r.scanned
	}
}

// Again says that the log comes again from its beginning: what the search knew is dropped.
func (r *Resume) Again() { r.skip = r.known }

// Line passes a line on unless it was seen.
func (r *Resume) Line(line []byte, emit func([]byte) error) error {
	if r.skip > 0 {
		r.skip--

		return nil
	}

	r.last, r.any = maphash.Bytes(r.seed, line), true

	return emit(line)
}

// ErrNoStamps is the usage error for --since over a log without time stamps.
func ErrNoStamps(log string) error {
	return errs.Usagef("cannot apply --since: the lines of %s carry no time stamp that this program knows", log).
		WithHint("use --tail, or --filter")
}
