package conn

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// gate is an endpoint whose connection can fall silent: what is written is lost, and nothing arrives any more.
type gate struct {
	machine.UnimplementedMachineServiceServer

	way    *way
	silent atomic.Bool
	busy   atomic.Int64 // How long what it sends is on its way.
	slow   atomic.Int64 // How long it takes for a hostname, or for a second line.
	mute   atomic.Bool  // It does not tell its version either.

	asked, changed atomic.Int32
}

func (g *gate) Version(ctx context.Context, _ *emptypb.Empty) (*machine.VersionResponse, error) {
	if g.mute.Load() {
		<-ctx.Done()
	}

	return &machine.VersionResponse{}, nil
}

func (g *gate) Hostname(ctx context.Context, _ *emptypb.Empty) (*machine.HostnameResponse, error) {
	g.asked.Add(1)

	select {
	case <-time.After(time.Duration(g.slow.Load())):
	case <-ctx.Done():
	}

	return &machine.HostnameResponse{}, nil
}

func (g *gate) Reboot(ctx context.Context, _ *machine.RebootRequest) (*machine.RebootResponse, error) {
	g.changed.Add(1)
	<-ctx.Done()

	return nil, ctx.Err()
}

func (g *gate) Logs(r *machine.LogsRequest, stream grpc.ServerStreamingServer[common.Data]) error {
	g.asked.Add(1)

	if err := stream.Send(&common.Data{Bytes: []byte("line")}); err != nil || !r.GetFollow() {
		return err
	}

	if g.slow.Load() > 0 {
		<-time.After(time.Duration(g.slow.Load()))

		return stream.Send(&common.Data{Bytes: []byte("line")})
	}

	<-stream.Context().Done()

	return stream.Context().Err()
}

// muffled is the connection to a gate.
type muffled struct {
	net.Conn

	gate   *gate
	closed chan struct{}
	once   *sync.Once
}

func (m muffled) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	if m.gate.silent.Load() {
		<-m.closed

		return 0, net.ErrClosed
	}

	if late := m.gate.busy.Load(); late > 0 {
		select {
		case <-time.After(time.Duration(late)):
		case <-m.closed:
		}
	}

	return n, err
}

func (m muffled) Write(b []byte) (int, error) {
	if m.gate.silent.Load() {
		return len(b), nil
	}

	return m.Conn.Write(b)
}

func (m muffled) Close() error {
	m.once.Do(func() { close(m.closed) })

	return m.Conn.Close()
}

// gates are n endpoints that are connected, and a node behind them.
func gates(t *testing.T, n int) ([]*gate, *Conn, func()) {
	t.Helper()

	p := emptyPool(t)
	c := p.over(target.Target{Address: "10.0.0.9"}, nil, nil)

	var (
		all  []*gate
		stop []func()
	)

	for range n {
		g := &gate{way: newWay(nil)}
		l := bufconn.Listen(1 << 16)
		srv := grpc.NewServer()
		machine.RegisterMachineServiceServer(srv, g)

		go func() { _ = srv.Serve(l) }() // ends with Stop

		var err error

		g.way.cc, err = grpc.NewClient("passthrough:///gate", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(g.way.listening(func(ctx context.Context, _ string) (net.Conn, error) {
				conn, err := l.DialContext(ctx)

				return muffled{conn, g, make(chan struct{}), &sync.Once{}}, err
			})))
		if err != nil {
			t.Fatal(err)
		}

		if _, err = machine.NewMachineServiceClient(g.way.cc).Version(t.Context(), &emptypb.Empty{}); err != nil {
			t.Fatal(err)
		}

		all, c.ways = append(all, g), append(c.ways, g.way)
		stop = append(stop, srv.Stop, func() { _ = g.way.cc.Close() })
	}

	return all, c, func() {
		for _, g := range all { // or the server would wait for its clients
			g.silent.Store(false)
		}

		for _, f := range stop {
			f()
		}
	}
}

func hostname(t *testing.T, c *Conn, within time.Duration) error {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()

	_, err := machine.NewMachineServiceClient(c).Hostname(ctx, &emptypb.Empty{})

	return err
}

