package talos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/internal/errs"
)

// ErrStop is what a callback returns to end a stream early: it has seen enough, and that is no failure.
var ErrStop = errors.New("stream ended by its reader")

var errSilent = errors.New("silent for too long")

type receiver[M any] interface{ Recv() (M, error) }

// pull opens a stream and calls fn for every message until the stream ends well or fn returns ErrStop. idle
// bounds how long the node may be silent, 0 for ever; the time that fn takes does not count. fn's own errors
// are returned as they are.
func pull[M any, R receiver[M]](ctx context.Context, n *Node, op string, idle time.Duration, open func(context.Context) (R, error), fn func(M) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	timer := time.AfterFunc(max(idle, time.Hour), func() { cancel(errSilent) })
	defer timer.Stop()

	arm := func() {
		if idle > 0 {
			timer.Reset(idle)
		} else {
			timer.Stop()
		}
	}

	arm()

	stream, err := open(ctx)
	if err != nil {
		return n.failStream(ctx, op, idle, err)
	}

	for {
		arm()

		msg, err := stream.Recv()
		timer.Stop()

		if errors.Is(err, io.EOF) {
			return nil
		}

		if err != nil {
			return n.failStream(ctx, op, idle, err)
		}

		if err = fn(msg); errors.Is(err, ErrStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// failStream is fail with the cause of a cancellation: silence is a timeout, an interrupt stays one.
func (n *Node) failStream(ctx context.Context, op string, idle time.Duration, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errSilent):
		err = translate(status.Error(codes.DeadlineExceeded, fmt.Sprintf("nothing came for %s", idle)),
			n.cluster.circumstances(n.conn.label, n.conn.answered.Load()))
	case cause != nil:
		return cause
	}

	return n.fail(op, err)
}

// Idle is how long a node may be silent in a stream that ends by itself: the read timeout.
func (c *Cluster) Idle() time.Duration { return c.Options.Timeout }

// EachStream is Each for streams: no deadline on the whole call, since its length depends on the data. With
// together every target is asked at once, as followers must be; else up to the cluster's concurrency.
func EachStream[T any](ctx context.Context, c *Cluster, targets []Target, together bool, fn func(context.Context, *Node) (T, error)) []Outcome[T] {
	out := make([]Outcome[T], len(targets))

	limit := c.Options.Concurrency
	if together {
		limit = max(len(targets), 1)
	}

	slots := make(chan struct{}, limit)

	var wg sync.WaitGroup

	for i, t := range targets {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()

			out[i].Target = t
			out[i].Value, out[i].Err = fn(ctx, c.Node(t))
		})
	}

	wg.Wait()

	return out
}

// Breaks says whether a stream's error is the kind that a reboot or a lost connection gives: worth following
// on. Everything that asking again cannot mend is final.
func Breaks(err error) bool {
	if err == nil || Transient(err) {
		return true
	}

	switch KindOf(err) { //nolint:exhaustive // the rest may pass: a service is not there yet while a node boots
	case errs.KindPermissionDenied, errs.KindUnauthenticated, errs.KindNoForwarding, errs.KindInvalid, errs.KindNotFound,
		errs.KindUnimplemented, errs.KindUsage:
		return false
	case "":
		return false // not from a node: our own writing failed
	default:
		return true
	}
}
