package talos

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/client/dialer"
	"github.com/siderolabs/talos/pkg/machinery/client/resolver"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/talos/config"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Options configure how a cluster is reached.
type Options struct {
	Endpoints   []string      // Override the context's endpoints.
	Insecure    bool          // Maintenance mode: no client certificate, any server certificate.
	Fingerprint string        // With Insecure: SHA-256 of the server's certificate, hex.
	Direct      bool          // Dial each node itself instead of going through an endpoint.
	Timeout     time.Duration // Per node, for reads.
	Concurrency int           // How many nodes are asked at once.
	Needs       []string      // Roles of which one suffices; for hints.
	Since       string        // The first Talos version that has the calls; for hints.
	Trace       io.Writer     // One line per RPC, nil for none.
	MaxRows     int           // Bounds the rows of a list from one node; MaxRows when 0.
	MaxBytes    int64         // Bounds the bytes of a list from one node; MaxBytes when 0.
	// Begin is called before each request that may change something; if it fails, the request is not sent. It may be
	// nil.
	Begin func() error
	// Elsewhere finds a node by name that is not in discovery because it is dead. It may be nil.
	Elsewhere func(ctx context.Context, name string) (t Target, found bool, err error)
}

// The words of package target that operations and commands use everywhere.
type (
	Target  = target.Target
	NodeRef = target.NodeRef
	Member  = target.Member
)

// Cluster is one talosconfig context with its connections. Nothing is dialled before the first call.
type Cluster struct {
	Context *config.Context
	Options Options

	source string

	mu      sync.Mutex
	conns   map[string]*grpc.ClientConn
	trace   sync.Mutex
	members func() ([]Member, error)
}

// NewCluster prepares access to a context. tc may be nil with Insecure. source names the talosconfig for messages.
func NewCluster(tc *config.Context, source string, o Options) (*Cluster, error) {
	if tc != nil && tc.Omni && !o.Insecure {
		return nil, errs.Usagef("context %q authenticates with Omni (auth.siderov1), which is not supported yet", tc.Name).
			WithHint("use a talosconfig with client certificates, or talosctl")
	}

	if len(o.Endpoints) == 0 && tc != nil {
		o.Endpoints = tc.Endpoints
	}

	if o.Concurrency < 1 {
		o.Concurrency = 1
	}

	return &Cluster{Context: tc, Options: o, source: source, conns: map[string]*grpc.ClientConn{}}, nil
}

// Close closes every connection.
func (c *Cluster) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()

	var all []error

	for key, cc := range c.conns {
		all = append(all, cc.Close())
		delete(c.conns, key)
	}

	return errors.Join(all...)
}

// Endpoints are the addresses that calls go through.
func (c *Cluster) Endpoints() []string { return c.Options.Endpoints }

// Node gives access to a node, through the endpoints unless the options say otherwise.
func (c *Cluster) Node(t Target) *Node {
	if len(t.AnyOf) > 0 {
		n := c.nodeVia(t, t.AnyOf)
		n.conn.node = ""

		return n
	}

	if c.Options.Insecure || c.Options.Direct {
		return c.DirectNode(t)
	}

	return c.nodeVia(t, c.Options.Endpoints)
}

// Endpoint gives access to any endpoint that answers, for requests that every one of them can answer.
func (c *Cluster) Endpoint() *Node {
	return c.Node(Target{Address: strings.Join(c.Options.Endpoints, ","), AnyOf: c.Options.Endpoints})
}

// DirectNode dials the node itself.
func (c *Cluster) DirectNode(t Target) *Node {
	n := c.nodeVia(t, []string{t.Address})
	n.conn.node, n.Direct = "", true

	return n
}

// ChangingNode gives access for a change: never through the node that is changed if there is another endpoint, since
// the answer would be lost with the node.
func (c *Cluster) ChangingNode(t Target) *Node {
	if c.Options.Insecure || c.Options.Direct {
		return c.DirectNode(t)
	}

	others := slices.DeleteFunc(slices.Clone(c.Options.Endpoints), func(e string) bool {
		host := target.Host(e)

		return host == t.Address || slices.Contains(t.Addresses, host)
	})

	if len(others) == 0 {
		return c.nodeVia(t, c.Options.Endpoints)
	}

	return c.nodeVia(t, others)
}

// Fresh dials the node itself over a connection of its own, which does not back off because of earlier failures. The
// caller closes it.
func (c *Cluster) Fresh(t Target) (*Node, func() error) {
	cc, err := c.dial([]string{t.Address})
	n := c.newNode(t, cc, err)
	n.conn.node, n.Direct = "", true

	if err != nil {
		return n, func() error { return nil }
	}

	return n, cc.Close
}

// Bare dials a node in maintenance mode: without a client certificate, and with any server certificate unless
// fingerprint (SHA-256, hex) pins it. The caller closes it.
func (c *Cluster) Bare(t Target, fingerprint string) (*Node, func() error) {
	o := c.Options
	o.Insecure, o.Fingerprint = true, fingerprint

	return (&Cluster{Options: o, source: "--insecure", conns: map[string]*grpc.ClientConn{}}).Fresh(t)
}

