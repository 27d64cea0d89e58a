package talos

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

// terms are the limits of a stream.
type terms struct {
	idle  time.Duration // How long no data may come, 0 for no limit. The reader's own time does not count.
	meter *Meter        // Counts the messages of a list, nil for a stream that is not kept.
}

// pull opens a stream and calls fn for every message until the stream ends or fn returns ErrStop. Errors of fn, and the
// cause of a cancelled ctx, are returned unchanged.
func pull[M any, R receiver[M]](ctx context.Context, n *Node, op string, idle time.Duration, open func(context.Context) (R, error), fn func(M) error) error {
	err := read(ctx, n, op, terms{idle: idle}, open, fn)

	cause := context.Cause(ctx)
	if err != nil && cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}

	return err
}

// list is pull for messages that are kept as rows, within the bounds of a list. Rows before a bound or the deadline are
// worth keeping: see IsCut.
func list[M any, R receiver[M]](ctx context.Context, n *Node, op string, open func(context.Context) (R, error), fn func(M) error) error {
	meter := &Meter{Rows: n.cluster.Options.MaxRows, Bytes: n.cluster.Options.MaxBytes}

	err := read(ctx, n, op, terms{idle: n.cluster.Idle(), meter: meter}, open, fn)
	if KindOf(err) == errs.KindTimeout && meter.rows > 0 {
		var typed *errs.Error
		if errors.As(err, &typed) {
			typed.Err = fmt.Errorf("%w: %w", typed.Err, errCut)
		}
	}

	return err
}

func read[M any, R receiver[M]](ctx context.Context, n *Node, op string, t terms, open func(context.Context) (R, error), fn func(M) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	left := t.idle

	timer := time.AfterFunc(max(t.idle, time.Hour), func() { cancel(errSilent) })
	defer timer.Stop()

	if t.idle > 0 {
		timer.Reset(left)
	} else {
		timer.Stop()
	}

	stream, err := open(ctx)
	if err != nil {
		return n.failStream(ctx, op, t, err)
	}

	for {
		began := time.Now()

		if t.idle > 0 {
			timer.Reset(left)
		}

		msg, err := stream.Recv()
		timer.Stop()

		if errors.Is(err, io.EOF) {
			return nil
		}

		if err != nil {
			return n.failStream(ctx, op, t, err)
		}

		if progresses(msg) {
			left = t.idle
		} else {
			left = max(left-time.Since(began), 1)
		}

		if t.meter != nil {
			if err = t.meter.Take(sizeOf(msg)); err != nil {
				return n.tooMuch(op, err)
			}
		}

		if err = fn(msg); errors.Is(err, ErrStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// failStream is fail, with silence as a timeout.
func (n *Node) failStream(ctx context.Context, op string, t terms, err error) error {
	if errors.Is(context.Cause(ctx), errSilent) {
		err = translate(status.Error(codes.DeadlineExceeded, fmt.Sprintf("no data came for %s", t.idle)),
			n.cluster.circumstances(n.conn.label, n.conn.answered.Load()))
	}

	return n.fail(op, err)
}

// Idle is how long a node may be silent in a stream that ends on its own: the read timeout.
func (c *Cluster) Idle() time.Duration { return c.Options.Timeout }

// EachStream is Each for streams: without a deadline on the whole call, since its length depends on the data. With
// together all targets are asked at once, which followers need; otherwise up to the cluster's concurrency.
func EachStream[T any](ctx context.Context, c *Cluster, targets []Target, together bool, fn func(context.Context, *Node) (T, error)) []Outcome[T] {
	limit := c.Options.Concurrency
	if together {
		limit = len(targets)
	}

	return fanOut(targets, limit, func(t Target, out *Outcome[T]) {
		out.Value, out.Err = safely(ctx, c.Node(t), fn)
	})
}

// Breaks reports whether a stream ended in a way that a reboot or a lost connection explains, so that following can
// continue. Errors that would occur again are final.
func Breaks(err error) bool {
	if err == nil || Transient(err) {
		return true
	}

	switch KindOf(err) { //nolint:exhaustive // the others may pass: a service is not there yet while a node boots
	case errs.KindPermissionDenied, errs.KindUnauthenticated, errs.KindNoForwarding, errs.KindInvalid, errs.KindNotFound,
		errs.KindUnimplemented, errs.KindUsage:
		return false
	case "":
		return false // not from a node: our own write failed
	default:
		return true
	}
}
