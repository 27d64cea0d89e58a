package talos

import (
	"context"
	"strings"
)

// Interface is a network link of a node.
type Interface struct {
	NodeRef

	Name         string         `json:"name"`                     // The link, eth0.
	Alias        string         `json:"alias,omitempty"`          // The alias that the configuration gave it.
	AltNames     []string       `json:"alt_names,omitempty"`      // Other names in the kernel.
	Index        uint32         `json:"index"`                    // The kernel's number for it.
	Type         string         `json:"type"`                     // The hardware type: ether, loopback, none, …
	Kind         string         `json:"kind"`                     // The virtual kind: bond, bridge, vlan, wireguard, veth, …; empty for a physical link.
	HardwareAddr string         `json:"hardware_addr"`            // The MAC address in use.
	PermanentMAC string         `json:"permanent_addr,omitempty"` // The permanent MAC address.
	MTU          uint32         `json:"mtu"`                      // The largest packet, in bytes.
	State        string         `json:"operational_state"`        // up, down, unknown, dormant, lower_layer_down, …
	Carrier      bool           `json:"carrier"`                  // Whether the link has a carrier.
	SpeedBits    int64          `json:"speed_bits_per_second"`    // The speed, 0 when unknown.
	Duplex       string         `json:"duplex,omitempty"`         // full, half or unknown.
	Driver       string         `json:"driver,omitempty"`         // The kernel driver.
	BusPath      string         `json:"bus_path,omitempty"`       // Where the device is attached.
	Vendor       string         `json:"vendor,omitempty"`         // The maker.
	Product      string         `json:"product,omitempty"`        // The product.
	Flags        []string       `json:"flags"`                    // The kernel's flags in lower case; never null.
	Master       string         `json:"master,omitempty"`         // The bond, bridge or VRF that it belongs to.
	Parent       string         `json:"parent,omitempty"`         // The link that a VLAN sits on.
	Members      []string       `json:"members,omitempty"`        // For a bond, bridge or VRF: the links in it.
	Addresses    []string       `json:"addresses"`                // Its addresses with prefix length; link-local ones on request; never null.
	Bond         *BondFacts     `json:"bond,omitempty"`           // For a bond only.
	Bridge       *BridgeFacts   `json:"bridge,omitempty"`         // For a bridge only.
	VLAN         *VLANFacts     `json:"vlan,omitempty"`           // For a VLAN only.
	WireGuard    *WireGuardInfo `json:"wireguard,omitempty"`      // For WireGuard only; never a private or preshared key.
}

// BondFacts are the settings of a bond.
type BondFacts struct {
	Mode       string `json:"mode"`                // The bonding mode, 802.3ad.
	HashPolicy string `json:"xmit_hash_policy"`    // The transmit hash policy.
	LACPRate   string `json:"lacp_rate"`           // The LACP rate, slow or fast.
	ADSelect   string `json:"ad_select,omitempty"` // The LACP aggregate selection.
	MIIMonMS   uint32 `json:"miimon_milliseconds"` // The interval of link monitoring.
	MinLinks   uint32 `json:"min_links"`           // The minimum number of links for a carrier.
}

// BridgeFacts are the settings of a bridge.
type BridgeFacts struct {
	STP           bool `json:"stp"`            // Whether the spanning tree protocol runs.
	VLANFiltering bool `json:"vlan_filtering"` // Whether VLAN filtering is on.
}

// VLANFacts are the settings of a VLAN.
type VLANFacts struct {
	ID       uint16 `json:"id"`       // The VLAN's number.
	Protocol string `json:"protocol"` // 802.1q or 802.1ad.
}

// WireGuardInfo is the public part of a WireGuard link.
type WireGuardInfo struct {
	PublicKey    string          `json:"public_key"`    // The link's public key.
	ListenPort   int             `json:"listen_port"`   // Its UDP port.
	FirewallMark int             `json:"firewall_mark"` // The mark of its packets, 0 for none.
	Peers        []WireGuardPeer `json:"peers"`         // Its peers; never null.
}

// WireGuardPeer is a peer of a WireGuard link.
type WireGuardPeer struct {
	PublicKey  string   `json:"public_key"`                   // The peer's public key.
	Endpoint   string   `json:"endpoint"`                     // The peer's endpoint.
	KeepAlive  float64  `json:"persistent_keepalive_seconds"` // The keepalive interval, 0 for none.
	AllowedIPs []string `json:"allowed_ips"`                  // The prefixes routed to it; never null.
}

