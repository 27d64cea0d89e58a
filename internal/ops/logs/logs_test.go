package logs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/logs"
)

func TestSplitterAnyChunks(t *testing.T) {
	t.Parallel()

	text := "one\ntwo\n\n" + strings.Repeat("x", 5000) + "\nlast without end"

	for size := 1; size < 300; size += 7 {
		var got bytes.Buffer

		s := logs.Splitter{Emit: func(line []byte, ended bool) error {
			got.Write(line)

			if ended {
				got.WriteByte('\n')
			}

			return nil
		}}

		for chunk := range slices.Chunk([]byte(text), size) {
			if err := s.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}

		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}

		if got.String() != text {
			t.Errorf("chunks of %d change the text", size)
		}
	}
}

func TestSplitterEndlessLine(t *testing.T) {
	t.Parallel()

	longest, total := 0, 0
	s := logs.Splitter{Emit: func(line []byte, _ bool) error {
		longest, total = max(longest, len(line)), total+len(line)

		return nil
	}}

	for range 100 {
		if err := s.Write(bytes.Repeat([]byte("x"), 100_000)); err != nil {
			t.Fatal(err)
		}
	}

	if err := s.Flush(); err != nil || longest > logs.MaxLine || total != 10_000_000 {
		t.Errorf("longest %d, total %d, %v", longest, total, err)
	}
}

func TestStamps(t *testing.T) {
	t.Parallel()

	s := logs.NewStamps(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC))

	for line, want := range map[string]string{
		`{"level":"info","ts":"2026-11-22T18:34:58.28Z","msg":"x"}`:       "2026-11-22T18:34:58.28Z",
		`{"ts":1795372498.25,"msg":"x"}`:                                  "2026-11-22T18:34:58.25Z",
		`{"ts":1795372498250.0,"msg":"x"}`:                                "2026-11-22T18:34:58.25Z",
		`time="2026-11-22T18:34:58.282428Z" level=info msg="x"`:           "2026-11-22T18:34:58.282428Z",
		`2026/11/22 18:36:35.047149 log.go:98: OK`:                        "2026-11-22T18:36:35.047149Z",
		`2026-11-22T18:36:35.047149123Z stdout F hello`:                   "2026-11-22T18:36:35.047149123Z",
		`I0101 18:36:35.047149       1 server.go:10] hello`:               "2026-01-01T18:36:35.047149Z",
		`W1231 23:00:00.000000       1 server.go:10] last year's warning`: "2025-12-31T23:00:00Z",
		`a line of a stack trace`:                                         "",
		`{"msg":"no time"}`:                                               "",
	} {
		at, ok := s.Of([]byte(line))
		if got := at.UTC().Format(time.RFC3339Nano); (want == "") == ok || (ok && got != want) {
			t.Errorf("%s: got %s %v, want %s", line, got, ok, want)
		}
	}
}

func TestParseKernel(t *testing.T) {
	t.Parallel()

	k, ok := logs.ParseKernel([]byte("kern: warning: [2026-11-22T18:34:00.5Z]: tsc: Marking TSC [unstable]: x"))
	if !ok || k.Facility != "kern" || k.Level != "warning" || k.Message != "tsc: Marking TSC [unstable]: x" || k.Time.Nanosecond() != 5e8 {
		t.Errorf("%+v %v", k, ok)
	}

	for _, line := range []string{" SUBSYSTEM=pci", "text: more", "", "kern: loud: [2026-11-22T18:34:00Z]: x", "kern: info: [now]: x"} {
		if _, ok := logs.ParseKernel([]byte(line)); ok {
			t.Errorf("%q parses", line)
		}
	}
}

func TestResume(t *testing.T) {
	t.Parallel()

	var got []string

	r := logs.NewResume()
	line := func(i int) []byte { return fmt.Appendf(nil, "line %d", i) }
	feed := func(from, to int) {
		for i := from; i <= to; i++ {
			if err := r.Line(line(i), func(l []byte) error { got = append(got, string(l)); return nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	again := func(from, to int) {
		r.Scan()

		for i := from; i <= to; i++ {
			r.Scanned(line(i))
		}

		r.Again()
		feed(from, to)
	}

	feed(8, 10)
	again(1, 12) // the log is older than what was shown

	if len(got) != 5 || got[4] != "line 12" {
		t.Errorf("after an overlap: %v", got)
	}

	again(2000, 3000) // a new boot's log: the last line seen is not in it

	if len(got) != 5+1001 {
		t.Errorf("after a reboot: %d lines", len(got))
	}

	again(2500, 3000) // nothing new

	if len(got) != 5+1001 {
		t.Errorf("without news: %d lines", len(got))
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()

	away := errs.New(errs.Unreachable, "away").WithKind(errs.KindUnreachable)
	denied := errs.New(errs.Unreachable, "denied").WithKind(errs.KindPermissionDenied)
	unknown := errs.New(errs.Failed, "log was not registered").WithKind(errs.KindFailed)
	stop := errors.New("stop")

	for name, c := range map[string]struct {
		answers []error // One per attempt.
		lives   []bool
		want    error
		tries   int
	}{
		"reboot":          {[]error{away, away, unknown, nil, denied}, []bool{true, false, false, true, false}, denied, 5},
		"denied at once":  {[]error{denied}, []bool{false}, denied, 1},
		"unknown service": {[]error{unknown}, []bool{false}, unknown, 1},
		"our own failure": {[]error{away, stop}, []bool{true, false}, stop, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tries, notices := 0, 0

				err := logs.Default(func(error) { notices++ }).Follow(t.Context(), func(_ context.Context, again bool, alive func()) error {
					defer func() { tries++ }()

					if again != (tries > 0) {
						t.Error("again is wrong")
					}

					if c.lives[tries] {
						alive()
					}

					return c.answers[tries]
				})
				if !errors.Is(err, c.want) || tries != c.tries {
					t.Errorf("%v after %d", err, tries)
				}
			})
		})
	}
}

func TestFollowGivesUpAndIsInterrupted(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		refused := errs.New(errs.Failed, "not registered").WithKind(errs.KindFailed)
		start := time.Now()

		err := logs.Default(nil).Follow(t.Context(), func(_ context.Context, again bool, alive func()) error {
			if !again {
				alive()
			}

			return refused
		})
		if took := time.Since(start); !errors.Is(err, refused) || took < 2*time.Minute || took > 3*time.Minute {
			t.Errorf("%v after %s", err, took)
		}

		ctx, cancel := context.WithCancelCause(t.Context())
		interrupted := errs.New(errs.Interrupted, "interrupted")

		time.AfterFunc(time.Hour, func() { cancel(interrupted) })

		away := errs.New(errs.Unreachable, "away").WithKind(errs.KindUnreachable)
		if err = logs.Default(nil).Follow(ctx, func(context.Context, bool, func()) error { return away }); !errors.Is(err, interrupted) {
			t.Errorf("interrupted: %v", err)
		}
	})
}
