// Package conn holds the connections to the nodes of a cluster: how they are dialled, what each call passes on, which
// calls change something, how long they may take, how much a node may send, and what their errors mean.
package conn

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// detourLimit bounds the attempt to connect directly where the endpoints have no connection. Networks in which only the
// endpoints can be reached often drop packets to the nodes.
const detourLimit = 2 * time.Second

// Conn is a connection for the calls of one node. It passes the node's address to the endpoint, traces every call and
// translates every error.
type Conn struct {
	target.Target

	Direct bool  // The node is dialled itself, not through an endpoint.
	Pool   *Pool // The other connections to the cluster, and the options.

	ways     []*way
	dialErr  error
	node     string // The node to ask for, empty when the other end of the connection is meant.
	answered atomic.Bool
	changed  atomic.Bool // The node has taken a change, or may have.

	confirmed atomic.Pointer[time.Time] // When the other end last proved to be the target.

	peer atomic.Pointer[string] // Which endpoint answered, for calls that any of them may answer.
}

// Peer is the address that answered, nil before an answer.
func (c *Conn) Peer() *string { return c.peer.Load() }

// Answered reports whether anything came back from the node.
func (c *Conn) Answered() bool { return c.answered.Load() }

func (c *Conn) outgoing(ctx context.Context) context.Context {
	ctx = direct(ctx)
	if c.Pool.omni() && c.Pool.Context.Cluster != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "context", c.Pool.Context.Cluster) // how Omni finds the cluster
	}

	if c.node == "" {
		return ctx
	}

	return metadata.AppendToOutgoingContext(ctx, "node", c.node)
}

// done ends a call: from is who took the request, nil if nobody did, and sent reports whether it changes something and was
// sent.
func (c *Conn) done(ctx context.Context, method string, err error, start time.Time, from *peer.Peer, sent bool) error {
	if err == nil {
		c.answered.Store(true)
	} else if !errors.Is(err, io.EOF) {
		how := c.circumstances()
		how.sent, how.expired = sent, expired(ctx)
		how.forwarded = c.node != "" && took(from)
		err = translate(err, how)
	}

	c.note(err, start)

	if sent && (err == nil || KindOf(err) == errs.KindUnknownOutcome) {
		c.changed.Store(true)
	}

	c.Pool.traceCall(c.Address, method, err, time.Since(start))

	return err
}

// clocks is by how much the other end may see a deadline pass before this end does: each counts from when it has the call.
const clocks = 100 * time.Millisecond

// expired reports whether the deadline has passed, for the other end at least.
func expired(ctx context.Context) bool {
	end, has := ctx.Deadline()

	return has && time.Until(end) < clocks
}

// begin asks whether a request that may change something can be sent: the machine that answers must be the target, and
// Options.Begin must permit it.
func (c *Conn) begin(ctx context.Context, method string, request any) error {
	if !isChange(method, request) {
		return nil
	}

	if err := c.permitChange(); err != nil {
		return &unsentError{err}
	}

	if err := c.confirm(ctx); err != nil {
		return &unsentError{err}
	}

	if c.Pool.Options.Begin == nil {
		return nil
	}

	return c.Pool.Options.Begin()
}

// confirmedFor is how long the answer to the question who is at the other end counts.
const confirmedFor = 5 * time.Second

func (c *Conn) confirm(ctx context.Context) error {
	if at := c.confirmed.Load(); c.Pool.Confirm == nil || at != nil && time.Since(*at) < confirmedFor {
		return nil
	}

	if err := c.Pool.Confirm(ctx, c); err != nil {
		return err
	}

	now := time.Now()
	c.confirmed.Store(&now)

	return nil
}

// Another is the error of an answer that came from another machine than the target: its address has moved.
func (c *Conn) Another(id string) error {
	err := errs.New(errs.Refused, "another machine answers at %s: its identity is %s, and that of %s is %s", c.Address, id, c.Name(), c.ID).
		OnNode(c.Address).WithKind(errs.KindAnotherMachine).
		WithHint("talosmate members")
	err.Gate = gateAnotherMachine

	return err
}

// gateAnotherMachine is the gate's code, which package gate registers.
const gateAnotherMachine = "TM156"