type linkSpec struct {
	Alias            string   `json:"alias"`
	AltNames         []string `json:"altNames"`
	Index            uint32   `json:"index"`
	Type             string   `json:"type"`
	LinkIndex        uint32   `json:"linkIndex"`
	Flags            string   `json:"flags"`
	HardwareAddr     string   `json:"hardwareAddr"`
	PermanentAddr    string   `json:"permanentAddr"`
	MTU              uint32   `json:"mtu"`
	MasterIndex      uint32   `json:"masterIndex"`
	OperationalState string   `json:"operationalState"`
	Kind             string   `json:"kind"`
	BusPath          string   `json:"busPath"`
	Driver           string   `json:"driver"`
	Product          string   `json:"product"`
	Vendor           string   `json:"vendor"`
	LinkState        bool     `json:"linkState"`
	SpeedMbit        int64    `json:"speedMbit"`
	Duplex           string   `json:"duplex"`
	VLAN             struct {
		VID      uint16 `json:"vlanID"`
		Protocol string `json:"vlanProtocol"`
	} `json:"vlan"`
	BridgeMaster struct {
		STP struct {
			Enabled bool `json:"enabled"`
		} `json:"stp"`
		VLAN struct {
			FilteringEnabled bool `json:"filteringEnabled"`
		} `json:"vlan"`
	} `json:"bridgeMaster"`
	BondMaster struct {
		Mode       string `json:"mode"`
		HashPolicy string `json:"xmitHashPolicy"`
		LACPRate   string `json:"lacpRate"`
		ADSelect   string `json:"adSelect"`
		MIIMon     uint32 `json:"miimon"`
		MinLinks   uint32 `json:"minLinks"`
	} `json:"bondMaster"`
	Wireguard struct {
		PublicKey    string `json:"publicKey"`
		ListenPort   int    `json:"listenPort"`
		FirewallMark int    `json:"firewallMark"`
		Peers        []struct {
			PublicKey  string   `json:"publicKey"`
			Endpoint   string   `json:"endpoint"`
			KeepAlive  string   `json:"persistentKeepaliveInterval"`
			AllowedIPs []string `json:"allowedIPs"`
		} `json:"peers"`
	} `json:"wireguard"`
}

// Interfaces lists the node's links by name with their addresses. Link-local addresses are omitted unless linkLocal
// asks for them. Roles: reader, operator, admin.
func (n *Node) Interfaces(ctx context.Context, linkLocal bool) ([]Interface, error) {
	addresses, err := n.Addresses(ctx)
	if err != nil {
		return nil, err
	}

	type link struct {
		name string
		spec linkSpec
	}

	links, err := View[linkSpec, link]{
		Namespace: "network", Type: "LinkStatuses.net.talos.dev",
		Row: func(id string, s linkSpec) link { return link{id, s} },
	}.List(ctx, n)
	if err != nil {
		return nil, err
	}

	names := map[uint32]string{}
	for _, l := range links {
		names[l.spec.Index] = l.name
	}

	out := make([]Interface, 0, len(links))

	for _, l := range links {
		i := l.spec.row(l.name)
		i.Master = names[l.spec.MasterIndex]

		if l.spec.Kind == "vlan" {
			i.Parent = names[l.spec.LinkIndex]
		}

		for _, other := range links {
			if l.spec.Index != 0 && other.spec.MasterIndex == l.spec.Index {
				i.Members = append(i.Members, other.name)
			}
		}

		for _, a := range addresses {
			if a.Interface == l.name && (linkLocal || !a.LinkLocal()) {
				i.Addresses = append(i.Addresses, a.Address)
			}
		}

		out = append(out, i)
	}

	return out, nil
}

func (s linkSpec) row(name string) Interface {
	out := Interface{
		Name: name, Alias: s.Alias, AltNames: s.AltNames, Index: s.Index, Type: s.Type, Kind: s.Kind, HardwareAddr: s.HardwareAddr,
		PermanentMAC: s.PermanentAddr, MTU: s.MTU, State: snake(s.OperationalState), Carrier: s.LinkState,
		SpeedBits: max(s.SpeedMbit, 0) * 1_000_000, Duplex: strings.ToLower(s.Duplex), Driver: s.Driver, BusPath: s.BusPath,
		Vendor: s.Vendor, Product: s.Product, Flags: commas(strings.ToLower(s.Flags)), Addresses: []string{},
	}

	switch s.Kind {
	case "bond":
		b := s.BondMaster
		out.Bond = &BondFacts{b.Mode, b.HashPolicy, b.LACPRate, b.ADSelect, b.MIIMon, b.MinLinks}
	case "bridge":
		out.Bridge = &BridgeFacts{STP: s.BridgeMaster.STP.Enabled, VLANFiltering: s.BridgeMaster.VLAN.FilteringEnabled}
	case "vlan":
		out.VLAN = &VLANFacts{ID: s.VLAN.VID, Protocol: s.VLAN.Protocol}
	case "wireguard":
		w := s.Wireguard
		out.WireGuard = &WireGuardInfo{PublicKey: w.PublicKey, ListenPort: w.ListenPort, FirewallMark: w.FirewallMark, Peers: []WireGuardPeer{}}

		for _, p := range w.Peers {
			out.WireGuard.Peers = append(out.WireGuard.Peers, WireGuardPeer{
				PublicKey: p.PublicKey, Endpoint: p.Endpoint, KeepAlive: seconds(p.KeepAlive), AllowedIPs: notNil(p.AllowedIPs),
			})
		}
	}

	return out
}

// snake turns the kernel's lowerLayerDown into lower_layer_down.
func snake(s string) string {
	var b strings.Builder

	for i, r := range s {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}

			r += 'a' - 'A'
		}

		b.WriteRune(r)
	}

	return b.String()
}
