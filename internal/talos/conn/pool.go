package conn

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/siderolabs/go-api-signature/pkg/client/interceptor"
	"github.com/siderolabs/talos/pkg/machinery/client/dialer"
	"github.com/siderolabs/talos/pkg/machinery/client/resolver"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/lists"
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
	Omni  Omni // How requests are signed if the context authenticates with Omni.
	// Allowed are lists of nodes; a node is asked only if each of them has it. Endpoints are asked as such even where they
	// are not in the lists, and then only read from: names and sets could not be resolved otherwise.
	Allowed []target.Allowed
}

// Pool is the connections to one cluster, one for each set of endpoints. Nothing is dialled before the first call.
type Pool struct {
	Context *config.Context
	Options Options
	Confirm func(context.Context, *Conn) error // Asks whether the other end is the target, before each change; may be nil.

	source string

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn

	signed *interceptor.Interceptor // Signs the requests to Omni; nil for others.
	login  sync.Mutex
	trace  sync.Mutex
}

// NewPool prepares access to a context. tc may be nil with Insecure. source names the talosconfig for messages.
func NewPool(tc *config.Context, source string, o Options) (*Pool, error) {
	if len(o.Endpoints) == 0 && tc != nil {
		o.Endpoints = tc.Endpoints
	}

	if o.Concurrency < 1 {
		o.Concurrency = 1
	}

	return &Pool{Context: tc, Options: o, source: source, conns: map[string]*grpc.ClientConn{}}, nil
}

// Close closes every connection.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()

	var all []error

	for key, cc := range p.conns {
		all = append(all, cc.Close())
		delete(p.conns, key)
	}

	return errors.Join(all...)
}

// Permit refuses a node that is not among those that the options allow.
func (p *Pool) Permit(t target.Target) error {
	for _, allowed := range p.Options.Allowed {
		if err := allowed.Check(t); err != nil {
			return err
		}
	}

	return nil
}

// permitChange refuses a change through an endpoint that was not chosen as a node, unless every endpoint is allowed.
func (c *Conn) permitChange() error {
	for _, endpoint := range c.AnyOf {
		if err := c.Pool.Permit(target.Target{Address: target.Host(endpoint)}); err != nil {
			return err
		}
	}

	return nil
}

// Endpoints are the addresses that calls go through.
func (p *Pool) Endpoints() []string { return p.Options.Endpoints }

// To returns the connection for a node, through the endpoints unless the options say otherwise.
func (p *Pool) To(t target.Target) *Conn {
	switch {
	case len(t.AnyOf) > 0:
		c := p.via(t, t.AnyOf)
		c.node = ""

		return c
	case p.Options.Insecure || p.Options.Direct:
		return p.Straight(t)
	default:
		return p.via(t, p.Options.Endpoints)
	}
}

// Straight returns the connection for a node that is dialled itself; behind Omni it is reached through Omni only.
func (p *Pool) Straight(t target.Target) *Conn {
	if p.omni() {
		return p.via(t, p.Options.Endpoints)
	}

	cc, err := p.connect([]string{t.Address})

	return p.straight(t, cc, err)
}

// ToChange returns the connection for a change: never through the node that is changed if there is another endpoint, since
// the answer would be lost with the node.
func (p *Pool) ToChange(t target.Target) *Conn {
	if p.Options.Insecure || p.Options.Direct {
		return p.Straight(t)
	}

	others := slices.DeleteFunc(slices.Clone(p.Options.Endpoints), t.Has)

	if len(others) == 0 {
		others = p.Options.Endpoints
	}

	return p.via(t, others)
}

// Fresh dials the node itself over a connection of its own, which does not back off because of earlier failures. The
// caller closes it.
func (p *Pool) Fresh(t target.Target) (*Conn, func() error) {
	dial, over := []string{t.Address}, p.straight
	if p.omni() {
		dial, over = p.Options.Endpoints, p.Over
	}

	cc, err := p.dial(dial)
	if err != nil {
		return over(t, cc, err), func() error { return nil }
	}

	return over(t, cc, err), cc.Close
}

// Bare is Fresh for a node in maintenance mode: without a client certificate, and with any server certificate unless
// fingerprint (SHA-256, hex) pins it.
func (p *Pool) Bare(t target.Target, fingerprint string) (*Conn, func() error) {
	o := p.Options
	o.Insecure, o.Fingerprint = true, fingerprint

	return (&Pool{Options: o, source: "--insecure", conns: map[string]*grpc.ClientConn{}}).Fresh(t)
}

func (p *Pool) straight(t target.Target, cc *grpc.ClientConn, err error) *Conn {
	c := p.Over(t, cc, err)
	c.node, c.Direct = "", true

	return c
}

func (p *Pool) via(t target.Target, endpoints []string) *Conn {
	cc, err := p.connect(endpoints)

	return p.Over(t, cc, err)
}