// Invoke implements grpc.ClientConnInterface.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if c.dialErr != nil {
		return c.dialErr
	}

	if err := c.begin(ctx, method, args); err != nil {
		return err
	}

	start := time.Now()

	ctx, cancel := c.limited(ctx, method, args)
	defer cancel()

	if err := c.askFirst(ctx, method, args); err != nil {
		return c.done(ctx, method, err, start, nil, false)
	}

	var from peer.Peer

	change := isChange(method, args)

	err := c.over(ctx, change, func(ctx context.Context, cc *grpc.ClientConn) error {
		from = peer.Peer{}

		return cc.Invoke(c.outgoing(ctx), method, args, reply, append(slices.Clone(opts), grpc.Peer(&from))...)
	})
	if way := c.detour(ctx, err, &from); way != nil {
		if again := way.Invoke(direct(ctx), method, args, reply, append(slices.Clone(opts), grpc.Peer(&from))...); !undelivered(again) {
			err = again
		}
	}

	c.heard(&from)

	// The peer is known once a connection has taken the request.
	return c.done(ctx, method, err, start, &from, took(&from) && !undelivered(err) && change)
}

// limited limits the time of a call whose caller set no deadline, since a node that is down does not answer. A read may
// take as long as the user allows, a change as long as a node needs to accept it. Calls that are answered only when
// their work is done are watched by WhileAlive, or have a deadline of their own.
func (c *Conn) limited(ctx context.Context, method string, request any) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has || slices.Contains(longCalls(), method) {
		return context.WithCancel(ctx)
	}

	if limit := c.Pool.Options.Timeout; limit > 0 && !isChange(method, request) {
		return context.WithTimeout(ctx, limit)
	}

	return context.WithTimeout(ctx, requestLimit)
}

// took reports whether somebody took a request.
func took(from *peer.Peer) bool { return from != nil && from.Addr != nil }

func (c *Conn) heard(from *peer.Peer) {
	if took(from) {
		host := target.Host(from.Addr.String())
		c.peer.Store(&host)
	}
}

// NewStream implements grpc.ClientConnInterface.
func (c *Conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if c.dialErr != nil {
		return nil, c.dialErr
	}

	if err := c.begin(ctx, method, nil); err != nil {
		return nil, err
	}

	start := time.Now()

	if err := c.askFirst(ctx, method, nil); err != nil {
		return nil, c.done(ctx, method, err, start, nil, false)
	}

	out := &stream{conn: c, method: method}

	err := out.open(ctx, desc, opts)
	if way := c.detour(ctx, err, nil); way != nil {
		out.ClientStream, err = way.NewStream(direct(ctx), desc, method, opts...)
	}

	if err != nil {
		return nil, c.done(ctx, method, err, start, nil, false)
	}

	out.end = func(err error) error {
		out.stop()

		from, _ := peer.FromContext(out.Context())

		return c.done(ctx, method, err, start, from, out.changing && !undelivered(err))
	}
	if !desc.ClientStreams {
		out.reopen = func() error { return out.open(ctx, desc, opts) }
		out.again = func(err error, from *peer.Peer) (grpc.ClientStream, error) {
			way := c.detour(ctx, err, from)
			if way == nil {
				return nil, err
			}

			return way.NewStream(direct(ctx), desc, method, opts...)
		}
	}

	return out, nil
}

// open opens the stream over a way, and watches its connection.
func (s *stream) open(ctx context.Context, desc *grpc.StreamDesc, opts []grpc.CallOption) (err error) {
	w := s.conn.Pool.choose(ctx, s.conn.ways)

	s.stop = func() {}

	change := !isRead(s.method)
	_, limited := ctx.Deadline()

	if patience := s.conn.patience(ctx, w, change, true); patience > 0 {
		watched, cancel := context.WithCancelCause(ctx)
		stop := w.watch(watched, patience, s.waits.Load, func() bool {
			return change || !limited || !s.received.Load() && s.conn.elsewhere(w)
		}, cancel)

		ctx, s.stop = watched, func() {
			stop()
			cancel(nil)
		}
	}

	if s.ClientStream, err = w.cc.NewStream(s.conn.outgoing(ctx), desc, s.method, opts...); err != nil {
		s.stop()
	}

	return err
}

