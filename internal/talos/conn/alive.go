package conn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/internal/errs"
)

const (
	// aliveEvery is the interval of the checks that a node still answers while it works on a long request.
	aliveEvery = 20 * time.Second
	// aliveMisses is how many answers in a row may be missing before the request is given up.
	aliveMisses = 4
	// requestLimit bounds a request that a node answers before it does the work.
	requestLimit = time.Minute
)

var (
	errGone    = errors.New("the node stopped answering")
	errTooLong = fmt.Errorf("the node did not finish within %s", maxWork)
)

// WhileAlive runs a request without a time limit of its own, such as an install or a pull, for as long as the node
// answers other requests on the same connection. A node that loses power does not close its connections, and neither
// does the endpoint between: TCP alone would wait for hours. ask is a small request that any node answers.
func (c *Conn) WhileAlive(ctx context.Context, op string, ask, request func(context.Context) error) error {
	watched, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	enough := time.AfterFunc(maxWork, func() { cancel(errTooLong) })
	defer enough.Stop()

	go func() {
		if watchAlive(watched, func(ctx context.Context) error {
			return errs.Safely(func() error { return ask(ctx) })
		}) {
			cancel(errGone)
		}
	}()

	err := request(watched)
	if cause := context.Cause(watched); err != nil && (errors.Is(cause, errGone) || errors.Is(cause, errTooLong)) {
		how := c.circumstances()
		how.sent, how.answered = true, true

		return c.Fail(op, translate(status.Error(codes.Unavailable, cause.Error()), how))
	}

	return err
}

// Bounded limits the time of a stream that is a short answer, if its caller set no deadline, as Conn.limited does for
// calls.
func Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}

	return context.WithTimeout(ctx, requestLimit)
}

// watchAlive asks the node until ctx ends (false) or aliveMisses answers in a row are missing (true). An error from the
// node counts as an answer.
func watchAlive(ctx context.Context, ask func(context.Context) error) bool {
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()

	for missed := 0; missed < aliveMisses; {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}

		asking, cancel := context.WithTimeout(ctx, aliveEvery)
		err := ask(asking)

		cancel()

		if ctx.Err() != nil {
			return false
		}

		if Transient(err) {
			missed++
		} else {
			missed = 0
		}
	}

	return true
}
