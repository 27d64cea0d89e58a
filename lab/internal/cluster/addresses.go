package cluster

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/constants"

	"github.com/talosmate/talosmate/lab/internal/machine"
)

// The hosts of a subnet that are not nodes: the virtual IP is lower than all of them, so that it sorts first.
const (
	vipHost          = 1
	loadBalancerHost = 254
	leaseHost        = 250 // minus the node's number
)

// chooseVIP reads --vip.
func (c *Cluster) chooseVIP() (netip.Addr, error) {
	switch text := c.Options.VIP; text {
	case "":
		return netip.Addr{}, nil
	case "auto":
		return c.subnet.host(vipHost), nil
	default:
		address, err := netip.ParseAddr(text)
		if err != nil {
			return address, fmt.Errorf("virtual IP: %w", err)
		}

		if !address.IsLoopback() || !address.Is4() {
			return address, fmt.Errorf("virtual IP %s is not in 127.0.0.0/8", address)
		}

		return address, nil
	}
}

// The links of further addresses: those on the first are reachable from the node itself only.
const (
	podLink     = "cilium_host"
	storageLink = "eth1"
)

// maxExtra is how many further addresses a lab can have with --extra-addresses N.
const maxExtra = 128

// chooseExtra reads --extra-addresses: a number of addresses for every node, or NODE=ADDRESS[@LINK],...
func (c *Cluster) chooseExtra() (map[string][]machine.Extra, error) {
	text := c.Options.ExtraAddresses
	if text == "" {
		return nil, nil //nolint:nilnil // a nil map has no addresses
	}

	if n, err := strconv.Atoi(text); err == nil {
		return c.numberedExtra(n)
	}

	out := map[string][]machine.Extra{}

	for part := range strings.SplitSeq(text, ",") {
		node, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("want a number or NODE=ADDRESS[@LINK], not %q", part)
		}

		value, link, _ := strings.Cut(value, "@")

		address, err := netip.ParseAddr(value)
		if err != nil {
			return nil, fmt.Errorf("address of %s: %w", node, err)
		}

		if link == "" {
			link = storageLink
		}

		if link != podLink && (!address.IsLoopback() || !address.Is4()) {
			return nil, fmt.Errorf("address %s of %s is not in 127.0.0.0/8; one that nothing listens on is given as %s@%s", address, node, address, podLink)
		}

		out[node] = append(out[node], machine.Extra{Address: address, Link: link, Reachable: link != podLink})
	}

	return out, nil
}

// numberedExtra gives every node that many addresses that sort before its own: on cilium_host, on eth1, and so on in
// turn. Every lab has addresses of its own.
func (c *Cluster) numberedExtra(each int) (map[string][]machine.Extra, error) {
	nodes := c.Options.ControlPlanes + c.Options.Workers
	if each < 1 || each*nodes > maxExtra {
		return nil, fmt.Errorf("at most %d further addresses for all nodes together", maxExtra)
	}

	base := c.subnet.prefix.Addr().As4()
	if base[1] < 10 {
		return nil, fmt.Errorf("further addresses need a subnet from 127.10.0.0 on, not %s", c.subnet.prefix)
	}

	next := ((int(base[1])-10)*16+int(base[2])/16)*maxExtra + 1<<16 // from 127.1.0.0 on
	out := map[string][]machine.Extra{}

	for i := range nodes {
		for k := range each {
			e := machine.Extra{Address: netip.AddrFrom4([4]byte{127, byte(next >> 16), byte(next >> 8), byte(next)}), Link: podLink}
			if k%2 == 1 {
				e.Link, e.Reachable = storageLink, true
			}

			out[c.nodeName(i)] = append(out[c.nodeName(i)], e)
			next++
		}
	}

	return out, nil
}

// addressNow returns the node's own address. With --dhcp a node in maintenance mode has another one, until its
// configuration gives it this one.
func (c *Cluster) addressNow(m *Member) netip.Addr {
	if c.Options.DHCP && m.Maintenance() {
		return c.subnet.host(leaseHost - m.Number)
	}

	return m.Address
}

// addressesOf lists the names and addresses by which a node can be reached now.
func (c *Cluster) addressesOf(m *Member) []string {
	out := []string{c.addressNow(m).String(), m.Name, "127.0.0.1", "localhost"}

	for _, e := range m.Extra() {
		out = append(out, e.Address.String())
	}

	if m.HoldsVIP() {
		out = append(out, c.vip.address.String())
	}

	return out
}

// alsoListens lists where a node's apid listens in addition to the node's own address.
func alsoListens(extra []machine.Extra) []string {
	var out []string

	for _, e := range extra {
		if e.Reachable {
			out = append(out, netip.AddrPortFrom(e.Address, constants.ApidPort).String())
		}
	}

	return out
}
