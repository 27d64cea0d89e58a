package conn

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// errQuiet is why a call is given up whose connection is dead.
var errQuiet = errors.New("nothing came over the connection, also no answer to a small request")

// way is the connection to one address.
type way struct {
	cc   *grpc.ClientConn
	base time.Time // What the times below count from: a clock that is set does not change them.

	heard  atomic.Int64 // When the last byte came. It stays 0 for a connection that was not made here.
	dead   atomic.Int64 // When the connection was found dead.
	silent atomic.Bool  // A call failed over it in silence: others are preferred for the rest of the run.

	probing sync.Mutex
	follow  sync.Once
}

func newWay(cc *grpc.ClientConn) *way { return &way{cc: cc, base: time.Now()} }

func (w *way) now() int64 { return int64(time.Since(w.base)) }

// heardConn is a connection that notes when it received something.
type heardConn struct {
	net.Conn

	way *way
}

func (h heardConn) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	if n > 0 {
		h.way.heard.Store(max(h.way.now(), 1))
	}

	return n, err
}

// listening makes a dialer whose connections are noted for the way.
func (w *way) listening(dial func(context.Context, string) (net.Conn, error)) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		c, err := dial(ctx, address)
		if err != nil {
			return nil, err
		}

		return heardConn{c, w}, nil
	}
}

// choose returns the way for a call: in turn among those that are connected, and one that was silent only if no other can
// be connected. It waits while a better one may be. If none can be connected, the call over the one that it returns fails
// with the reason.
func (p *Pool) choose(ctx context.Context, ways []*way) *way {
	if len(ways) == 1 {
		return ways[0] // gRPC waits
	}

	for _, w := range ways {
		w.follow.Do(func() { go p.reconnect(context.WithoutCancel(ctx), w) })
	}

	first := int(p.turn.Add(1))

	for {
		changed := p.changes()

		var (
			best  *way
			least = 4
		)

		for i := range ways {
			w := ways[(first+i)%len(ways)]
			if rank := w.rank(); rank < least {
				best, least = w, rank
			}
		}

		if least != mayConnect {
			return best
		}

		select {
		case <-changed:
		case <-ctx.Done():
			return best
		}
	}
}

// The ranks of ways, the best first.
const (
	connected = iota
	mayConnect
	connectedSilent
	failed
)

func (w *way) rank() int {
	state := w.cc.GetState()

	switch {
	case state == connectivity.Ready && !w.silent.Load():
		return connected
	case state == connectivity.Ready:
		return connectedSilent
	case state == connectivity.TransientFailure || state == connectivity.Shutdown || w.silent.Load():
		return failed
	default:
		return mayConnect
	}
}

// fit reports whether no call has failed over the way in silence.
func (w *way) fit() bool { return !w.silent.Load() }

// reconnect keeps the way connected until the pool is closed, and tells those who wait of each change.
func (p *Pool) reconnect(ctx context.Context, w *way) {
	for state := w.cc.GetState(); state != connectivity.Shutdown; state = w.cc.GetState() {
		if state == connectivity.Idle {
			w.cc.Connect()
		}

		if !w.cc.WaitForStateChange(ctx, state) {
			return
		}

		p.mu.Lock()
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
}

// changes is closed when the state of a way changes.
func (p *Pool) changes() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.changed
}

// How long a connection may be quiet while somebody waits for an answer, before the endpoint is asked for a small one, and
// how long that may take.
const (
	quietRead   = 3 * time.Second // A read that can be asked again over another way; less with a short deadline.
	quietLeast  = 2 * time.Second // A read with less time than this is not asked again.
	quietStream = 10 * time.Second
	quietChange = 20 * time.Second // What is lost then cannot be asked again.
)

// patience is how long a call waits over a quiet connection, 0 if for as long as the caller lets it.
func (c *Conn) patience(ctx context.Context, w *way, change, stream bool) time.Duration {
	other := c.elsewhere(w)
	end, limited := ctx.Deadline()

	switch {
	case change && other:
		return quietChange
	case change:
		return 0 // WhileAlive asks over the same connection
	case stream && !limited:
		return quietStream
	case other && (!limited || time.Until(end) >= quietLeast):
		if limited {
			return min(time.Until(end)/4, quietRead)
		}

		return quietRead
	default:
		return 0
	}
}

