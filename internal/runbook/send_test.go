package runbook_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/runbook"
)

type lost struct{ error }

func (lost) AnswerLost() bool { return true }

func TestOnce(t *testing.T) {
	t.Parallel()

	refused := errors.New("no")
	away := &errs.Error{Exit: errs.Unknown, Kind: errs.KindUnknownOutcome, Err: errors.New("error reading from server: EOF")}

	for _, c := range []struct {
		name   string
		send   func(context.Context) error
		cancel time.Duration // When the user interrupts; negative for before.
		want   runbook.Answer
		sent   int
	}{
		{"taken", func(context.Context) error { return nil }, 0, runbook.Accepted, 1},
		{"refused", func(context.Context) error { return refused }, 0, runbook.Rejected, 1},
		{"the connection broke", func(context.Context) error { return away }, 0, runbook.Lost, 1},
		{"an adapter knows that it was lost", func(context.Context) error { return lost{refused} }, 0, runbook.Lost, 1},
		{"no answer in time", hang, 0, runbook.Lost, 1},
		{"an answer after the time", func(ctx context.Context) error { <-ctx.Done(); return refused }, 0, runbook.Lost, 1}, //nolint:nlreturn // one line
		{"interrupted before", func(context.Context) error { return nil }, -1, runbook.NotSent, 0},
		{"interrupted while it waits", hang, time.Second, runbook.Lost, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)

				interrupted := errs.New(errs.Interrupted, "interrupted")

				switch {
				case c.cancel < 0:
					cancel(interrupted)
				case c.cancel > 0:
					time.AfterFunc(c.cancel, func() { cancel(interrupted) })
				}

				began, sent := 0, 0
				got := runbook.Request{Limit: time.Minute, Begin: func() { began++ }, Send: func(ctx context.Context) error {
					sent++

					return c.send(ctx)
				}}.Once(ctx)

				if got.Answer != c.want || sent != c.sent || began != c.sent {
					t.Errorf("answer %d, sent %d times, begun %d times: want %d, %d: %v", got.Answer, sent, began, c.want, c.sent, got.Err)
				}

				if (got.Err == nil) != (c.want == runbook.Accepted) {
					t.Errorf("error %v", got.Err)
				}

				if c.cancel < 0 && !errors.Is(got.Err, interrupted) {
					t.Errorf("the cause is missing: %v", got.Err)
				}
			})
		})
	}
}

func hang(ctx context.Context) error {
	<-ctx.Done()

	return context.Cause(ctx)
}

func TestReadBack(t *testing.T) {
	t.Parallel()

	cause := &errs.Error{Exit: errs.Timeout, Node: "10.0.0.1", GRPCCode: "DeadlineExceeded", Err: errors.New("cannot defragment etcd on 10.0.0.1: no answer")}
	shows := func(after int) func(context.Context) (bool, string, error) {
		looks := 0

		return func(context.Context) (bool, string, error) {
			looks++

			return after > 0 && looks > after, "the old state", nil
		}
	}

	for name, c := range map[string]struct {
		sent runbook.Sent
		look func(context.Context) (bool, string, error)
		code errs.Code
	}{
		"the state shows it":             {runbook.Sent{Answer: runbook.Lost, Err: cause}, shows(3), errs.OK},
		"the state never shows it":       {runbook.Sent{Answer: runbook.Lost, Err: cause}, shows(0), errs.Unknown},
		"answered, and not shown":        {runbook.Sent{Answer: runbook.Accepted}, shows(0), errs.Failed},
		"answered, and shown in a while": {runbook.Sent{Answer: runbook.Accepted}, shows(2), errs.OK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				err := c.sent.ReadBack(t.Context(), "it", runbook.ShownWithin, "look", c.look)
				if errs.ExitCode(err) != c.code {
					t.Errorf("exit code %d, want %d: %v", errs.ExitCode(err), c.code, err)
				}

				var typed *errs.Error
				if c.code == errs.Unknown && (!errors.As(err, &typed) || typed.Node != "10.0.0.1" || typed.Hint != "look" || !errors.Is(err, cause)) {
					t.Errorf("%+v", typed)
				}
			})
		})
	}
}