// Over returns the connection for a node over cc, a connection to an endpoint; err is why there is none.
func (p *Pool) Over(t target.Target, cc *grpc.ClientConn, err error) *Conn {
	if refusal := p.Permit(t); refusal != nil && len(t.AnyOf) == 0 {
		err = refusal
	}

	return &Conn{Target: t, Pool: p, cc: cc, dialErr: err, node: t.Address}
}

func (p *Pool) connect(endpoints []string) (*grpc.ClientConn, error) {
	key := strings.Join(endpoints, ",")

	p.mu.Lock()
	defer p.mu.Unlock()

	if cc, ok := p.conns[key]; ok {
		return cc, nil
	}

	cc, err := p.dial(endpoints)
	if err == nil {
		p.conns[key] = cc
	}

	return cc, err
}

// ready returns an established connection to the node at the address, nil when none can be made before ctx ends. A
// failed connection is not waited for, because of its backoff.
func (p *Pool) ready(ctx context.Context, address string) *grpc.ClientConn {
	p.mu.Lock()
	cc := p.conns[address]
	p.mu.Unlock()

	if cc != nil && cc.GetState() == connectivity.Ready {
		return cc
	}

	cc, err := p.dial([]string{address})
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

	p.Keep(address, cc)

	return cc
}

// Keep makes cc the connection to an address. Streams may still use the previous one; Close closes them all.
func (p *Pool) Keep(address string, cc *grpc.ClientConn) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if before := p.conns[address]; before != nil {
		p.conns[fmt.Sprintf("%s before %d", address, len(p.conns))] = before
	}

	p.conns[address] = cc
}

func (p *Pool) dial(endpoints []string) (*grpc.ClientConn, error) {
	return p.dialWith(endpoints, p.signing())
}

func (p *Pool) dialWith(endpoints []string, signing []grpc.DialOption) (*grpc.ClientConn, error) {
	if len(endpoints) == 0 {
		return nil, errs.Usagef("the context has no endpoints").WithHint("talosmate config endpoint ADDRESS")
	}

	hosts := lists.Map(endpoints, func(e string) string { return strings.TrimPrefix(e, "https://") })
	hosts = resolver.EnsureEndpointsHavePorts(hosts, constants.ApidPort)

	target := "dns:///" + hosts[0]
	if len(hosts) > 1 {
		target = resolver.RoundRobinResolverScheme + ":///" + strings.Join(hosts, ",")
	}

	through, err := p.dialer()
	if err != nil {
		return nil, err
	}

	cc, err := grpc.NewClient(target, append(signing,
		grpc.WithTransportCredentials(credentials.NewTLS(p.tlsConfig())),
		grpc.WithContextDialer(through),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(constants.GRPCMaxMessageSize)),
		grpc.WithInitialWindowSize(65535*32),
		grpc.WithInitialConnWindowSize(65535*16),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithUserAgent("talosmate"),
	)...)
	if err != nil {
		return nil, errs.Usagef("cannot use the endpoints %s: %w", strings.Join(endpoints, ", "), err)
	}

	return cc, nil
}

// dialer dials through the context's proxy, else through that of the environment if there is one. A proxy that does not
// answer is an error: nothing is dialled around it.
func (p *Pool) dialer() (func(context.Context, string) (net.Conn, error), error) {
	if p.Context == nil || p.Context.Proxy == "" {
		return dialer.DynamicProxyDialer, nil
	}

	proxy := p.Context.Proxy
	if proxy == "direct" {
		return dialer.ForProxyURL(proxy), nil
	}

	u, err := url.Parse(proxy)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, u.Scheme) {
		return nil, errs.Usagef("proxy-url of context %q is not an http, https or socks5 URL, nor `direct`", p.Context.Name)
	}

	dial := dialer.ForProxyURL(proxy)

	return func(ctx context.Context, address string) (net.Conn, error) {
		c, err := dial(ctx, address)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", proxyFailed, u.Host, err)
		}

		return c, nil
	}, nil
}

// proxyFailed begins the reason of a connection that the context's proxy did not make.
const proxyFailed = "proxy-url"

func (p *Pool) tlsConfig() *tls.Config {
	if !p.Options.Insecure {
		if p.Context == nil {
			return &tls.Config{MinVersion: tls.VersionTLS12}
		}

		return p.Context.TLS()
	}

	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // G402: maintenance mode has no CA yet; --cert-fingerprint pins it

	if want := strings.ToLower(strings.ReplaceAll(p.Options.Fingerprint, ":", "")); want != "" {
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

func (p *Pool) traceCall(node, method string, err error, took time.Duration) {
	if p.Options.Trace == nil {
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

	p.trace.Lock()
	defer p.trace.Unlock()

	fmt.Fprintf(p.Options.Trace, "rpc %s %s %s %dms\n", iostreams.Line(node), method, code, took.Milliseconds())
}

// Idle is how long a node may be silent in a stream that ends on its own: the read timeout.
func (p *Pool) Idle() time.Duration { return p.Options.Timeout }
