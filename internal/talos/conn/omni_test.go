package conn

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/siderolabs/go-api-signature/pkg/message"
	"github.com/siderolabs/go-api-signature/pkg/pgp"
	"github.com/siderolabs/go-api-signature/pkg/serviceaccount"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/config"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// omniEndpoint answers requests that the key signed, and keeps their metadata.
type omniEndpoint struct {
	machine.UnimplementedMachineServiceServer

	key *pgp.Key
	md  atomic.Pointer[metadata.MD]
}

func (o *omniEndpoint) Version(ctx context.Context, _ *emptypb.Empty) (*machine.VersionResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	o.md.Store(&md)

	if err := message.NewGRPC(md, machine.MachineService_Version_FullMethodName).VerifySignature(o.key); err != nil {
		return nil, err
	}

	return &machine.VersionResponse{Messages: []*machine.Version{{Version: &machine.VersionInfo{Tag: "v1.14.1"}}}}, nil
}

func TestOmni(t *testing.T) {
	t.Parallel()

	key, err := pgp.GenerateKey("ci", "", "ci@serviceaccount.omni.sidero.dev", time.Hour)
	if err != nil {
		t.Fatal(err)
	}

	encoded, err := serviceaccount.Encode("ci", key)
	if err != nil {
		t.Fatal(err)
	}

	endpoint := &omniEndpoint{key: key}

	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	srv := grpc.NewServer()
	machine.RegisterMachineServiceServer(srv, endpoint)

	go func() { _ = srv.Serve(l) }() // ends with Stop

	t.Cleanup(srv.Stop)

	pool, err := NewPool(&config.Context{Name: "omni", Omni: "me@example.org", Cluster: "prod", Endpoints: []string{l.Addr().String()}}, "test",
		Options{Omni: Omni{ServiceAccount: encoded}})
	if err != nil {
		t.Fatal(err)
	}

	if err = pool.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}

	// The signature is on the request, with or without TLS: the endpoint of this test has none.
	plain := func() (*grpc.ClientConn, error) {
		return grpc.NewClient(l.Addr().String(), append(pool.signing(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	}

	cc, err := plain()
	if err != nil {
		t.Fatal(err)
	}

	defer cc.Close() //nolint:errcheck // the test is over

	node := pool.Over(target.Target{Address: "10.0.0.7"}, cc, nil)
	if _, err = machine.NewMachineServiceClient(node).Version(t.Context(), &emptypb.Empty{}); err != nil {
		t.Fatal(err)
	}

	md := *endpoint.md.Load()
	if got := strings.Join(append(md.Get("node"), md.Get("context")...), " "); got != "10.0.0.7 prod" {
		t.Errorf("node and context: %q", got)
	}

	// Behind Omni nothing is dialled but Omni.
	for name, c := range map[string]*Conn{"straight": pool.Straight(target.Target{Address: "10.0.0.7"}), "to change": pool.ToChange(target.Target{Address: "10.0.0.7"})} {
		if c.node != "10.0.0.7" || c.Direct || c.ways[0].cc.Target() != "dns:///"+l.Addr().String() {
			t.Errorf("%s: %+v over %s", name, c, c.ways[0].cc.Target())
		}
	}

	fresh, done := pool.Fresh(target.Target{Address: "10.0.0.7"})
	if fresh.node != "10.0.0.7" || fresh.ways[0].cc.Target() != "dns:///"+l.Addr().String() {
		t.Errorf("fresh: %+v over %s", fresh, fresh.ways[0].cc.Target())
	}

	if err = errors.Join(done(), pool.Close()); err != nil {
		t.Error(err)
	}
}

func TestOmniWithoutKey(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		context config.Context
		omni    Omni
		code    errs.Code
		want    string
	}{
		"no key":                {config.Context{Name: "omni", Omni: "me@example.org"}, Omni{}, errs.Unreachable, "cannot sign requests as me@example.org"},
		"no service account":    {config.Context{Name: "omni", Omni: "me@example.org"}, Omni{ServiceAccount: "bm90IGpzb24="}, errs.Usage, "cannot use the Omni service account's key"},
		"a name that is a path": {config.Context{Name: "../../x", Omni: "me@example.org"}, Omni{}, errs.Usage, "is not a safe file name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			c.omni.KeysDir = t.TempDir()

			pool, err := NewPool(&c.context, "test", Options{Omni: c.omni, Endpoints: []string{"127.0.0.1:1"}})
			if err != nil {
				t.Fatal(err)
			}

			err = pool.SignIn(t.Context())
			if err == nil || errs.ExitCode(err) != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("exit code %d: %v", errs.ExitCode(err), err)
			}
		})
	}
}

// The context's proxy carries the connections; a proxy that is gone, or refuses, is an error, and nothing goes around it.
func TestProxyURL(t *testing.T) {
	t.Parallel()

	var dialled atomic.Int32

	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	defer l.Close() //nolint:errcheck // the test is over

	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}

			dialled.Add(1)
			_ = c.Close()
		}
	}()

	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer refusing.Close()

	for proxy, want := range map[string]string{
		"http://user:secret7@127.0.0.1:1": "proxy-url 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused",
		"socks5://127.0.0.1:1":            "proxy-url 127.0.0.1:1",
		refusing.URL:                      "proxy-url " + strings.TrimPrefix(refusing.URL, "http://"),
	} {
		pool, err := NewPool(&config.Context{Name: "a", Proxy: proxy, Endpoints: []string{l.Addr().String()}}, "test", Options{Insecure: true})
		if err != nil {
			t.Fatal(err)
		}

		node := pool.Straight(target.Target{Address: l.Addr().String()})

		_, err = machine.NewMachineServiceClient(node).Version(t.Context(), &emptypb.Empty{})
		err = node.Fail("read the version", err)

		if err == nil || errs.ExitCode(err) != errs.Unreachable || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret7") ||
			!strings.Contains(said(err), "the proxy in the context's proxy-url does not connect") {
			t.Errorf("%s: %s", proxy, said(err))
		}

		if err = pool.Close(); err != nil {
			t.Error(err)
		}
	}

	if n := dialled.Load(); n != 0 {
		t.Errorf("the node was dialled %d times", n)
	}

	var asked atomic.Pointer[string]

	carrying := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(&r.Host)
		w.WriteHeader(http.StatusOK) // and closes: the proxy was asked, which is what counts
	}))
	defer carrying.Close()

	pool, err := NewPool(&config.Context{Name: "a", Proxy: carrying.URL, Endpoints: []string{l.Addr().String()}}, "test", Options{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}

	_, err = machine.NewMachineServiceClient(pool.Straight(target.Target{Address: l.Addr().String()})).Version(t.Context(), &emptypb.Empty{})
	if host := asked.Load(); err == nil || host == nil || *host != l.Addr().String() {
		t.Errorf("the proxy was asked for %v: %v", host, err)
	}

	if err = pool.Close(); err != nil {
		t.Error(err)
	}

	for _, proxy := range []string{"ftp://127.0.0.1", "127.0.0.1:3128", "http://"} {
		pool, err := NewPool(&config.Context{Name: "a", Proxy: proxy, Endpoints: []string{"127.0.0.1"}}, "test", Options{})
		if err != nil {
			t.Fatal(err)
		}

		if err = pool.Straight(target.Target{Address: "127.0.0.1"}).dialErr; errs.ExitCode(err) != errs.Usage {
			t.Errorf("%s: %v", proxy, err)
		}
	}
}
