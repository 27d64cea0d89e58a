package boot

import (
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/talos"
)

// Locks keep two runs on this machine apart by name; engine.Notes are some.
type Locks interface {
	Lock(name string) (release func(), err error)
}

// Exclusive keeps other runs on this machine from acting on a node until release is called. A node that another run
// acts on is refused (TM143).
func Exclusive(locks Locks, t talos.Target) (release func(), err error) {
	if locks == nil {
		return func() {}, nil
	}

	if release, err = locks.Lock(t.Address); err != nil {
		return nil, gate.New(gate.LockHeld, gate.Refuse, t.Address, "another run of talosmate on this machine acts on %s", t.Name()).
			WithRemedy("wait until it has ended").Refusal()
	}

	return release, nil
}
