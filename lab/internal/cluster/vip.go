package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/constants"

	"github.com/talosmate/talosmate/lab/internal/machine"
)

// vip is the virtual IP of the control planes: an election that the lab holds itself, with the conditions of Talos's.
type vip struct {
	cluster *Cluster
	address netip.Addr
	wake    chan struct{}

	mu     sync.Mutex
	holder *Member
	boot   string      // the boot in which the holder received it
	lease  *time.Timer // runs while the holder is gone without having resigned
}

func newVIP(c *Cluster, address netip.Addr) *vip {
	return &vip{cluster: c, address: address, wake: make(chan struct{}, 1)}
}

// run settles the address whenever a node's services change.
func (v *vip) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
			v.settle(false)
		}
	}
}

func (v *vip) poke() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

func (v *vip) listen() string { return netip.AddrPortFrom(v.address, constants.ApidPort).String() }

// settle moves the address if its holder cannot hold it any more. A holder that lost its power keeps it, as seen by
// the others, until its lease expires.
func (v *vip) settle(expired bool) {
	v.mu.Lock()
	defer v.mu.Unlock()

	if v.holder != nil {
		if v.holder.CanHoldVIP() && v.holder.BootID() == v.boot {
			return
		}

		if !v.holder.Powered() && !expired {
			if v.lease == nil {
				v.lease = time.AfterFunc(v.cluster.Options.VIPLease, func() { v.settle(true) })
			}

			return
		}
	}

	v.move()
}

// move takes the address from its holder and gives it to the next control plane that can hold it.
func (v *vip) move() {
	if v.lease != nil {
		v.lease.Stop()
		v.lease = nil
	}

	members := v.cluster.members
	from := 0

	if v.holder != nil {
		from = slices.Index(members, v.holder) + 1
		v.holder.API.Unlisten(v.listen())
		v.holder.SetVIP(false)
		v.cluster.Note(v.holder.Name, "vip-released", v.address.String())
		v.holder = nil
	}

	for i := range members {
		m := members[(from+i)%len(members)]
		if !m.CanHoldVIP() {
			continue
		}

		if err := m.API.Listen(v.listen()); err != nil {
			v.cluster.Note(m.Name, "error", fmt.Sprintf("virtual IP: %v", err))

			continue
		}

		v.holder, v.boot = m, m.BootID()
		m.SetVIP(true)
		v.cluster.Note(m.Name, "vip-acquired", v.address.String())

		break
	}

	v.cluster.Changed(nil)
}

// held returns the node that has the address; nil for none.
func (v *vip) held() *Member {
	v.mu.Lock()
	defer v.mu.Unlock()

	return v.holder
}

// ServicesChanged implements machine.Cluster.
func (c *Cluster) ServicesChanged(*machine.Node) {
	if c.vip != nil {
		c.vip.poke()
	}
}

// KubeletStopped implements machine.Cluster.
func (c *Cluster) KubeletStopped(n *machine.Node) {
	if c.vip != nil && n.HoldsVIP() {
		c.vip.settle(false)
	}
}

// VIPHolder is the name of the node that has the virtual IP; empty for none.
func (c *Cluster) VIPHolder() string {
	if c.vip == nil {
		return ""
	}

	if m := c.vip.held(); m != nil {
		return m.Name
	}

	return ""
}
