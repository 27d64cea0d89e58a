// Package poll waits for a time, for a condition that it checks repeatedly, or for the first of two ways to answer.
package poll

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrDeadline is wrapped by the error of a wait whose deadline passed. That error names what was waited for and the
// last observation.
var ErrDeadline = errors.New("deadline passed")

// Probe observes once. done ends the wait, an error ends it as a failure, and saw describes the observation for the
// message when the deadline passes.
type Probe func(context.Context) (done bool, saw string, err error)

// Until calls the probe every interval until it is done, fails, or the deadline passes. If ctx ends, Until returns its
// cause, never success.
func Until(ctx context.Context, what string, every, deadline time.Duration, probe Probe) error {
	waitCtx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()

	timer := time.NewTimer(0)
	defer timer.Stop()

	last := "nothing"

	for {
		select {
		case <-timer.C:
		case <-waitCtx.Done():
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}

			return fmt.Errorf("waited %s for %s: %w; last seen: %s", deadline, what, ErrDeadline, last)
		}

		done, saw, err := probe(waitCtx)

		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case done:
			return nil
		case saw != "" && waitCtx.Err() == nil: // a probe that the deadline cut off says less than the one before
			last = saw
		}

		timer.Reset(every)
	}
}
