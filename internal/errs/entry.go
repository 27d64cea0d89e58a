package errs

import "errors"

// Entry is one error in a document's `errors` list.
type Entry struct {
	Node      string `json:"node,omitempty"`      // The node it happened on.
	Hostname  string `json:"hostname,omitempty"`  // Its hostname, where known.
	Code      string `json:"code"`                // A stable snake_case word for the cause.
	GRPCCode  string `json:"grpc_code,omitempty"` // The gRPC status, where a server or the transport gave one.
	Gate      string `json:"gate,omitempty"`      // The safety gate that refused, TM followed by three digits.
	Message   string `json:"message"`             // What happened, in lower case.
	Hint      string `json:"hint,omitempty"`      // What to do about it, where known.
	Retryable bool   `json:"retryable"`           // Whether the same command may succeed later.
}

// Entries flattens an error into document entries, never nil.
func Entries(err error) []Entry {
	out := []Entry{}

	flatten(err, func(e *Error) { out = append(out, e.entry()) })

	return out
}

// Hints lists the distinct hints of an error in order.
func Hints(err error) []string {
	var out []string

	seen := map[string]bool{"": true}

	flatten(err, func(e *Error) {
		if !seen[e.Hint] {
			seen[e.Hint] = true

			out = append(out, e.Hint)
		}
	})

	return out
}

func flatten(err error, visit func(*Error)) {
	switch typed := err.(type) { //nolint:errorlint // the tree is walked by hand, branch by branch
	case nil:
	case *Error:
		visit(typed)
	case interface{ Unwrap() []error }:
		for _, e := range typed.Unwrap() {
			flatten(e, visit)
		}
	default:
		var coded *Error
		if errors.As(err, &coded) {
			outer := *coded
			outer.Err = err
			visit(&outer)

			return
		}

		visit(&Error{Exit: Failed, Err: err})
	}
}

func (e *Error) entry() Entry {
	kind := e.Kind
	if kind == "" {
		kind = kindOf(e.Exit)
	}

	return Entry{
		Node: e.Node, Hostname: e.Hostname, Code: string(kind), GRPCCode: e.GRPCCode, Gate: e.Gate,
		Message: e.Error(), Hint: e.Hint, Retryable: e.Retryable,
	}
}

func kindOf(c Code) Kind {
	switch c {
	case Usage:
		return KindUsage
	case Negative:
		return KindNegative
	case Refused:
		return KindRefused
	case Unreachable:
		return KindUnreachable
	case Unknown:
		return KindUnknownOutcome
	case RolledBack:
		return KindRolledBack
	case Lost:
		return KindLost
	case Timeout:
		return KindTimeout
	case Interrupted:
		return KindInterrupted
	case OK, Failed, Partial:
		return KindFailed
	default:
		return KindFailed
	}
}
