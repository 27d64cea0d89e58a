package conn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/config"
)

// rpcError is a translated failure of a call, without the operation that the call was for.
type rpcError struct {
	code      codes.Code
	message   string
	kind      errs.Kind
	exit      errs.Code
	hint      string
	retryable bool
	cause     error

	undelivered bool // No connection could be made: nothing was sent.
	outdated    bool // The client certificate has expired.
}

func (e *rpcError) Error() string { return unwrapped(e.message) }
func (e *rpcError) Unwrap() error { return e.cause }

// GRPCStatus keeps status.Code working on a translated error.
func (e *rpcError) GRPCStatus() *status.Status { return status.New(e.code, e.message) }

// unwrapped cuts what gRPC puts around the cause of a failed connection.
func unwrapped(message string) string {
	if before, rest, found := strings.Cut(message, "rpc error: code = "); found {
		if _, desc, found := strings.Cut(rest, " desc = "); found {
			return unwrapped(before + desc)
		}
	}

	before, quoted, found := strings.Cut(message, `connection error: desc = `)
	if !found {
		return message
	}

	prefix, err := strconv.QuotedPrefix(quoted)
	if err != nil {
		return message
	}

	cause, err := strconv.Unquote(prefix)
	if err != nil {
		return message
	}

	for _, layer := range []string{"transport: ", "Error while dialing: "} {
		cause = strings.TrimPrefix(cause, layer)
	}

	return before + cause + quoted[len(prefix):]
}

// circumstances describe how the call was made, for its translation.
type circumstances struct {
	node      string // Its hostname, or the address that was asked.
	context   *config.Context
	source    string   // The talosconfig file or origin.
	needs     []string // Roles of which one suffices for this command.
	answered  bool     // Whether the node has answered anything on this connection.
	insecure  bool
	forwarded bool // An endpoint answered for the node.
	sent      bool // The call changes something, and was sent.
	expired   bool // The call's deadline has passed.
}

func (c *Conn) circumstances() circumstances {
	return circumstances{
		node: c.Name(), context: c.Pool.Context, source: c.Pool.source, needs: c.Pool.Options.Needs,
		answered: c.answered.Load(), insecure: c.Pool.Options.Insecure,
	}
}

// Translate gives an error that a node wrote into a message the meaning that it has as the end of a call.
func (c *Conn) Translate(err error) error { return translate(err, c.circumstances()) }

// translate gives a transport or server error its stable word, exit code and hint. The transport reduces its causes to
// text, so the text decides.
func translate(err error, c circumstances) error {
	var done *rpcError
	if err == nil || errors.Is(err, io.EOF) || errors.As(err, &done) {
		return err
	}

	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}

	out := &rpcError{code: st.Code(), message: st.Message(), cause: err, kind: errs.KindFailed, exit: errs.Failed, undelivered: undelivered(err)}
	if c.expired && brokenOff(out) {
		out.code = codes.DeadlineExceeded
	}

	if out.message == "" {
		out.message = st.Code().String()
	}

	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(out.message, p) {
				return true
			}
		}

		return false
	}

	switch out.code { //nolint:exhaustive // the rest stays "failed"
	case codes.Unavailable:
		out.kind, out.exit, out.retryable = errs.KindUnreachable, errs.Unreachable, true
		translateTransport(out, has, c)
	case codes.DeadlineExceeded:
		out.kind, out.exit, out.retryable = errs.KindTimeout, errs.Timeout, true

		if !c.answered {
			out.kind, out.exit = errs.KindUnreachable, errs.Unreachable
			out.message = "no answer before the deadline"
			out.hint = "the node does not answer: check that it is powered on and that the endpoint reaches it; --timeout sets how long to wait"
		}
	case codes.Canceled:
		out.kind, out.exit = errs.KindInterrupted, errs.Interrupted
		if !errors.Is(err, context.Canceled) && !has("context canceled") {
			out.kind, out.exit, out.retryable = errs.KindUnreachable, errs.Unreachable, true
		}
	case codes.PermissionDenied:
		if has("no request forwarding") {
			out.kind, out.exit = errs.KindNoForwarding, errs.Unreachable
			out.hint = "a worker was used as endpoint; use a control plane endpoint"

			break
		}

		out.kind, out.exit = errs.KindPermissionDenied, errs.Unreachable
		out.hint = roleHint(c)
	case codes.Unauthenticated:
		out.kind, out.exit = errs.KindUnauthenticated, errs.Unreachable
	case codes.Unimplemented:
		out.kind = errs.KindUnimplemented
		if has("control plane nodes") {
			out.hint = "only control planes do this: use --controlplanes, or name one with -n"
		}
	case codes.NotFound:
		out.kind = errs.KindNotFound
	case codes.AlreadyExists:
		out.kind = errs.KindAlreadyExists
	case codes.InvalidArgument:
		out.kind = errs.KindInvalid
	case codes.FailedPrecondition:
		out.kind = errs.KindPrecondition
	}

	if c.sent {
		out.afterSending()
	}

	return out
}