func (c *Cluster) nodeVia(t Target, endpoints []string) *Node {
	cc, err := c.connect(endpoints)

	return c.newNode(t, cc, err)
}

func (c *Cluster) newNode(t Target, cc *grpc.ClientConn, err error) *Node {
	return &Node{Target: t, cluster: c, conn: &conn{cc: cc, dialErr: err, node: t.Address, label: t.Address, cluster: c}}
}

func (c *Cluster) connect(endpoints []string) (*grpc.ClientConn, error) {
	key := strings.Join(endpoints, ",")

	c.mu.Lock()
	defer c.mu.Unlock()

	if cc, ok := c.conns[key]; ok {
		return cc, nil
	}

	cc, err := c.dial(endpoints)
	if err == nil {
		c.conns[key] = cc
	}

	return cc, err
}

// ready returns an established connection to the node at the address, nil when none can be made before ctx ends. A
// failed connection is not waited for, because of its backoff.
func (c *Cluster) ready(ctx context.Context, address string) *grpc.ClientConn {
	c.mu.Lock()
	cc := c.conns[address]
	c.mu.Unlock()

	if cc != nil && cc.GetState() == connectivity.Ready {
		return cc
	}

	cc, err := c.dial([]string{address})
	if err != nil {
		return nil
	}

	cc.Connect()

	for state := cc.GetState(); state != connectivity.Ready; state = cc.GetState() {
		if state == connectivity.TransientFailure || !cc.WaitForStateChange(ctx, state) {
			_ = cc.Close() // it was not used

			return nil
		}
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	// Streams may still use the previous one; Close closes them all.
	if before := c.conns[address]; before != nil {
		c.conns[fmt.Sprintf("%s before %d", address, len(c.conns))] = before
	}

	c.conns[address] = cc

	return cc
}

func (c *Cluster) dial(endpoints []string) (*grpc.ClientConn, error) {
	if len(endpoints) == 0 {
		return nil, errs.Usagef("the context has no endpoints").WithHint("name one with --endpoints, or run `talosmate config endpoint ADDRESS`")
	}

	hosts := make([]string, len(endpoints))
	for i, e := range endpoints {
		hosts[i] = strings.TrimPrefix(e, "https://")
	}

	hosts = resolver.EnsureEndpointsHavePorts(hosts, constants.ApidPort)

	target := "dns:///" + hosts[0]
	if len(hosts) > 1 {
		target = resolver.RoundRobinResolverScheme + ":///" + strings.Join(hosts, ",")
	}

	cc, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(credentials.NewTLS(c.tlsConfig())),
		grpc.WithContextDialer(dialer.DynamicProxyDialer),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(constants.GRPCMaxMessageSize)),
		grpc.WithInitialWindowSize(65535*32),
		grpc.WithInitialConnWindowSize(65535*16),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithUserAgent("talosmate"),
	)
	if err != nil {
		return nil, errs.Usagef("cannot use the endpoints %s: %w", strings.Join(endpoints, ", "), err)
	}

	return cc, nil
}

func (c *Cluster) tlsConfig() *tls.Config {
	if !c.Options.Insecure {
		if c.Context == nil {
			return &tls.Config{MinVersion: tls.VersionTLS12}
		}

		return c.Context.TLS()
	}

	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // maintenance mode has no CA yet; --cert-fingerprint pins it

	if want := strings.ToLower(strings.ReplaceAll(c.Options.Fingerprint, ":", "")); want != "" {
		cfg.VerifyConnection = func(state tls.ConnectionState) error {
			for _, cert := range state.PeerCertificates {
				if sum := sha256.Sum256(cert.Raw); hex.EncodeToString(sum[:]) == want {
					return nil
				}
			}

			return fmt.Errorf("tls: the node's certificate does not have the fingerprint %s", want)
		}
	}

	return cfg
}

func (c *Cluster) circumstances(node string, answered bool) circumstances {
	return circumstances{
		node: node, context: c.Context, source: c.source, needs: c.Options.Needs,
		answered: answered, insecure: c.Options.Insecure,
	}
}

func (c *Cluster) traceCall(node, method string, err error, took time.Duration) {
	if c.Options.Trace == nil {
		return
	}

	if node == "" {
		node = "endpoint"
	}

	code := "OK"

	var rpc *rpcError
	if errors.As(err, &rpc) {
		code = rpc.code.String()
	} else if err != nil && !errors.Is(err, io.EOF) {
		code = "Error"
	}

	c.trace.Lock()
	defer c.trace.Unlock()

	fmt.Fprintf(c.Options.Trace, "rpc %s %s %s %dms\n", iostreams.Line(node), method, code, took.Milliseconds())
}

// withTimeout bounds a read of one node.
func (c *Cluster) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.Options.Timeout <= 0 {
		return context.WithCancel(ctx)
	}

	return context.WithTimeout(ctx, c.Options.Timeout)
}
