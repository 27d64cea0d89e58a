package logs

import (
	"context"
	"hash/maphash"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// Reconnect configures how a broken stream is resumed.
type Reconnect struct {
	First, Max time.Duration // The delay before the first attempt, and the longest delay.
	GiveUp     time.Duration // How long a node that answers may refuse (its service is not back) before that is final.
	Notice     func(error)   // Called once per break, unless the stream just ended.
}

// Default is for people who watch a node reboot.
func Default(notice func(error)) Reconnect {
	return Reconnect{First: 250 * time.Millisecond, Max: 3 * time.Second, GiveUp: 2 * time.Minute, Notice: notice}
}

// Follow calls attempt again whenever its stream ends or breaks in a way that a reboot explains, until ctx ends or the
// error is final. attempt calls alive when it receives something. A first attempt that fails before that is final,
// unless an established connection broke.
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
		case !conn.Breaks(err):
			return err
		case !again && !lived && err != nil && !conn.Transient(err):
			return err
		case broken.IsZero():
			broken = now

			if r.Notice != nil && err != nil {
				r.Notice(err)
			}
		case err != nil && !conn.Transient(err) && now.Sub(broken) > r.GiveUp:
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

// Resume finds the place where a log was interrupted. A log may or may not start again at a boot, and its oldest lines
// may be gone: the last line that was seen is searched for in the present log, in constant memory.
type Resume struct {
	seed maphash.Seed
	last uint64
	any  bool

	scanned, known, skip int
}

// NewResume starts with no line seen.
func NewResume() *Resume { return &Resume{seed: maphash.MakeSeed()} }

// Scan starts a search: every line of the present log goes through Scanned.
func (r *Resume) Scan() { r.scanned, r.known = 0, 0 }

// Scanned examines one line of the search.
func (r *Resume) Scanned(line []byte) {
	r.scanned++

	if r.any && maphash.Bytes(r.seed, line) == r.last {
		r.known = r.scanned
	}
}

// Again reports that the log is read from its beginning again: the state of the search is dropped.
func (r *Resume) Again() { r.skip = r.known }

// Line passes on a line unless it was seen.
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
	return errs.Usagef("cannot apply --since: the lines of %s have no time stamp that this program knows", log).
		WithHint("use --tail, or --filter")
}
