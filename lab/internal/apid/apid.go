// Package apid is the network side of a simulated node: TLS, roles from certificates, and forwarding to other nodes by
// siderolabs/grpc-proxy, the library the real apid uses. It also applies the network faults.
package apid

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/siderolabs/grpc-proxy/proxy"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/role"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/talosmate/talosmate/lab/internal/faults"
	"github.com/talosmate/talosmate/lab/internal/pki"
	"github.com/talosmate/talosmate/lab/internal/rbac"
)

// socketBuffer is the size of the in-process socket to machined.
const socketBuffer = 1 << 20

// Config configures an apid.
type Config struct {
	// Listen returns the address and port to listen on from the next start, e.g. 127.5.0.2:50000.
	Listen func() string
	// Also are further addresses and ports to listen on.
	Also []string
	// Addresses returns the node's own addresses and names.
	Addresses func() []string
	// Forwards reports whether the node forwards to others, as control planes do.
	Forwards func() bool
	// Keys are the node's certificates; called at each start.
	Keys func() (*pki.Node, error)
	// Machined makes the API server behind it.
	Machined func() *grpc.Server
	// Dial returns how other nodes are reached.
	Dial Dialer
	// Faults of this node.
	Faults *faults.Set
	// Random is the node's seeded source.
	Random func() float64
	// Count receives each request: where it was received and where it was executed.
	Count func(method string, executed bool)
}

// Server is the apid of one node.
type Server struct {
	cfg  Config
	gate *gate

	mu       sync.Mutex
	gone     chan struct{}           // closed when the node goes down; nil while it is down
	added    map[string]net.Listener // the listeners of Listen
	server   *grpc.Server
	machined *grpc.Server
	local    *localBackend
	remotes  map[string]*remoteBackend
}

// New makes an apid that does not listen yet.
func New(cfg Config) *Server { return &Server{cfg: cfg, gate: newGate(cfg.Faults)} }

// Hang makes the node accept connections and never answer, or ends that.
func (s *Server) Hang(on bool) { s.gate.hang(on) }

// Peers are the addresses that have a connection to this node, one for each connection.
func (s *Server) Peers() []netip.Addr {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()

	out := make([]netip.Addr, 0, len(s.gate.conns))

	for _, w := range s.gate.conns {
		if at, err := netip.ParseAddrPort(w.RemoteAddr().String()); err == nil {
			out = append(out, at.Addr().Unmap())
		}
	}

	return out
}

// Up starts to listen. In maintenance mode no client certificate is required and every caller is a reader.
func (s *Server) Up(maintenance bool) error {
	keys, err := s.cfg.Keys()
	if err != nil {
		return err
	}

	socket := bufconn.Listen(socketBuffer)
	local := &localBackend{socket: socket}
	run := &boot{Server: s, maintenance: maintenance, keys: keys, local: local, remotes: map[string]*remoteBackend{}}

	if host, _, err := net.SplitHostPort(s.cfg.Listen()); err == nil {
		run.from = net.ParseIP(host)
	}

	tlsConfig := &tls.Config{
		Certificates: []tls.Certificate{keys.Server},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2"},
	}

	if !maintenance {
		tlsConfig.ClientAuth = tls.RequireAndVerifyClientCert
		tlsConfig.ClientCAs = keys.Roots
		tlsConfig.VerifyPeerCertificate = clientAuthOnly
	}

	gone := make(chan struct{})

	s.mu.Lock()
	s.gone = gone
	s.mu.Unlock()

	listeners := make([]net.Listener, 0, 1+len(s.cfg.Also))

	for _, address := range slices.Concat([]string{s.cfg.Listen()}, s.cfg.Also) {
		ln, err := listen(address, gone)
		if err != nil {
			for _, ln := range listeners {
				ln.Close() //nolint:errcheck
			}

			return err
		}

		listeners = append(listeners, ln)
	}

	run.server = grpc.NewServer(
		grpc.Creds(credentials.NewTLS(tlsConfig)),
		grpc.ForceServerCodecV2(proxy.Codec()),
		grpc.MaxRecvMsgSize(constants.GRPCMaxMessageSize),
		grpc.ChainStreamInterceptor(run.injectRoles, run.strike),
		grpc.UnknownServiceHandler(proxy.TransparentHandler(run.direct, proxy.WithStreamedDetector(streamed))),
	)
	machined := s.cfg.Machined()

	s.mu.Lock()
	s.server, s.machined, s.local, s.remotes = run.server, machined, local, run.remotes
	s.mu.Unlock()

	go machined.Serve(socket) //nolint:errcheck // ends with Down

	for _, ln := range listeners {
		go run.server.Serve(&listener{Listener: ln, gate: s.gate}) //nolint:errcheck // ends with Down
	}

	return nil
}