type stream struct {
	grpc.ClientStream

	conn     *Conn
	method   string
	changing bool              // What was sent changes something.
	end      func(error) error // Called with the error when the call ends.
	stop     func()            // Ends the watch over its connection.
	waits    atomic.Bool       // Something is being received.
	received atomic.Bool       // Something was received.

	// Needed for a detour: the same stream over a direct connection, and the request. again is nil when no detour is
	// possible: something was received already, or the client streams.
	again   func(err error, from *peer.Peer) (grpc.ClientStream, error)
	reopen  func() error // The same over another endpoint.
	request any
}

// SendMsg implements grpc.ClientStream.
func (s *stream) SendMsg(m any) error {
	s.changing = s.changing || isChange(s.method, m)

	if s.again != nil {
		s.request = m
	}

	return s.ClientStream.SendMsg(m)
}

// RecvMsg implements grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	s.waits.Store(true)
	err := quiet(s.Context(), s.ClientStream.RecvMsg(m))
	s.waits.Store(false)

	for errors.Is(err, errQuiet) && s.again != nil && !s.changing && slices.ContainsFunc(s.conn.ways, (*way).fit) {
		if err = s.reopen(); err == nil {
			err = s.ask(s.ClientStream, m)
		}
	}

	if err != nil && s.again != nil {
		err = s.detour(m, err)
	}

	s.again, s.request = nil, nil

	if err == nil {
		s.received.Store(true)
		s.conn.answered.Store(true)
		s.conn.note(nil, time.Time{})

		if s.changing {
			s.conn.changed.Store(true)
		}

		from, _ := peer.FromContext(s.Context())
		s.conn.heard(from)

		return nil
	}

	return s.end(err)
}

// detour sends the request again over a direct connection and receives the first message. When that fails too, it
// returns the original error.
func (s *stream) detour(m any, was error) error {
	from, _ := peer.FromContext(s.Context())

	other, err := s.again(was, from)
	if err != nil {
		return was
	}

	if err = s.ask(other, m); undelivered(err) {
		return was
	}

	s.ClientStream = other

	return err
}

// ask sends the request over another stream and receives the first message.
func (s *stream) ask(other grpc.ClientStream, m any) error {
	if err := errors.Join(other.SendMsg(s.request), other.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
		return err
	}

	s.waits.Store(true)
	defer s.waits.Store(false)

	return quiet(other.Context(), other.RecvMsg(m)) // it has the reason of an io.EOF above
}

// detour returns a direct connection to the node when an endpoint answered that it cannot dial the node, or when no
// endpoint answers and the node is one itself. An endpoint backs off from a node that was down, for up to 15 seconds
// after it is back (apid's connection parameters). A request that an endpoint could not deliver was not executed, so
// any request may be sent again.
func (c *Conn) detour(ctx context.Context, err error, from *peer.Peer) *grpc.ClientConn {
	if c.node == "" || c.Pool.omni() || !undelivered(err) {
		return nil
	}

	if !took(from) && !slices.ContainsFunc(c.Pool.Endpoints(), func(e string) bool { return target.Host(e) == c.node }) {
		return nil
	}

	ctx, cancel := context.WithTimeout(ctx, detourLimit)
	defer cancel()

	return c.Pool.ready(ctx, c.node)
}

// undelivered reports whether a call ended before any node received it: gRPC's messages for a connection that could not
// be made. An endpoint that asked a machine in maintenance mode keeps "authentication handshake failed" as its answer
// while it backs off, also after the machine has joined.
func undelivered(err error) bool {
	message := status.Convert(err).Message()

	return status.Code(err) == codes.Unavailable && !behind(message) &&
		slices.ContainsFunc(neverConnected(), func(sign string) bool { return strings.Contains(message, sign) })
}

// neverConnected are the texts of gRPC's client for the steps of making a connection (newHTTP2Client).
func neverConnected() []string {
	return []string{"Error while dialing", "authentication handshake failed", "error reading server preface"}
}

// behind reports whether an error is about a connection that the node itself tried to make while it carried out a
// request: to etcd, or to a service on a local socket. Talos returns those errors unchanged.
func behind(message string) bool {
	for _, sign := range []string{"rpc error: code =", ":2379:", "dial unix"} {
		if strings.Contains(message, sign) {
			return true
		}
	}

	return false
}

// direct is the context of a call that no endpoint forwards.
func direct(ctx context.Context) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.Pairs("runtime", "Talos"))
}