// elsewhere reports whether a call can be made over another way than w.
func (c *Conn) elsewhere(w *way) bool {
	return slices.ContainsFunc(c.ways, func(o *way) bool { return o != w && o.fit() })
}

// watch cancels a call with errQuiet if nothing comes over its connection for as long as the patience, and no answer to a
// small request within the same time. The endpoint itself answers that one: a node behind it that does not answer is
// not its fault. Pings of HTTP/2 would be cheaper; Talos keeps the default of gRPC's servers, which close the connection of a
// client that pings more often than every five minutes. An endpoint that has too much to do looks the same, so that a call for
// which it is useless, as it cannot be made again and has a deadline, is not cancelled.
func (w *way) watch(ctx context.Context, patience time.Duration, waits, useful func() bool, cancel context.CancelCauseFunc) (stop func() bool) {
	began := w.now()

	var timer *time.Timer

	timer = time.AfterFunc(time.Hour, func() {
		if ctx.Err() != nil {
			return
		}

		last := max(w.heard.Load(), began)

		switch quiet := time.Duration(w.now() - last); {
		case w.heard.Load() == 0: // not a connection that is listened to, or not connected yet
			timer.Reset(patience)
		case w.dead.Load() > last:
			w.silent.Store(true)

			if useful() {
				cancel(errQuiet)
			}
		case quiet < patience || !waits():
			timer.Reset(max(patience-quiet, patience/8))
		case !w.probing.TryLock(): // by another call
			timer.Reset(patience / 8)
		default:
			w.probe(ctx, patience)
			w.probing.Unlock()
			timer.Reset(patience / 8)
		}
	})
	timer.Reset(patience)

	return timer.Stop
}

// probe asks the endpoint itself for its version, and marks the connection as dead if nothing comes.
func (w *way) probe(ctx context.Context, within time.Duration) {
	began := w.now()

	asking, cancel := context.WithTimeout(direct(ctx), within)
	defer cancel()

	_, err := machine.NewMachineServiceClient(w.cc).Version(asking, &emptypb.Empty{})
	if status.Code(err) == codes.DeadlineExceeded && ctx.Err() == nil && w.heard.Load() < began {
		w.dead.Store(w.now())
	}
}

// over makes a call over one way after another until one does not prove to be dead, over the first only if it changes
// something.
func (c *Conn) over(ctx context.Context, change bool, call func(context.Context, *grpc.ClientConn) error) error {
	for {
		w := c.Pool.choose(ctx, c.ways)
		began := w.now()
		patience := c.patience(ctx, w, change, false)

		err := w.guarded(ctx, patience, func() bool { return change || c.elsewhere(w) }, call)

		switch {
		case errors.Is(err, errQuiet) && !change:
			continue
		case status.Code(err) == codes.DeadlineExceeded && w.heard.Load() < began:
			w.silent.Store(true)
		}

		return err
	}
}

func (w *way) guarded(ctx context.Context, patience time.Duration, useful func() bool, call func(context.Context, *grpc.ClientConn) error) error {
	if patience == 0 {
		return call(ctx, w.cc)
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	defer w.watch(ctx, patience, func() bool { return true }, useful, cancel)()

	return quiet(ctx, call(ctx, w.cc))
}

// quiet is the error of a call, errQuiet if it was given up for that.
func quiet(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errQuiet) {
		return &quietError{}
	}

	return err
}

// quietError is errQuiet as the end of a call.
type quietError struct{}

func (quietError) Error() string              { return errQuiet.Error() }
func (quietError) Unwrap() error              { return errQuiet }
func (quietError) GRPCStatus() *status.Status { return status.New(codes.Unavailable, errQuiet.Error()) }

// waysTo are the ways to endpoints.
func (p *Pool) waysTo(endpoints []string) ([]*way, error) {
	var ways []*way

	for _, e := range endpoints {
		w, err := p.connect(strings.TrimPrefix(e, "https://"))
		if err != nil {
			return nil, err
		}

		ways = append(ways, w)
	}

	if len(ways) == 0 {
		return nil, noEndpoints()
	}

	return ways, nil
}