// Listen makes a server that is up listen on one more address, until Unlisten or Down.
func (s *Server) Listen(address string) error {
	s.mu.Lock()
	gone := s.gone
	s.mu.Unlock()

	if gone == nil {
		return net.ErrClosed
	}

	ln, err := listen(address, gone)
	if err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.server == nil || s.gone != gone {
		ln.Close() //nolint:errcheck

		return net.ErrClosed
	}

	if s.added == nil {
		s.added = map[string]net.Listener{}
	}

	s.added[address] = ln

	go s.server.Serve(&listener{Listener: ln, gate: s.gate}) //nolint:errcheck // ends with Unlisten or Down

	return nil
}

// Unlisten ends Listen. The connections to that address break, as they do when an address moves to another machine.
func (s *Server) Unlisten(address string) {
	s.mu.Lock()
	ln := s.added[address]
	delete(s.added, address)
	s.mu.Unlock()

	if ln != nil {
		ln.Close() //nolint:errcheck
		s.gate.closeTo(address)
	}
}

// listen retries for a moment: the kernel may still hold the address from the previous boot. It gives up when the node
// goes down meanwhile.
func listen(address string, gone <-chan struct{}) (net.Listener, error) {
	const patience, pace = time.Second, 20 * time.Millisecond

	retry := time.NewTicker(pace)
	defer retry.Stop()

	for left := int(patience / pace); ; left-- {
		ln, err := net.Listen("tcp", address)
		if err == nil || left == 0 {
			return ln, err
		}

		select {
		case <-retry.C:
		case <-gone:
			return nil, err
		}
	}
}

// answerGrace is how long a node that shuts down gracefully still answers pending requests.
const answerGrace = 150 * time.Millisecond

// Down closes the listener and every connection: gracefully, after pending answers were sent, or immediately, as a
// power cut does.
func (s *Server) Down(inOrder bool) {
	s.mu.Lock()

	if s.gone != nil {
		close(s.gone)
		s.gone = nil
	}

	server, machined, local, remotes := s.server, s.machined, s.local, s.remotes
	s.server, s.machined, s.local, s.remotes, s.added = nil, nil, nil, nil, nil
	s.mu.Unlock()

	if server == nil {
		return
	}

	if inOrder {
		finished := time.AfterFunc(answerGrace, server.Stop)
		server.GracefulStop()
		finished.Stop()
	}

	s.gate.closeAll()
	server.Stop()
	machined.Stop()
	local.close()

	for _, r := range remotes {
		r.close()
	}
}

// clientAuthOnly is apid's check that the certificate is a client's.
func clientAuthOnly(_ [][]byte, chains [][]*x509.Certificate) error {
	if len(chains) == 0 {
		return errors.New("no verified chains")
	}

	for _, cert := range chains[0] {
		if cert.IsCA {
			continue
		}

		if !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
			return fmt.Errorf("certificate %q is missing the client auth extended key usage", cert.Subject)
		}
	}

	return nil
}

// streamed lists the methods whose answers are streams, for merging the answers of several nodes.
func streamed(method string) bool {
	switch method {
	case "/machine.MachineService/Copy", "/machine.MachineService/DiskUsage", "/machine.MachineService/Dmesg",
		"/machine.MachineService/EtcdSnapshot", "/machine.MachineService/Events", "/machine.MachineService/ImageList",
		"/machine.MachineService/Kubeconfig", "/machine.MachineService/List", "/machine.MachineService/Logs",
		"/machine.MachineService/PacketCapture", "/machine.MachineService/Read",
		"/machine.LifecycleService/Install", "/machine.LifecycleService/Upgrade", "/cluster.ClusterService/HealthCheck":
		return true
	default:
		return strings.HasSuffix(method, "Stream")
	}
}