// brokenOff reports whether a call ended because one side gave up. If its deadline has passed, that is the reason,
// whichever side noticed first: the other may see a cancelled call or a reset stream.
func brokenOff(e *rpcError) bool {
	return e.code == codes.Canceled || strings.Contains(e.message, "RST_STREAM")
}

func translateTransport(out *rpcError, has func(...string) bool, c circumstances) {
	expired := c.context != nil && !c.context.NotAfter.IsZero() && time.Now().After(c.context.NotAfter)

	switch {
	case has(proxyFailed):
		out.hint = "the proxy in the context's proxy-url does not connect: check that it is there and permits the endpoints"
	case expired && has("tls:", "x509", "error reading server preface", "EOF", "broken pipe", "connection reset"),
		has("certificate has expired", "expired certificate"):
		out.kind, out.retryable = errs.KindUnauthenticated, false
		out.hint = "renew the client certificate with an admin certificate that is still valid (config new), " +
			"or generate the talosconfig from the cluster's secrets again"

		if expired {
			out.outdated = true
			out.hint = fmt.Sprintf("the client certificate expired at %s; ", c.context.NotAfter.UTC().Format(time.RFC3339)) + out.hint
		}
	case has("one node proxied through a worker", "no request forwarding"):
		out.kind, out.retryable = errs.KindNoForwarding, false
		out.hint = "a worker was used as endpoint; use a control plane endpoint"
	case c.forwarded && has("authentication handshake failed") && has("tls:", "x509"):
		out.kind, out.retryable = errs.KindUnauthenticated, false
		out.hint = "the endpoint reaches the node, whose certificate is not of this cluster: it is in maintenance mode (try --insecure), or belongs to another cluster"
	case has("x509: certificate signed by unknown authority", "Ed25519 verification failure",
		"unknown certificate authority", "tls: bad certificate", "tls: certificate required"):
		out.kind, out.retryable = errs.KindUnauthenticated, false
		out.hint = fmt.Sprintf("the talosconfig does not match this cluster (wrong or stale file): %s, context %q",
			c.source, contextName(c.context))

		if c.insecure || has("tls: certificate required") {
			out.hint = "the node requires a client certificate, so it is already configured: run the command without --insecure"
		}
	case behind(out.message):
		out.hint = errs.CommandLine("service", "list", "-n", c.node)
	case has("first record does not look like a TLS handshake", "connection refused"):
		out.hint = "the node is down, or in maintenance mode: try --insecure with -n"
	case out.undelivered && has("EOF", "connection reset by peer"):
		out.hint = "the connection is accepted and closed at once: the node's apid is starting or stopping, or something else answers at the address"
	case has("no route to host", "i/o timeout", "context deadline exceeded"):
		out.hint = "the node does not answer: check that it is powered on and that the endpoint reaches it"
	}
}

func contextName(c *config.Context) string {
	if c == nil {
		return ""
	}

	return c.Name
}

func roleHint(c circumstances) string {
	have := "no role"
	if c.context != nil {
		have = c.context.RoleList()
	}

	if c.insecure {
		return "in maintenance mode every caller is a reader"
	}

	if len(c.needs) == 0 {
		return "the certificate has " + have
	}

	return fmt.Sprintf("the certificate has %s; this command needs %s", have, strings.Join(c.needs, " or "))
}

