package apid

import (
	"io"
	"net"
	"sync"
	"time"

	"github.com/talosmate/talosmate/lab/internal/faults"
)

// gate is the network of one node. It can hold all data without closing a connection.
type gate struct {
	faults *faults.Set

	mu   sync.Mutex
	cond *sync.Cond
	hung bool

	conns map[string]*wire
	bad   bad // guarded by mu
}

func newGate(armed *faults.Set) *gate {
	g := &gate{faults: armed, conns: map[string]*wire{}}
	g.cond = sync.NewCond(&g.mu)

	return g
}

// hang makes the gate hold all data, or lets it pass again.
func (g *gate) hang(on bool) {
	g.mu.Lock()
	g.hung = on
	g.mu.Unlock()
	g.cond.Broadcast()
}

// connKey names a connection: the same client address may be connected to two addresses of the node.
func connKey(local, remote net.Addr) string { return local.String() + " " + remote.String() }

// kill closes one connection.
func (g *gate) kill(local, remote net.Addr) {
	g.mu.Lock()
	w := g.conns[connKey(local, remote)]
	g.mu.Unlock()

	if w != nil {
		w.sever()
	}
}

// closeAll closes every connection, as a machine that loses power does.
func (g *gate) closeAll() { g.closeWhere(func(*wire) bool { return true }) }

// closeTo closes the connections to one of the node's addresses.
func (g *gate) closeTo(address string) {
	g.closeWhere(func(w *wire) bool { return w.LocalAddr().String() == address })
}

func (g *gate) closeWhere(which func(*wire) bool) {
	g.mu.Lock()

	wires := make([]*wire, 0, len(g.conns))

	for _, w := range g.conns {
		if which(w) {
			wires = append(wires, w)
		}
	}

	g.mu.Unlock()

	for _, w := range wires {
		w.sever()
	}
}

// listener returns connections that pass through the gate.
type listener struct {
	net.Listener

	gate *gate
}

func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}

	w := &wire{Conn: conn, gate: l.gate}

	l.gate.mu.Lock()
	l.gate.conns[w.key()] = w
	l.gate.mu.Unlock()

	return w, nil
}

// wire is one connection through the gate.
type wire struct {
	net.Conn

	gate   *gate
	closed bool // guarded by gate.mu
	met    bad  // guarded by gate.mu

	in, out bent
}

func (w *wire) key() string { return connKey(w.LocalAddr(), w.RemoteAddr()) }

// pass waits while the gate is hung; it returns false when the connection was closed meanwhile.
func (w *wire) pass() bool {
	w.gate.mu.Lock()
	defer w.gate.mu.Unlock()

	for w.gate.hung && !w.closed {
		w.gate.cond.Wait()
	}

	return !w.closed
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.receive(p)

	// data read while the gate is hung is delivered only after it opens
	if !w.pass() {
		return 0, net.ErrClosed
	}

	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	if !w.pass() {
		return 0, net.ErrClosed
	}

	return w.send(p)
}

func (w *wire) Close() error {
	w.gate.mu.Lock()
	already := w.closed
	w.closed = true
	delete(w.gate.conns, w.key())
	w.gate.mu.Unlock()
	w.gate.cond.Broadcast()

	if already {
		return nil
	}

	return w.linger()
}

// lingerFor is how long a closed connection still reads what the peer sends.
const lingerFor = 200 * time.Millisecond

// linger closes gracefully: a peer that is still writing must be able to read why it was refused (a TLS alert), instead
// of finding its connection reset.
func (w *wire) linger() error {
	tcp, ok := w.Conn.(*net.TCPConn)
	if !ok || tcp.CloseWrite() != nil {
		return w.Conn.Close()
	}

	go func() {
		_ = tcp.SetReadDeadline(time.Now().Add(lingerFor)) //nolint:errcheck // then it is closed at once
		_, _ = io.Copy(io.Discard, tcp)                    //nolint:errcheck // the data is discarded
		_ = tcp.Close()                                    //nolint:errcheck // it is closed anyway
	}()

	return nil
}

// sever closes at once.
func (w *wire) sever() {
	w.gate.mu.Lock()
	already := w.closed
	w.closed = true
	delete(w.gate.conns, w.key())
	w.gate.mu.Unlock()
	w.gate.cond.Broadcast()

	if !already {
		_ = w.Conn.Close() //nolint:errcheck // it is closed anyway
	}
}
