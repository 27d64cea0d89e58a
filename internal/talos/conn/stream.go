package conn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/internal/errs"
)

// ErrStop is returned by a callback to end a stream early without an error.
var ErrStop = errors.New("stream ended by its reader")

var errSilent = errors.New("silent for too long")

type receiver[M any] interface{ Recv() (M, error) }

// Terms are the limits of a stream.
type Terms struct {
	Idle  time.Duration // How long no data may come, 0 for no limit. The reader's own time does not count.
	Meter *Meter        // Counts the messages of a list, nil for a stream that is not kept.
}

// Pull opens a stream and calls fn for every message until the stream ends or fn returns ErrStop. Errors of fn, and the
// cause of a cancelled ctx, are returned unchanged.
func Pull[M any, R receiver[M]](ctx context.Context, c *Conn, op string, idle time.Duration, open func(context.Context) (R, error), fn func(M) error) error {
	err := Read(ctx, c, op, Terms{Idle: idle}, open, fn)

	cause := context.Cause(ctx)
	if err != nil && cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}

	return err
}

// List is Pull for messages that are kept as rows, within the bounds of a list. Rows before a bound or the deadline are
// worth keeping: see IsCut.
func List[M any, R receiver[M]](ctx context.Context, c *Conn, op string, open func(context.Context) (R, error), fn func(M) error) error {
	meter := &Meter{Rows: c.Pool.Options.MaxRows, Bytes: c.Pool.Options.MaxBytes}

	err := Read(ctx, c, op, Terms{Idle: c.Pool.Idle(), Meter: meter}, open, fn)
	if KindOf(err) == errs.KindTimeout && meter.rows > 0 {
		var typed *errs.Error
		if errors.As(err, &typed) {
			typed.Err = fmt.Errorf("%w: %w", typed.Err, errCut)
		}
	}

	return err
}

// Read is Pull within terms, and makes the end of ctx an error of the node too.
func Read[M any, R receiver[M]](ctx context.Context, c *Conn, op string, t Terms, open func(context.Context) (R, error), fn func(M) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	left := t.Idle

	timer := time.AfterFunc(max(t.Idle, time.Hour), func() { cancel(errSilent) })
	defer timer.Stop()

	if t.Idle > 0 {
		timer.Reset(left)
	} else {
		timer.Stop()
	}

	stream, err := open(ctx)
	if err != nil {
		return c.failStream(ctx, op, t, err)
	}

	for {
		began := time.Now()

		if t.Idle > 0 {
			timer.Reset(left)
		}

		msg, err := stream.Recv()
		timer.Stop()

		if errors.Is(err, io.EOF) {
			return nil
		}

		if err != nil {
			return c.failStream(ctx, op, t, err)
		}

		if progresses(msg) {
			left = t.Idle
		} else {
			left = max(left-time.Since(began), 1)
		}

		if t.Meter != nil {
			if err = t.Meter.Take(SizeOf(msg)); err != nil {
				return c.Exceeds(op, err)
			}
		}

		if err = fn(msg); errors.Is(err, ErrStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// failStream is Fail, with silence as a timeout.
func (c *Conn) failStream(ctx context.Context, op string, t Terms, err error) error {
	if errors.Is(context.Cause(ctx), errSilent) {
		err = c.Translate(status.Error(codes.DeadlineExceeded, fmt.Sprintf("no data came for %s", t.Idle)))
	}

	return c.Fail(op, err)
}
