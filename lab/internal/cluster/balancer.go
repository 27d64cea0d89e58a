package cluster

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/constants"
)

// balancer is a TCP load balancer in front of apid on all control planes: each connection is passed to the next one
// that accepts it.
type balancer struct {
	listener net.Listener
	targets  []string

	mu    sync.Mutex
	next  int
	conns map[net.Conn]struct{}
}

// connectTimeout is how long the load balancer waits for one control plane.
const connectTimeout = time.Second

func startBalancer(address netip.Addr, targets []string) (*balancer, error) {
	ln, err := net.Listen("tcp", netip.AddrPortFrom(address, constants.ApidPort).String())
	if err != nil {
		return nil, err
	}

	b := &balancer{listener: ln, targets: targets, conns: map[net.Conn]struct{}{}}

	go b.serve()

	return b, nil
}

func (b *balancer) serve() {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return
		}

		go b.pass(conn)
	}
}

// pass copies in both directions until either side closes.
func (b *balancer) pass(client net.Conn) {
	defer client.Close() //nolint:errcheck

	server := b.connect()
	if server == nil {
		return
	}
	defer server.Close() //nolint:errcheck

	b.track(client, server)
	defer b.forget(client, server)

	done := make(chan struct{}, 2)

	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) //nolint:errcheck // either side has closed
			done <- struct{}{}
		}()
	}

	<-done
}

// connect dials the control planes in turn; nil if none accepts.
func (b *balancer) connect() net.Conn {
	for range b.targets {
		b.mu.Lock()
		target := b.targets[b.next%len(b.targets)]
		b.next++
		b.mu.Unlock()

		conn, err := net.DialTimeout("tcp", net.JoinHostPort(target, "50000"), connectTimeout)
		if err == nil {
			return conn
		}
	}

	return nil
}

func (b *balancer) track(conns ...net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()

	for _, c := range conns {
		b.conns[c] = struct{}{}
	}
}

func (b *balancer) forget(conns ...net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()

	for _, c := range conns {
		delete(b.conns, c)
	}
}

// close ends the load balancer with its connections.
func (b *balancer) close() {
	b.listener.Close() //nolint:errcheck

	b.mu.Lock()
	defer b.mu.Unlock()

	for c := range b.conns {
		c.Close() //nolint:errcheck
	}
}
