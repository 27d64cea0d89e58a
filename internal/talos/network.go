package talos

import (
	"cmp"
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"

	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// Address is an address of one of the node's links.
type Address struct {
	NodeRef

	Interface string   `json:"interface"` // The link that has it.
	Address   string   `json:"address"`   // The address with its prefix length, 10.5.0.2/24.
	Family    string   `json:"family"`    // inet4 or inet6.
	Scope     string   `json:"scope"`     // global, site, link, host or nowhere.
	Flags     []string `json:"flags"`     // The kernel's flags: permanent, temporary, tentative, …; never null.
	Priority  uint32   `json:"priority"`  // The metric of the address.
}

// LinkLocal reports whether the address is valid on its link only.
func (a Address) LinkLocal() bool {
	p, err := netip.ParsePrefix(a.Address)

	return a.Scope == "link" || (err == nil && p.Addr().IsLinkLocalUnicast())
}

// Addresses lists the node's addresses by link and address. Roles: reader, operator, admin.
func (n *Node) Addresses(ctx context.Context) ([]Address, error) {
	type spec struct {
		Address  string `json:"address"`
		LinkName string `json:"linkName"`
		Family   string `json:"family"`
		Scope    string `json:"scope"`
		Flags    string `json:"flags"`
		Priority uint32 `json:"priority"`
	}

	out, err := View[spec, Address]{
		Namespace: "network", Type: "AddressStatuses.net.talos.dev",
		Row: func(_ string, s spec) Address {
			return Address{
				Interface: s.LinkName, Address: s.Address, Family: s.Family, Scope: s.Scope, Flags: commas(s.Flags), Priority: s.Priority,
			}
		},
	}.List(ctx, n)

	lists.Sort(out, func(a, b Address) int {
		return cmp.Or(strings.Compare(a.Interface, b.Interface), compareAddressText(a.Address, b.Address))
	})

	return out, err
}

// Route is an entry of the node's routing tables.
type Route struct {
	NodeRef

	Destination string `json:"destination"` // The destination's prefix; empty for the default route.
	Gateway     string `json:"gateway"`     // The next hop, empty when the destination is reached directly.
	Interface   string `json:"interface"`   // The outgoing link.
	Source      string `json:"source"`      // The preferred source address.
	Family      string `json:"family"`      // inet4 or inet6.
	Table       string `json:"table"`       // The routing table: main, local, 180, …
	Metric      uint32 `json:"metric"`      // The metric; the lowest wins.
	Scope       string `json:"scope"`       // global, site, link, host or nowhere.
	Type        string `json:"type"`        // unicast, local, broadcast, …
	Protocol    string `json:"protocol"`    // The source of the route: kernel, boot, static, ra, …
	MTU         uint32 `json:"mtu"`         // The route's own MTU, 0 for the link's.

	NextHops []NextHop `json:"next_hops,omitempty"` // The next hops of a route with several.
}

// NextHop is one of several next hops of a route.
type NextHop struct {
	Gateway   string `json:"gateway"`          // Its address.
	Interface string `json:"interface"`        // The outgoing link.
	Weight    uint32 `json:"weight,omitempty"` // Its share beside the others; 0 for the kernel's own.
}

// Routes lists the node's routes by table, family and destination. Roles: reader, operator, admin.
func (n *Node) Routes(ctx context.Context) ([]Route, error) {
	type spec struct {
		Family      string `json:"family"`
		Dst         string `json:"dst"`
		Src         string `json:"src"`
		Gateway     string `json:"gateway"`
		OutLinkName string `json:"outLinkName"`
		Table       string `json:"table"`
		Priority    uint32 `json:"priority"`
		Scope       string `json:"scope"`
		Type        string `json:"type"`
		Protocol    string `json:"protocol"`
		MTU         uint32 `json:"mtu"`
		NextHops    []struct {
			Gateway     string `json:"gateway"`
			OutLinkName string `json:"outLinkName"`
			Weight      uint32 `json:"weight"`
		} `json:"nextHops"`
	}

	out, err := View[spec, Route]{
		Namespace: "network", Type: "RouteStatuses.net.talos.dev",
		Row: func(_ string, s spec) Route {
			r := Route{
				Destination: s.Dst, Gateway: s.Gateway, Interface: s.OutLinkName, Source: s.Src, Family: s.Family, Table: s.Table,
				Metric: s.Priority, Scope: s.Scope, Type: s.Type, Protocol: s.Protocol, MTU: s.MTU,
			}

			for _, h := range s.NextHops {
				r.NextHops = append(r.NextHops, NextHop{Gateway: h.Gateway, Interface: h.OutLinkName, Weight: h.Weight})
			}

			return r
		},
	}.List(ctx, n)

	lists.Sort(out, func(a, b Route) int {
		return cmp.Or(strings.Compare(a.Table, b.Table), strings.Compare(a.Family, b.Family),
			compareAddressText(a.Destination, b.Destination), cmp.Compare(a.Metric, b.Metric), strings.Compare(a.Interface, b.Interface))
	})

	return out, err
}

// Resolvers is a node's DNS configuration.
type Resolvers struct {
	NodeRef

	DNSServers    []string     `json:"dns_servers"`    // The servers it asks, in order; never null.
	NameServers   []NameServer `json:"name_servers"`   // The same with their protocols; never null, empty before Talos 1.14.
	SearchDomains []string     `json:"search_domains"` // The search domains; never null.
}

// PlainDNS is the protocol of a server that is asked without TLS.
const PlainDNS = "Do53"

// NameServer is a DNS server and how it is asked.
type NameServer struct {
	Address       string `json:"address"`                   // Its address.
	Protocol      string `json:"protocol"`                  // Do53 (plain DNS), or DNSOverTLS.
	TLSServerName string `json:"tls_server_name,omitempty"` // With TLS: the name in its certificate.
}

// Resolvers reads the node's resolvers: one row, none before the network is up. Roles: reader, operator, admin.
func (n *Node) Resolvers(ctx context.Context) ([]Resolvers, error) {
	type spec struct {
		DNSServers  []string `json:"dnsServers"`
		NameServers []struct {
			Addr          string `json:"addr"`
			Protocol      string `json:"protocol"`
			TLSServerName string `json:"tlsServerName"`
		} `json:"nameServers"`
		SearchDomains []string `json:"searchDomains"`
	}

	return View[spec, Resolvers]{
		Namespace: "network", Type: "ResolverStatuses.net.talos.dev",
		Row: func(_ string, s spec) Resolvers {
			r := Resolvers{DNSServers: notNil(s.DNSServers), NameServers: []NameServer{}, SearchDomains: notNil(s.SearchDomains)}
			for _, ns := range s.NameServers {
				r.NameServers = append(r.NameServers, NameServer{Address: ns.Addr, Protocol: ns.Protocol, TLSServerName: ns.TLSServerName})
			}

			return r
		},
	}.List(ctx, n)
}

// BGPPeer is a BGP session of the node.
type BGPPeer struct {
	NodeRef

	Peer       string     `json:"peer"`                // The peer, as the configuration names it.
	Instance   string     `json:"instance"`            // The BGP instance of the configuration.
	LocalASN   uint32     `json:"local_asn"`           // The node's autonomous system.
	PeerASN    uint32     `json:"peer_asn"`            // The peer's.
	State      string     `json:"state"`               // idle, connect, active, open_sent, open_confirm, established or unknown.
	Since      *time.Time `json:"since,omitempty"`     // When the session came up.
	Received   uint32     `json:"received"`            // The prefixes that the peer sent.
	Accepted   uint32     `json:"accepted"`            // Those of them that are used.
	Advertised uint32     `json:"advertised"`          // The prefixes that the node sent.
	BFDState   string     `json:"bfd_state,omitempty"` // The state of its BFD session, if it has one.
}

// BGPPeers lists the BGP sessions of Talos 1.14. Roles: reader, operator, admin.
func (n *Node) BGPPeers(ctx context.Context) ([]BGPPeer, error) {
	type spec struct {
		Peer       string    `json:"peer"`
		Instance   string    `json:"instance"`
		LocalASN   uint32    `json:"localASN"`
		PeerASN    uint32    `json:"peerASN"`
		State      string    `json:"state"`
		Since      time.Time `json:"since"`
		Received   uint32    `json:"received"`
		Accepted   uint32    `json:"accepted"`
		Advertised uint32    `json:"advertised"`
		BFDState   string    `json:"bfdState"`
	}

	return View[spec, BGPPeer]{
		Namespace: "network", Type: "BGPPeerStatuses.net.talos.dev", Since: "v1.14",
		Row: func(_ string, s spec) BGPPeer {
			return BGPPeer{
				Peer: s.Peer, Instance: s.Instance, LocalASN: s.LocalASN, PeerASN: s.PeerASN, State: strings.ToLower(s.State),
				Since: whenSet(s.Since), Received: s.Received, Accepted: s.Accepted, Advertised: s.Advertised, BFDState: s.BFDState,
			}
		},
	}.List(ctx, n)
}

// Hostname is the node's own hostname. The hostname in the node reference comes from discovery.
type Hostname struct {
	NodeRef

	Name   string `json:"name"`   // The hostname without a domain.
	Domain string `json:"domain"` // The domain, often empty.
	FQDN   string `json:"fqdn"`   // Both joined.
}

// HostnameStatus reads the node's own hostname: one row, none before it has one. Roles: reader, operator, admin.
func (n *Node) HostnameStatus(ctx context.Context) ([]Hostname, error) {
	type spec struct {
		Hostname   string `json:"hostname"`
		Domainname string `json:"domainname"`
	}

	return View[spec, Hostname]{
		Namespace: "network", Type: "HostnameStatuses.net.talos.dev",
		Row: func(_ string, s spec) Hostname {
			return Hostname{Name: s.Hostname, Domain: s.Domainname, FQDN: strings.TrimSuffix(s.Hostname+"."+s.Domainname, ".")}
		},
	}.List(ctx, n)
}

// commas splits the flag lists that Talos writes as one word.
func commas(s string) []string {
	if s == "" {
		return []string{}
	}

	return strings.Split(s, ",")
}

// compareAddressText orders addresses and prefixes by number. Text that does not parse comes first.
func compareAddressText(a, b string) int {
	x, y := prefixOf(a), prefixOf(b)

	return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Bits(), y.Bits()), strings.Compare(a, b))
}

func prefixOf(s string) netip.Prefix {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p
	}

	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen())
	}

	return netip.Prefix{}
}

// BPFInstruction is one instruction of a packet filter.
type BPFInstruction struct{ Op, Jt, Jf, K uint32 }

// CaptureRequest selects the packets to capture.
type CaptureRequest struct {
	Interface   string
	Promiscuous bool
	SnapLength  uint32 // Bytes kept of each packet, 0 for the node's own default.
	Filter      []BPFInstruction
}

// Capture streams a pcap file, in chunks of any size, until the context ends. Roles: operator, admin.
func (n *Node) Capture(ctx context.Context, r CaptureRequest, fn func([]byte) error) error {
	req := &machine.PacketCaptureRequest{Interface: r.Interface, Promiscuous: r.Promiscuous, SnapLen: r.SnapLength}
	for _, i := range r.Filter {
		req.BpfFilter = append(req.BpfFilter, &machine.BPFInstruction{Op: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}

	return conn.Pull(ctx, n.Conn, "capture packets of "+r.Interface, 0, func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
		return n.machine().PacketCapture(ctx, req)
	}, func(d *common.Data) error { return fn(d.GetBytes()) })
}
