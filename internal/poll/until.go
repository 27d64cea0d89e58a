// Package poll waits: for a time, for a condition that is looked up again and again, for the first of two ways.
package poll

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrDeadline is what a wait ends with when its deadline passes first. The error that wraps it says what
// was waited for and what was seen last.
var ErrDeadline = errors.New("deadline passed")

// Probe looks once. done ends the wait; an error that is not nil ends it as a failure; saw is what it saw,
// for the message when the deadline passes.
type Probe func(context.Context) (done bool, saw string, err error)

// Until probes at every interval until the probe is done, fails, or the deadline passes. An ended ctx is
// returned as its cause and never as success.
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
		case saw != "":
			last = saw
		}

		timer.Reset(every)
	}
}
