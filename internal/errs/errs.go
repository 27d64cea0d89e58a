// Package errs holds the typed errors of talosmate. Each carries the exit code, a stable word for scripts, and a hint
// for people. ExitCode is the only mapping from an error to an exit code.
package errs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kballard/go-shellquote"
)

// Kind is a stable snake_case word that names a cause; it is the `code` field of an error entry.
type Kind string

// The causes that talosmate distinguishes.
const (
	KindFailed           Kind = "failed"
	KindUsage            Kind = "usage"
	KindNegative         Kind = "negative"
	KindRefused          Kind = "refused"
	KindUnreachable      Kind = "unreachable"
	KindUnauthenticated  Kind = "unauthenticated"
	KindPermissionDenied Kind = "permission_denied"
	KindNoForwarding     Kind = "no_forwarding"
	KindUnimplemented    Kind = "unimplemented"
	KindNotFound         Kind = "not_found"
	KindAlreadyExists    Kind = "already_exists"
	KindInvalid          Kind = "invalid_argument"
	KindPrecondition     Kind = "failed_precondition"
	KindTimeout          Kind = "timeout"
	KindTooMuch          Kind = "too_much"
	KindUnknownOutcome   Kind = "unknown_outcome"
	KindRolledBack       Kind = "rolled_back"
	KindLost             Kind = "lost"
	KindAnotherMachine   Kind = "another_machine"
	KindInterrupted      Kind = "interrupted"
	KindUntrusted        Kind = "untrusted" // A node sent data that must not be used.
)

// Error is an error with everything that is shown to the user.
type Error struct {
	Exit      Code   // The exit code this error alone leads to.
	Kind      Kind   // The stable word; derived from Exit when empty.
	Node      string // The node it happened on, if any.
	Hostname  string // Its hostname, if known.
	GRPCCode  string // The gRPC status name, if a server or the transport gave one.
	Gate      string // The safety gate's code (TM…) when a gate refused.
	Hint      string // What to do about it.
	Retryable bool   // Whether the same call may succeed later.
	Err       error  // The cause, phrased `cannot VERB OBJECT …: cause`.
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap implements the errors.Is and errors.As chain.
func (e *Error) Unwrap() error { return e.Err }

// New makes an error with an exit code.
func New(exit Code, format string, args ...any) *Error {
	return &Error{Exit: exit, Err: fmt.Errorf(format, args...)}
}

// Usagef makes a usage error: nothing was sent, exit code 2.
func Usagef(format string, args ...any) *Error { return New(Usage, format, args...) }

// WithHint adds what the user can do about it.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)

	return e
}

// CommandLine is one of our command lines for a hint: names that come from a node are quoted, so that a shell takes them as
// they are.
func CommandLine(words ...string) string { return "talosmate " + shellquote.Join(words...) }

// Reworded returns err with another text. A typed error keeps everything else.
func Reworded(err error, text string) error {
	var typed *Error
	if !errors.As(err, &typed) {
		return errors.New(text)
	}

	out := *typed
	out.Err = errors.New(text)

	return &out
}

// WithKind sets the stable word.
func (e *Error) WithKind(k Kind) *Error {
	e.Kind = k

	return e
}

// OnNode names the node.
func (e *Error) OnNode(node string) *Error {
	e.Node = node

	return e
}

// IsUntrusted reports whether err means that a node sent data that must not be used.
func IsUntrusted(err error) bool {
	var typed *Error

	return errors.As(err, &typed) && typed.Kind == KindUntrusted
}

// AsUsage marks an error as a usage error unless it carries a code already.
func AsUsage(err error) error {
	var typed *Error
	if err == nil || errors.As(err, &typed) {
		return err
	}

	return &Error{Exit: Usage, Err: err}
}

// Typed returns the typed error in err; an untyped one becomes a typed one of the node, keeping its exit code.
func Typed(err error, node, hostname string) *Error {
	var typed *Error
	if errors.As(err, &typed) {
		return typed
	}

	return &Error{Exit: ExitCode(err), Node: node, Hostname: hostname, Err: err}
}

// Nodes is the failure of one or more nodes out of several.
type Nodes struct {
	Errors    []*Error // One per failed node.
	Succeeded int      // How many nodes answered.
	Question  bool     // The command asks a question: a missing node makes the answer no.
}

// Error implements error: one line, naming up to three nodes.
func (n *Nodes) Error() string {
	if len(n.Errors) == 1 {
		return n.Errors[0].Error()
	}

	parts := make([]string, 0, 3)

	for _, e := range n.Errors {
		if len(parts) == 3 {
			parts = append(parts, fmt.Sprintf("and %d more", len(n.Errors)-3))

			break
		}

		parts = append(parts, e.Error())
	}

	return strings.Join(parts, "; ")
}

// Unwrap gives every node's error to errors.Is and errors.As.
func (n *Nodes) Unwrap() []error {
	out := make([]error, len(n.Errors))
	for i, e := range n.Errors {
		out[i] = e
	}

	return out
}

func (n *Nodes) exit() Code {
	switch {
	case n.Question:
		return Negative
	case n.Succeeded > 0:
		return Partial
	default:
		return worst(n.Errors)
	}
}

// worst picks the code when every node failed: the common one, or the first in the order that exit codes document.
func worst(all []*Error) Code {
	seen := map[Code]bool{}
	for _, e := range all {
		seen[e.Exit] = true
	}

	for _, c := range []Code{Unknown, Lost, RolledBack, Failed, Unreachable, Refused} {
		if seen[c] {
			return c
		}
	}

	if len(all) > 0 {
		return all[0].Exit
	}

	return Failed
}

// ExitCode maps an error to the exit code. Interruption wins over everything; an unknown outcome or a lost node wins
// over a plain failure joined to it.
func ExitCode(err error) Code {
	if err == nil {
		return OK
	}

	best, found := Failed, false

	walk(err, func(c Code) {
		if !found || rank(c) < rank(best) {
			best, found = c, true
		}
	})

	return best
}

// walk visits the outermost coded error of every branch of a joined error.
func walk(err error, visit func(Code)) {
	switch typed := err.(type) { //nolint:errorlint // the tree is walked by hand, branch by branch
	case nil:
	case *Error:
		visit(typed.Exit)
	case *Nodes:
		visit(typed.exit())
	case interface{ Unwrap() []error }:
		for _, e := range typed.Unwrap() {
			walk(e, visit)
		}
	default:
		if inner := errors.Unwrap(err); inner != nil {
			walk(inner, visit)
		} else {
			visit(Failed)
		}
	}
}

func rank(c Code) int {
	order := []Code{Interrupted, Unknown, Lost, RolledBack, Partial, Failed, Unreachable, Timeout, Refused, Negative, Usage, OK}
	for i, o := range order {
		if o == c {
			return i
		}
	}

	return len(order)
}

// ByUser reports whether the user ended ctx.
func ByUser(ctx context.Context) bool { return ExitCode(context.Cause(ctx)) == Interrupted }

// BrokenOff is the error of an operation that the user interrupted. op is its name, as in "cannot op"; left describes
// what remains, or what still runs.
func BrokenOff(ctx context.Context, op, left string) *Error {
	return &Error{Exit: Interrupted, Hint: left, Err: fmt.Errorf("cannot %s: %w", op, context.Cause(ctx))}
}
