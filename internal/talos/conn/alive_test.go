package conn

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func TestWatchAlive(t *testing.T) {
	t.Parallel()

	silent := &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Err: errors.New("no answer")}

	for name, c := range map[string]struct {
		answers []error // The last one for ever.
		gone    bool
		after   time.Duration
	}{
		"there all the time":         {answers: []error{nil}},
		"it refuses, but it answers": {answers: []error{errors.New("no such call")}},
		"away for a moment":          {answers: []error{nil, silent, silent, silent, nil}},
		"gone":                       {answers: []error{nil, silent}, gone: true, after: 5 * aliveEvery},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()

				started, asked := time.Now(), 0

				gone := watchAlive(ctx, func(context.Context) error {
					asked++

					return c.answers[min(asked, len(c.answers))-1]
				})
				if gone != c.gone || (gone && time.Since(started) != c.after) {
					t.Errorf("gone %v after %s", gone, time.Since(started))
				}
			})
		})
	}
}

func TestWhileAliveBlamesTheNode(t *testing.T) {
	t.Parallel()

	p := emptyPool(t)

	synctest.Test(t, func(t *testing.T) {
		// Without a connection every question fails at once.
		down := translate(status.Error(codes.Unavailable, "no answer"), circumstances{})
		n := p.Over(target.Target{Address: "10.0.0.1"}, nil, down)

		err := n.WhileAlive(t.Context(), "install x", func(context.Context) error { return down }, func(ctx context.Context) error {
			<-ctx.Done()

			return n.Fail("install x", translate(ctx.Err(), circumstances{}))
		})
		if !Transient(err) || errs.ExitCode(err) != errs.Unknown || err.Error() != "cannot install x on 10.0.0.1: the node stopped answering" {
			t.Errorf("%v", err)
		}
	})
}

func TestBounded(t *testing.T) {
	t.Parallel()

	ctx, cancel := Bounded(t.Context())
	defer cancel()

	if _, has := ctx.Deadline(); !has {
		t.Error("no end")
	}

	long, stop := context.WithTimeout(t.Context(), time.Hour)
	defer stop()

	ctx, cancel2 := Bounded(long)
	defer cancel2()

	if at, _ := ctx.Deadline(); time.Until(at) < 50*time.Minute {
		t.Error("the caller's own end is gone")
	}
}
