// Package runbook holds what every operation that changes something shares.
package runbook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

const (
	// AnswerWithin is how long a node may take to answer a request that it answers before it does the work.
	AnswerWithin = time.Minute
	// ShownWithin is how long a request whose answer was lost may take to show in the state of the node. A node that
	// took a request to reboot, shut down or reset shows that at once: machined starts the sequence with the answer,
	// and the machine's stage follows its first event (Talos,
	// internal/app/machined/pkg/controllers/runtime/machine_status.go). While its stage is running no other sequence
	// holds the new one up.
	ShownWithin = 30 * time.Second
)

// Answer is how a request that changes something ended.
type Answer int

// The answers.
const (
	NotSent  Answer = iota // It never left: the run had ended, or no connection could be made.
	Accepted               // The node took it.
	Rejected               // The node did not take it, and said so.
	Lost                   // It was sent, and no answer came: whether it was carried out is open.
)

// Request is one change, sent at most once.
type Request struct {
	Limit time.Duration // How long to wait for the answer; 0 for as long as the context lives.
	Begin func()        // Called right before it is sent; nil for nothing.
	Send  func(context.Context) error
}

// Sent is a request with its end.
type Sent struct {
	Answer Answer
	Err    error // Nil when it was accepted. The context's cause when the run ended before it was sent.
}

// Heard reports whether the node answered.
func (s Sent) Heard() bool { return s.Answer == Accepted || s.Answer == Rejected }

// Once sends the request. It is never sent again: whoever gets Lost reads the state back.
func (r Request) Once(ctx context.Context) Sent {
	if ctx.Err() != nil {
		return Sent{NotSent, context.Cause(ctx)}
	}

	if r.Begin != nil {
		r.Begin()
	}

	sendCtx, cancel := context.WithCancel(ctx)
	if r.Limit > 0 {
		sendCtx, cancel = context.WithTimeout(ctx, r.Limit)
	}
	defer cancel()

	err := r.Send(sendCtx)

	switch {
	case err == nil:
		return Sent{Accepted, nil}
	case conn.Undelivered(err):
		return Sent{NotSent, err}
	case ctx.Err() != nil || sendCtx.Err() != nil || conn.Transient(err) || answerLost(err):
		return Sent{Lost, err}
	default:
		return Sent{Rejected, err}
	}
}

// answerLost reports whether an adapter says of its error that the request may have been carried out.
func answerLost(err error) bool {
	var adapter interface{ AnswerLost() bool }

	return errors.As(err, &adapter) && adapter.AnswerLost()
}

// UnknownOutcome is what an operation ends with when the answer to its request was lost, and what became of it cannot be
// read back. hint says where to look. The error names the node of cause and wraps all causes.
func UnknownOutcome(hint string, cause error, more ...error) *errs.Error {
	out := &errs.Error{Exit: errs.Unknown, Kind: errs.KindUnknownOutcome, Hint: hint, Err: cause}

	var typed *errs.Error
	if errors.As(cause, &typed) {
		out.Node, out.Hostname, out.GRPCCode = typed.Node, typed.Hostname, typed.GRPCCode
	}

	for _, err := range more {
		out.Err = fmt.Errorf("%w; reading the state back: %w", out.Err, err)
	}

	return out
}

// ReadBack looks until the state shows what the request was to do, for at most limit. When it does not, or cannot be
// read, and the answer was lost, the outcome is Unknown with the hint: a state without it proves nothing, since the
// request may still be on its way. An ended ctx is returned as its cause.
func (s Sent) ReadBack(ctx context.Context, what string, limit time.Duration, hint string, look poll.Probe) error {
	const every = time.Second / 2

	err := poll.Until(ctx, what, every, limit, look)
	if err == nil || ctx.Err() != nil {
		return err
	}

	if s.Heard() {
		return err
	}

	return UnknownOutcome(hint, s.Err, err)
}
