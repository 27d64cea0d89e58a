package apid

import (
	"math/rand/v2"
	"net"
	"time"

	"github.com/talosmate/talosmate/lab/internal/faults"
)

// bad counts the connections that an armed fault wire has met.
type bad struct {
	armed time.Time
	conns uint64
}

// bent is one direction of a connection through a bad network. Only the reading or the writing goroutine touches it.
type bent struct {
	armed  time.Time       // Of the fault that Bend is from.
	over   <-chan struct{} // Closed when that fault is disarmed.
	random *rand.Rand
	passed int64
	gone   bool // Nothing arrives any more.

	faults.Bend
}

// weather reports whether the fault wire is armed, and prepares a direction of the connection for it.
func (w *wire) weather(b *bent, in bool) bool {
	f, ok := w.gate.faults.Get(faults.Wire)
	if !ok {
		return false
	}

	if b.armed.Equal(f.Armed) {
		return true
	}

	number := w.number(f.Armed)
	*b = bent{armed: f.Armed, over: f.Gone(), Bend: f.Bend(number, in), random: rand.New(rand.NewPCG(uint64(f.N), number))} //nolint:gosec // a seed

	return true
}

// number is the connection's number among those that the fault armed at this time has met. Both directions have the
// same.
func (w *wire) number(armed time.Time) uint64 {
	w.gate.mu.Lock()
	defer w.gate.mu.Unlock()

	if w.met.armed.Equal(armed) {
		return w.met.conns
	}

	if !w.gate.bad.armed.Equal(armed) {
		w.gate.bad = bad{armed: armed}
	}

	w.gate.bad.conns++
	w.met = w.gate.bad

	return w.met.conns
}

// receive reads what the network lets through.
func (w *wire) receive(p []byte) (int, error) {
	for {
		n, err := w.Conn.Read(p)
		if n == 0 || !w.weather(&w.in, true) {
			return n, err
		}

		kept, lost := w.in.pass(w, p[:n])
		if lost {
			return 0, net.ErrClosed
		}

		if len(kept) > 0 || err != nil {
			return copy(p, kept), err
		}
	}
}

// send writes what the network lets through.
func (w *wire) send(p []byte) (int, error) {
	if len(p) == 0 || !w.weather(&w.out, false) {
		return w.Conn.Write(p)
	}

	kept, lost := w.out.pass(w, append([]byte(nil), p...)) // the caller keeps its bytes
	if lost {
		return 0, net.ErrClosed
	}

	if len(kept) > 0 {
		if _, err := w.Conn.Write(kept); err != nil {
			return 0, err
		}
	}

	return len(p), nil
}

// pass returns what is left of a piece of the stream, and whether the connection ends here.
func (b *bent) pass(w *wire, p []byte) (kept []byte, lost bool) {
	if b.gone {
		return nil, false
	}

	var wait time.Duration

	if b.Late > 0 && b.random.IntN(4) == 0 {
		wait = time.Duration(b.random.Int64N(int64(b.Late)))
	}

	if b.Rate > 0 {
		wait += time.Duration(float64(len(p)) / float64(b.Rate) * float64(time.Second))
	}

	if wait > 0 {
		<-time.After(wait)
	}

	at := int(b.At - b.passed)
	b.passed += int64(len(p))

	if b.Strike == "" || at < 0 || at >= len(p) {
		return p, false
	}

	w.gate.faults.Struck(faults.Wire, b.Strike)

	// What was broken does not survive the fault: with its next byte the connection would fail for no visible reason.
	go func() {
		<-b.over
		w.sever()
	}()

	switch b.Strike {
	case faults.WireReset:
		if tcp, ok := w.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) //nolint:errcheck // then it is closed in order
		}

		w.sever()

		return nil, true
	case faults.WireClose:
		_ = w.Close() //nolint:errcheck // it is closed anyway

		return nil, true
	case faults.WireCorrupt:
		p[at] ^= 1 << b.random.IntN(8)
	case faults.WireDrop:
		return p[:at], false
	case faults.WireReorder:
		return append(append([]byte(nil), p[at:]...), p[:at]...), false
	case faults.WireBlackHole:
		b.gone = true

		return p[:at], false
	}

	return p, false
}