// Fail makes a failed call the typed error `cannot VERB OBJECT on NODE: cause`.
func (c *Conn) Fail(op string, err error) error {
	if err == nil {
		return nil
	}

	name, hostname := c.Address, c.Whole().Hostname
	if hostname != "" {
		name = fmt.Sprintf("%s (%s)", c.Address, hostname)
	}

	out := &errs.Error{
		Exit: errs.Failed, Node: c.Address, Hostname: hostname,
		Err: fmt.Errorf("cannot %s on %s: %w", op, name, err),
	}

	var (
		rpc   *rpcError
		typed *errs.Error
	)

	switch {
	case errors.As(err, &rpc):
		out.Exit, out.Kind, out.Hint, out.Retryable = rpc.exit, rpc.kind, rpc.hint, rpc.retryable
		out.GRPCCode = rpc.code.String()
	case errors.As(err, &typed):
		out.Exit, out.Kind, out.Hint = typed.Exit, typed.Kind, typed.Hint
	case errors.Is(err, context.DeadlineExceeded):
		out.Exit, out.Kind, out.Retryable = errs.Timeout, errs.KindTimeout, true
	case errors.Is(err, context.Canceled):
		out.Exit, out.Kind = errs.Interrupted, errs.KindInterrupted
	}

	return out
}

// KindOf returns the stable word of an error that came from a node, empty for other errors.
func KindOf(err error) errs.Kind {
	var typed *errs.Error
	if errors.As(err, &typed) && typed.Kind != "" {
		return typed.Kind
	}

	var rpc *rpcError
	if errors.As(err, &rpc) {
		return rpc.kind
	}

	return ""
}

// Outdated reports whether a call failed because the client certificate has expired, which no waiting changes.
func Outdated(err error) bool {
	var rpc *rpcError

	return errors.As(err, &rpc) && rpc.outdated
}

// Transient reports whether an error may pass once a reboot of the node is over.
func Transient(err error) bool {
	switch KindOf(err) { //nolint:exhaustive // the rest is final
	case errs.KindUnreachable, errs.KindTimeout, errs.KindInterrupted, errs.KindUnknownOutcome:
		return true
	default:
		return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || died(err)
	}
}

// died recognises the end of a stream from a node that goes down: Unknown, with EOF as its only text.
func died(err error) bool {
	var rpc *rpcError

	return errors.As(err, &rpc) && rpc.code == codes.Unknown && rpc.message == "EOF"
}

// Blame makes the error of processing this node's answer one that names the node. Typed errors and interrupts are
// returned unchanged.
func (c *Conn) Blame(op string, err error) error {
	var typed *errs.Error
	if err == nil || errors.As(err, &typed) {
		return err
	}

	return c.Fail(op, err)
}

// OneOf reports whether err is one of the kinds.
func OneOf(err error, kinds ...errs.Kind) bool {
	return err != nil && !errors.Is(err, context.Canceled) && slices.Contains(kinds, KindOf(err))
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

// EtcdPasses reports whether an etcd error is temporary: no leader at the moment, or members that have not been
// connected for long enough. The request may have taken effect, so the state has to be read before it is sent again.
// The server has no codes for these errors (etcd, api/v3rpc/rpctypes/error.go).
func EtcdPasses(err error) bool {
	return EtcdRefused(err) || says(err, "etcdserver: leader changed", "etcdserver: request timed out")
}

// EtcdRefused reports whether etcd refused a request before it did anything, for a temporary reason.
func EtcdRefused(err error) bool {
	return says(err, "etcdserver: no leader", "etcdserver: not leader", "etcdserver: unhealthy cluster")
}

// EtcdLearner reports whether an etcd member refused a request because it is a learner: it answers for its own status and
// nothing else until it votes.
func EtcdLearner(err error) bool { return says(err, "etcdserver: rpc not supported for learner") }

// says reports whether an error's text contains one of the parts.
func says(err error, parts ...string) bool {
	return err != nil && slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(err.Error(), p) })
}
