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
	"sync/atomic"
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

// Pool is the connections to one cluster, one for each address. Nothing is dialled before the first call.
type Pool struct {
	Context *config.Context
	Options Options
	Confirm func(context.Context, *Conn) error // Asks whether the other end is the target, before each change; may be nil.

	source string

	mu      sync.Mutex
	conns   map[string]*way // By address; those of before under other names.
	changed chan struct{}   // Closed when the state of one changes.
	turn    atomic.Uint32   // Counts the calls over several of them.

	silent sync.Map // What is known of silent nodes, *hush by their address.

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

	return &Pool{Context: tc, Options: o, source: source, conns: map[string]*way{}, changed: make(chan struct{})}, nil
}

// Close closes every connection.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()

	var all []error

	for key, w := range p.conns {
		all = append(all, w.cc.Close())
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

	w, err := p.connect(t.Address)

	return p.straight(t, []*way{w}, err)
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
	if p.omni() {
		if len(p.Options.Endpoints) == 0 {
			return p.over(t, nil, noEndpoints()), func() error { return nil }
		}

		w, err := p.dial(p.Options.Endpoints[0])
		if err != nil {
			return p.over(t, nil, err), func() error { return nil }
		}

		return p.over(t, []*way{w}, nil), w.cc.Close
	}

	w, err := p.dial(t.Address)
	if err != nil {
		return p.straight(t, nil, err), func() error { return nil }
	}

	return p.straight(t, []*way{w}, nil), w.cc.Close
}

// Bare is Fresh for a node in maintenance mode: without a client certificate, and with any server certificate unless
// fingerprint (SHA-256, hex) pins it.
func (p *Pool) Bare(t target.Target, fingerprint string) (*Conn, func() error) {
	o := p.Options
	o.Insecure, o.Fingerprint = true, fingerprint

	return (&Pool{Options: o, source: "--insecure", conns: map[string]*way{}}).Fresh(t)
}

func (p *Pool) straight(t target.Target, ways []*way, err error) *Conn {
	c := p.over(t, ways, err)
	c.node, c.Direct = "", true

	return c
}

func (p *Pool) via(t target.Target, endpoints []string) *Conn {
	ways, err := p.waysTo(endpoints)

	return p.over(t, ways, err)
}

// Over returns the connection for a node over cc, a connection to an endpoint; err is why there is none.
func (p *Pool) Over(t target.Target, cc *grpc.ClientConn, err error) *Conn {
	return p.over(t, []*way{newWay(cc)}, err)
}

func (p *Pool) over(t target.Target, ways []*way, err error) *Conn {
	if refusal := p.Permit(t); refusal != nil && len(t.AnyOf) == 0 {
		err = refusal
	}

	return &Conn{Target: t, Pool: p, ways: ways, dialErr: err, node: t.Address}
}

func (p *Pool) connect(address string) (*way, error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if w, ok := p.conns[address]; ok {
		return w, nil
	}

	w, err := p.dial(address)
	if err == nil {
		p.conns[address] = w
	}

	return w, err
}

// ready returns an established connection to the node at the address, nil when none can be made before ctx ends. A
// failed connection is not waited for, because of its backoff.
func (p *Pool) ready(ctx context.Context, address string) *grpc.ClientConn {
	p.mu.Lock()
	w := p.conns[address]
	p.mu.Unlock()

	if w != nil && w.cc.GetState() == connectivity.Ready && !w.silent.Load() {
		return w.cc
	}

	w, err := p.dial(address)
	if err != nil {
		return nil
	}

	w.cc.Connect()

	for state := w.cc.GetState(); state != connectivity.Ready; state = w.cc.GetState() {
		if state == connectivity.TransientFailure || !w.cc.WaitForStateChange(ctx, state) {
			_ = w.cc.Close() // it was not used

			return nil
		}
	}

	p.keep(address, w)

	return w.cc
}

// Keep makes cc the connection to an address. Streams may still use the previous one; Close closes them all.
func (p *Pool) Keep(address string, cc *grpc.ClientConn) { p.keep(address, newWay(cc)) }

func (p *Pool) keep(address string, w *way) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if before := p.conns[address]; before != nil {
		p.conns[fmt.Sprintf("%s before %d", address, len(p.conns))] = before
	}

	p.conns[address] = w
}

func (p *Pool) dial(address string) (*way, error) { return p.dialWith(address, p.signing()) }

func noEndpoints() error {
	return errs.Usagef("the context has no endpoints").WithHint("talosmate config endpoint ADDRESS")
}

func (p *Pool) dialWith(address string, signing []grpc.DialOption) (*way, error) {
	host := resolver.EnsureEndpointsHavePorts([]string{strings.TrimPrefix(address, "https://")}, constants.ApidPort)[0]

	scheme := "dns"
	if len(p.Options.Endpoints) > 1 { // as talosctl's resolver of several endpoints, which leaves names to the dialer
		scheme = "passthrough"
	}

	through, err := p.dialer()
	if err != nil {
		return nil, err
	}

	w := newWay(nil)

	w.cc, err = grpc.NewClient(scheme+":///"+host, append(signing,
		grpc.WithTransportCredentials(credentials.NewTLS(p.tlsConfig())),
		grpc.WithContextDialer(w.listening(through)),
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
		return nil, errs.Usagef("cannot use the endpoint %s: %w", address, err)
	}

	return w, nil
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
