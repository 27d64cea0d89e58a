package etcd

import (
	"runtime"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap/zapcore"
)

// endLimit bounds the stop of a server. A server that has not ended by then is stopped hard, and abandoned after the
// same time again.
const endLimit = 10 * time.Second

// Stop ends the server; the data stays. A leader passes on leadership first, as etcd does on SIGTERM.
func (m *Member) Stop() { m.end(true) }

// Kill ends the server without passing on leadership, as a power cut does.
func (m *Member) Kill() { m.end(false) }

func (m *Member) end(handOver bool) {
	// wait for a start in progress: etcd panics when its files are removed during it
	m.starting.Lock()
	defer m.starting.Unlock()

	m.mu.Lock()
	server := m.server
	m.server = nil
	m.mu.Unlock()

	if server != nil {
		end(server, handOver)
	}
}

func end(server *embed.Etcd, handOver bool) {
	select {
	case <-server.Server.ReadyNotify():
	default:
		// Close waits for the listeners of a server that never had a quorum until the server stops, which Close itself
		// does only afterwards
		handOver = false
	}

	closed := make(chan struct{})

	go func() {
		defer close(closed)

		if !handOver {
			server.Server.HardStop()
		}

		server.Close()
	}()

	if within(closed, endLimit) {
		return
	}

	go server.Server.HardStop()

	within(closed, endLimit)
}

func within(closed <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()

	select {
	case <-closed:
		return true
	case <-timer.C:
		return false
	}
}

// ended handles the end of a server; it matters only if the end was not requested.
func (m *Member) ended(server *embed.Etcd, reason string) {
	m.mu.Lock()
	unasked := server != nil && m.server == server

	if unasked {
		m.server = nil
	}
	m.mu.Unlock()

	if !unasked {
		return
	}

	end(server, false)

	if m.cfg.Ended != nil {
		m.cfg.Ended(reason)
	}
}

// crashed turns a panic that etcd logs, such as the one of a status request to a member that was just removed, into the
// end of that member only. On a Talos node it would end the etcd process, here it would end the whole lab.
type crashed struct{ member *Member }

// OnWrite implements zapcore.CheckWriteHook.
func (c crashed) OnWrite(entry *zapcore.CheckedEntry, _ []zapcore.Field) {
	c.member.mu.Lock()
	server := c.member.server
	c.member.mu.Unlock()

	go c.member.ended(server, entry.Message)

	runtime.Goexit()
}
