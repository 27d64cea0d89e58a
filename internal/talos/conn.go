package talos

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// conn is a connection as seen by one node's calls: it names the node to the endpoint, traces every call
// and translates every error, so that no command has to.
type conn struct {
	cc       *grpc.ClientConn
	dialErr  error
	node     string // The node to ask for, empty when the connection's other end is meant.
	label    string // The node in messages.
	cluster  *Cluster
	answered atomic.Bool
	peer     atomic.Pointer[string] // Which endpoint answered, for calls that any of them may answer.
}

func (c *conn) outgoing(ctx context.Context) context.Context {
	md := metadata.Pairs("runtime", "Talos")
	if c.node != "" {
		md.Set("node", c.node)
	}

	return metadata.NewOutgoingContext(ctx, md)
}

func (c *conn) done(method string, err error, start time.Time) error {
	if err == nil {
		c.answered.Store(true)
	}

	err = translate(err, c.cluster.circumstances(c.label, c.answered.Load()))
	c.cluster.traceCall(c.label, method, err, time.Since(start))

	return err
}

// Invoke implements grpc.ClientConnInterface.
func (c *conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if c.dialErr != nil {
		return c.dialErr
	}

	start := time.Now()

	var from peer.Peer

	err := c.cc.Invoke(c.outgoing(ctx), method, args, reply, append(opts, grpc.Peer(&from))...)
	c.heard(&from)

	return c.done(method, err, start)
}

func (c *conn) heard(from *peer.Peer) {
	if from != nil && from.Addr != nil {
		host := hostOf(from.Addr.String())
		c.peer.Store(&host)
	}
}

// NewStream implements grpc.ClientConnInterface.
func (c *conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if c.dialErr != nil {
		return nil, c.dialErr
	}

	start := time.Now()

	s, err := c.cc.NewStream(c.outgoing(ctx), desc, method, opts...)
	if err != nil {
		return nil, c.done(method, err, start)
	}

	return &stream{ClientStream: s, conn: c, method: method, start: start}, nil
}

type stream struct {
	grpc.ClientStream

	conn   *conn
	method string
	start  time.Time
}

// RecvMsg implements grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		s.conn.answered.Store(true)

		from, _ := peer.FromContext(s.Context())
		s.conn.heard(from)

		return nil
	}

	return s.conn.done(s.method, err, s.start)
}