// boot is one run of an apid, between Up and Down.
type boot struct {
	*Server

	maintenance bool
	from        net.IP // Of connections to other nodes.
	keys        *pki.Node
	server      *grpc.Server
	local       *localBackend

	mu      sync.Mutex
	remotes map[string]*remoteBackend
}

// injectRoles determines the caller's roles.
func (b *boot) injectRoles(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx := stream.Context()

	if b.maintenance {
		ctx = rbac.WithRoles(ctx, role.MakeSet(role.Reader))
	} else {
		p, ok := peer.FromContext(ctx)
		if !ok {
			return rbac.ErrNotAuthorized
		}

		info, ok := p.AuthInfo.(credentials.TLSInfo)
		if !ok || len(info.State.PeerCertificates) == 0 {
			return rbac.ErrNotAuthorized
		}

		ctx = rbac.WithRoles(ctx, rbac.FromCertificate(ctx, info.State.PeerCertificates[0]))
	}

	return handler(srv, &wrapped{ServerStream: stream, ctx: ctx})
}

// direct is apid's routing: here, one other node, or several with merged answers.
func (b *boot) direct(ctx context.Context, method string) (proxy.Mode, []proxy.Backend, error) {
	here := []proxy.Backend{b.local}

	md, _ := metadata.FromIncomingContext(ctx)
	if _, forwarded := md["proxyfrom"]; forwarded || b.maintenance {
		return proxy.One2One, here, nil
	}

	nodes, several := md["nodes"]
	node, one := md["node"]

	if one && len(node) != 1 {
		return proxy.One2One, nil, status.Error(codes.InvalidArgument, "node metadata must be single-valued")
	}

	forwards := b.cfg.Forwards()
	if !forwards {
		if one && b.own(node[0]) {
			one = false
		}

		if several && len(nodes) == 1 && b.own(nodes[0]) {
			several = false
		}
	}

	switch {
	case several:
		if !mergeable(method) {
			return proxy.One2One, nil, status.Errorf(codes.InvalidArgument, "one-2-many proxying is not supported for method %s", method)
		}

		if !forwards {
			return proxy.One2One, nil, status.Error(codes.PermissionDenied, "no request forwarding")
		}

		backends := make([]proxy.Backend, 0, len(nodes))

		for _, target := range nodes {
			r, err := b.remote(target)
			if err != nil {
				return proxy.One2Many, nil, status.Error(codes.Internal, err.Error())
			}

			backends = append(backends, r)
		}

		return proxy.One2Many, backends, nil
	case one:
		if !forwards {
			return proxy.One2One, nil, status.Error(codes.PermissionDenied, "no request forwarding")
		}

		r, err := b.remote(node[0])
		if err != nil {
			return proxy.One2One, nil, status.Error(codes.Internal, err.Error())
		}

		return proxy.One2One, []proxy.Backend{r}, nil
	default:
		return proxy.One2One, here, nil
	}
}

// mergeable reports whether the answers of several nodes can be joined.
func mergeable(method string) bool {
	for _, prefix := range []string{
		"/machine.MachineService/", "/cluster.ClusterService/", "/inspect.InspectService/", "/storage.StorageService/", "/time.TimeService/",
	} {
		if strings.HasPrefix(method, prefix) {
			return true
		}
	}

	return false
}

// own reports whether a target is this node.
func (b *boot) own(target string) bool { return slices.Contains(b.cfg.Addresses(), target) }

func (b *boot) remote(target string) (*remoteBackend, error) {
	if _, _, err := net.SplitHostPort(target); target == "" || err == nil {
		return nil, fmt.Errorf("invalid target %q", target)
	}

	b.mu.Lock()
	defer b.mu.Unlock()

	if r, ok := b.remotes[target]; ok {
		return r, nil
	}

	r := &remoteBackend{
		target: target,
		from:   b.from,
		dial:   b.cfg.Dial,
		tls: &tls.Config{
			Certificates: []tls.Certificate{b.keys.Client}, RootCAs: b.keys.Roots, MinVersion: tls.VersionTLS13, ServerName: target,
		},
	}
	b.remotes[target] = r

	return r, nil
}

// wrapped is a stream with another context.
type wrapped struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // a wrapped stream needs it
}

func (w *wrapped) Context() context.Context { return w.ctx }
