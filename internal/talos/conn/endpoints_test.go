package conn

import (
	"context"
	"net"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/talos/target"
)

// entrance is an endpoint on a socket of its own: it counts connections and requests, and holds the latter when told to.
type entrance struct {
	machine.UnimplementedMachineServiceServer
	net.Listener

	conns, asked atomic.Int32
	hold         atomic.Pointer[hold]
}

// hold is how requests are held: each is told of, and answered when release is closed.
type hold struct{ taken, release chan struct{} }

func (e *entrance) Accept() (net.Conn, error) {
	c, err := e.Listener.Accept()
	if err == nil {
		e.conns.Add(1)
	}

	return c, err
}

func (e *entrance) Version(context.Context, *emptypb.Empty) (*machine.VersionResponse, error) {
	e.asked.Add(1)

	if h := e.hold.Load(); h != nil {
		h.taken <- struct{}{}
		<-h.release
	}

	return &machine.VersionResponse{Messages: []*machine.Version{{}}}, nil
}

func (e *entrance) address() string { return e.Listener.Addr().String() }

func listen(t *testing.T) net.Listener {
	t.Helper()

	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = l.Close() })

	return l
}

func newEntrance(t *testing.T) *entrance {
	t.Helper()

	borrowed := httptest.NewUnstartedServer(nil) // for its certificate
	borrowed.StartTLS()
	t.Cleanup(borrowed.Close)

	e := &entrance{Listener: listen(t)}
	srv := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&borrowed.TLS.Certificates[0])))
	machine.RegisterMachineServiceServer(srv, e)

	go func() { _ = srv.Serve(e) }() // ends with Stop

	t.Cleanup(srv.Stop)

	return e
}

// through asks n nodes through endpoints, all at once, and returns when they have answered.
func through(t *testing.T, p *Pool, endpoints []string, n int) {
	t.Helper()

	var group sync.WaitGroup

	for range n {
		group.Go(func() {
			c := p.via(target.Target{Address: "10.0.0.9"}, endpoints)
			if _, err := machine.NewMachineServiceClient(c).Version(t.Context(), &emptypb.Empty{}); err != nil {
				t.Error(err)
			}
		})
	}

	group.Wait()
}

// TestEndpointsShareTheWork asks many nodes through three endpoints: each endpoint has one connection and a third of the
// requests, whether or not those before were answered.
func TestEndpointsShareTheWork(t *testing.T) {
	t.Parallel()

	p := emptyPool(t)
	t.Cleanup(func() { _ = p.Close() })

	var (
		endpoints []string
		all       []*entrance
	)

	for range 3 {
		e := newEntrance(t)
		all, endpoints = append(all, e), append(endpoints, e.address())
	}

	for all[0].asked.Load()*all[1].asked.Load()*all[2].asked.Load() == 0 {
		through(t, p, endpoints, 1) // until the last connection stands
	}

	h := &hold{make(chan struct{}), make(chan struct{})}

	for _, e := range all {
		e.asked.Store(0)
		e.hold.Store(h)
	}

	done := make(chan struct{})

	go func() {
		defer close(done)

		through(t, p, endpoints, 30)
	}()

	for range 30 {
		<-h.taken
	}

	close(h.release)
	<-done

	for i, e := range all {
		if e.conns.Load() != 1 || e.asked.Load() < 8 {
			t.Errorf("endpoint %d has %d connections and %d requests, want 1 and a third of 30", i, e.conns.Load(), e.asked.Load())
		}
	}
}

// TestDeadEndpoints asks through three endpoints of which two are dead: one refuses connections, the other accepts them and
// is silent. Neither holds up a request: they are tried once, beside the one that answers.
func TestDeadEndpoints(t *testing.T) {
	t.Parallel()

	p := emptyPool(t)
	t.Cleanup(func() { _ = p.Close() })

	alive, closed, silent := newEntrance(t), listen(t), &entrance{Listener: listen(t)}
	_ = closed.Close()

	go func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}

			defer c.Close() //nolint:errcheck // it holds it until the end of the test
		}
	}()

	through(t, p, []string{closed.Addr().String(), silent.address(), alive.address()}, 48)

	if alive.asked.Load() != 48 || alive.conns.Load() != 1 || silent.conns.Load() > 1 {
		t.Errorf("the live endpoint has %d requests over %d connections, the silent one %d connections; want 48, 1 and at most 1",
			alive.asked.Load(), alive.conns.Load(), silent.conns.Load())
	}
}
