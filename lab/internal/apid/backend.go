package apid

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/siderolabs/grpc-proxy/proxy"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/talosmate/talosmate/lab/internal/rbac"
)

// localBackend is the machined of the same node, over an in-process socket.
type localBackend struct {
	mu     sync.Mutex
	socket *bufconn.Listener
	conn   *grpc.ClientConn
}

func (l *localBackend) String() string { return "machined" }

// GetConnection passes the caller's roles on to machined.
func (l *localBackend) GetConnection(ctx context.Context, _ string) (context.Context, *grpc.ClientConn, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	md = md.Copy()
	rbac.SetMetadata(md, rbac.Roles(ctx))

	out := metadata.NewOutgoingContext(ctx, md)

	l.mu.Lock()
	defer l.mu.Unlock()

	if l.conn != nil {
		return out, l.conn, nil
	}

	conn, err := grpc.NewClient("passthrough:///machined",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			l.mu.Lock()
			socket := l.socket
			l.mu.Unlock()

			if socket != nil {
				if conn, err := socket.DialContext(ctx); err == nil {
					return conn, nil
				}
			}

			return nil, &net.OpError{Op: "dial", Net: "unix", Addr: &net.UnixAddr{Name: constants.MachineSocketPath, Net: "unix"}, Err: fmt.Errorf("connect: %w", syscall.ENOENT)}
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(constants.GRPCMaxMessageSize), grpc.ForceCodecV2(proxy.Codec())),
	)
	if err != nil {
		return out, nil, err
	}

	l.conn = conn

	return out, conn, nil
}

func (l *localBackend) AppendInfo(_ bool, resp []byte) ([]byte, error) { return resp, nil }

func (l *localBackend) BuildError(bool, error) ([]byte, error) { return nil, nil }

func (l *localBackend) close() {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.conn != nil {
		l.conn.Close() //nolint:errcheck
		l.conn = nil
	}
}

// unreachableAfter is how long the kernel sends ARP requests for a dead neighbour before it reports that there is no
// route.
const unreachableAfter = 3 * time.Second

// remoteBackend is another node's apid.
type remoteBackend struct {
	target string
	from   net.IP
	dial   Dialer
	tls    *tls.Config

	mu   sync.Mutex
	conn *grpc.ClientConn
}

// Dialer returns how to reach a node by the address that clients use: where it listens, and what the machine behind it
// does with a connection.
type Dialer func(target string) (address string, answer Answer)

// Answer is what a machine does with a new connection.
type Answer int

// The answers.
const (
	Accepts Answer = iota // or refuses it, if nothing listens
	Dead                  // no machine is there
	Refuses
)

func (r *remoteBackend) String() string { return r.target }

// GetConnection tells the other apid for whom this one sends the request.
func (r *remoteBackend) GetConnection(ctx context.Context, _ string) (context.Context, *grpc.ClientConn, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	md = md.Copy()
	rbac.SetMetadata(md, rbac.Roles(ctx))

	if authority := md[":authority"]; len(authority) > 0 {
		md.Set("proxyfrom", authority...)
	} else {
		md.Set("proxyfrom", "unknown")
	}

	delete(md, ":authority")
	delete(md, "nodes")
	delete(md, "node")

	out := metadata.NewOutgoingContext(ctx, md)

	r.mu.Lock()
	defer r.mu.Unlock()

	if r.conn != nil {
		return out, r.conn, nil
	}

	// as in apid: wait at most 15 s before a node that was down is tried again
	retry := backoff.DefaultConfig
	retry.MaxDelay = 15 * time.Second

	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(r.target, fmt.Sprint(constants.ApidPort)),
		grpc.WithContextDialer(r.connect),
		grpc.WithInitialWindowSize(65535*32),
		grpc.WithInitialConnWindowSize(65535*16),
		grpc.WithTransportCredentials(credentials.NewTLS(r.tls)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: 20 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(constants.GRPCMaxMessageSize), grpc.ForceCodecV2(proxy.Codec())),
	)
	if err != nil {
		return out, nil, err
	}

	r.conn = conn

	return out, conn, nil
}

func (r *remoteBackend) connect(ctx context.Context, named string) (net.Conn, error) {
	address, answer := r.dial(r.target)

	switch answer {
	case Refuses:
		return nil, r.dialError(syscall.ECONNREFUSED)
	case Accepts:
		if address == "" {
			address = named
		}

		// From the node's own address, as a machine does it; this is how its connections differ from those of clients.
		return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: r.from}}).DialContext(ctx, "tcp", address)
	case Dead:
	}

	timer := time.NewTimer(unreachableAfter)
	defer timer.Stop()

	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}

	return nil, r.dialError(syscall.EHOSTUNREACH)
}

func (r *remoteBackend) dialError(errno syscall.Errno) error {
	addr := &net.TCPAddr{Port: constants.ApidPort}
	if ip, err := netip.ParseAddr(r.target); err == nil {
		addr.IP = ip.AsSlice()
	}

	return &net.OpError{Op: "dial", Net: "tcp", Addr: addr, Err: fmt.Errorf("connect: %w", errno)}
}

// AppendInfo adds the node's name to an answer. Every reply message has its metadata in field 1, so it can be appended
// to the bytes of the first message: a unary answer is a list of one reply, whose length has to grow.
func (r *remoteBackend) AppendInfo(streaming bool, resp []byte) ([]byte, error) {
	info, err := proto.Marshal(&common.Empty{Metadata: &common.Metadata{Hostname: r.target}}) //nolint:staticcheck // what apid sends
	if err != nil {
		return nil, err
	}

	if streaming {
		return append(resp, info...), nil
	}

	number, typ, n := protowire.ConsumeTag(resp)
	if n < 0 || number != 1 || typ != protowire.BytesType {
		return nil, fmt.Errorf("unexpected message format of %s", r.target)
	}

	_, m := protowire.ConsumeVarint(resp[n:])
	if m < 0 {
		return nil, protowire.ParseError(m)
	}

	body := slices.Concat(resp[n+m:], info)

	return append(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.BytesType), uint64(len(body))), body...), nil
}

// BuildError turns a node's failure into a reply, so that the answers of other nodes still arrive.
func (r *remoteBackend) BuildError(streaming bool, err error) ([]byte, error) {
	reply := &common.Empty{Metadata: &common.Metadata{ //nolint:staticcheck // what apid sends
		Hostname: r.target, Error: err.Error(), Status: status.Convert(err).Proto(),
	}}

	if streaming {
		return proto.Marshal(reply)
	}

	return proto.Marshal(&common.EmptyResponse{Messages: []*common.Empty{reply}})
}

func (r *remoteBackend) close() {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.conn != nil {
		r.conn.Close() //nolint:errcheck
		r.conn = nil
	}
}