// TestSilentEndpoint asks through three endpoints of which one falls silent: whoever is asked over its connection is asked
// over another one in time, and nobody after that.
func TestSilentEndpoint(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		all, c, stop := gates(t, 3)
		defer stop()

		all[1].silent.Store(true)

		began := time.Now()

		for range 12 {
			if err := hostname(t, c, 30*time.Second); err != nil {
				t.Error(err)
			}
		}

		if took := time.Since(began); took > 3*quietRead || !all[1].way.silent.Load() || all[0].way.silent.Load() || all[2].way.silent.Load() {
			t.Errorf("12 reads took %s, silent: %t %t %t", took, all[0].way.silent.Load(), all[1].way.silent.Load(), all[2].way.silent.Load())
		}

		if all[0].asked.Load()+all[2].asked.Load() != 12 {
			t.Errorf("the others were asked %d and %d times, want 12 together", all[0].asked.Load(), all[2].asked.Load())
		}

		for _, g := range all { // all are silent: the deadline ends it
			g.silent.Store(true)
		}

		began = time.Now()
		if err := hostname(t, c, 30*time.Second); KindOf(err) != errs.KindTimeout || time.Since(began) != 30*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// TestSlowNode asks for something that takes the node longer than the patience with its endpoint, which answers: the node
// is asked once.
func TestSlowNode(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		all, c, stop := gates(t, 2)
		defer stop()

		for _, g := range all {
			g.slow.Store(int64(25 * time.Second))
		}

		if err := hostname(t, c, 30*time.Second); err != nil || all[0].asked.Load()+all[1].asked.Load() != 1 || all[0].way.silent.Load() || all[1].way.silent.Load() {
			t.Errorf("asked %d and %d times: %v", all[0].asked.Load(), all[1].asked.Load(), err)
		}
	})
}

// TestSilentEndpointOfAChange sends changes through two endpoints that fall silent. None is sent twice, its outcome is
// unknown before the limit of the request, and the next one takes the other endpoint.
func TestSilentEndpointOfAChange(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		all, c, stop := gates(t, 2)
		defer stop()

		ended := make(chan error)
		began := time.Now()

		go func() {
			_, err := machine.NewMachineServiceClient(c).Reboot(t.Context(), &machine.RebootRequest{})
			ended <- err
		}()

		synctest.Wait()

		for _, g := range all {
			g.silent.Store(g.changed.Load() == 1)
		}

		if err := <-ended; KindOf(err) != errs.KindUnknownOutcome || time.Since(began) > 3*quietChange || time.Since(began) >= requestLimit {
			t.Errorf("%v after %s, want an unknown outcome", err, time.Since(began))
		}

		if n := all[0].changed.Load() + all[1].changed.Load(); n != 1 {
			t.Errorf("the change was sent %d times", n)
		}

		began = time.Now()
		if err := hostname(t, c, 30*time.Second); err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// TestSilentEndpointOfAStream follows a log while its endpoint falls silent: the stream ends within seconds. Before the
// first message it is opened over the other endpoint.
func TestSilentEndpointOfAStream(t *testing.T) {
	t.Parallel()

	follow := func(t *testing.T, c *Conn, first func()) error {
		t.Helper()

		return Pull(t.Context(), c, "follow the logs", 0, func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
			return machine.NewMachineServiceClient(c).Logs(ctx, &machine.LogsRequest{Follow: true})
		}, func(*common.Data) error {
			first()

			return nil
		})
	}

	synctest.Test(t, func(t *testing.T) {
		all, c, stop := gates(t, 2)
		defer stop()

		// It answers once, stays quiet for a while, and falls silent.
		began := time.Now()

		err := follow(t, c, func() {
			time.AfterFunc(time.Minute, func() {
				all[0].silent.Store(true)
				all[1].silent.Store(true)
			})
		})
		if KindOf(err) != errs.KindUnreachable || time.Since(began) <= time.Minute || time.Since(began) > time.Minute+3*quietStream {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})

	synctest.Test(t, func(t *testing.T) {
		all, c, stop := gates(t, 2)
		defer stop()

		all[0].silent.Store(true)

		for range 2 {
			ctx, cancel := context.WithCancelCause(t.Context())
			began := time.Now()

			err := Pull(ctx, c, "follow the logs", 0, func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
				return machine.NewMachineServiceClient(c).Logs(ctx, &machine.LogsRequest{Follow: true})
			}, func(*common.Data) error { return ErrStop })
			if err != nil || time.Since(began) > 3*quietStream {
				t.Errorf("%v after %s", err, time.Since(began))
			}

			cancel(nil)
		}

		if all[0].asked.Load() != 0 || all[1].asked.Load() != 2 {
			t.Errorf("asked %d and %d times", all[0].asked.Load(), all[1].asked.Load())
		}
	})
}

// TestBusyEndpointsOfAStream reads a list from endpoints that have too much to do: nothing comes for longer than the patience, not
// even an answer to a small request. What was received cannot be asked for again elsewhere, so the deadline decides.
func TestBusyEndpointsOfAStream(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		all, c, stop := gates(t, 3)
		defer stop()

		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()

		lines := 0

		for _, g := range all {
			g.slow.Store(int64(time.Second))
		}

		err := Pull(ctx, c, "read the logs", 0, func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
			return machine.NewMachineServiceClient(c).Logs(ctx, &machine.LogsRequest{Follow: true})
		}, func(*common.Data) error {
			lines++

			for _, g := range all {
				g.busy.Store(int64(4 * quietRead))
			}

			return nil
		})
		if err != nil || lines != 2 {
			t.Errorf("%d lines, %v", lines, err)
		}
	})
}
