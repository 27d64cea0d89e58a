package talos

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/nethelpers"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
)

func link(id string, spec network.LinkStatusSpec) *network.LinkStatus {
	l := network.NewLinkStatus(network.NamespaceName, id)
	*l.TypedSpec() = spec

	return l
}

func TestInterfacesSayWhatALinkIs(t *testing.T) {
	t.Parallel()

	address := network.NewAddressStatus(network.NamespaceName, "bond0/10.0.0.1/24")
	*address.TypedSpec() = network.AddressStatusSpec{LinkName: "bond0", Address: netip.MustParsePrefix("10.0.0.1/24")}

	n := nodeWith(t,
		address,
		link("bond0", network.LinkStatusSpec{
			Index: 5, Kind: "bond", OperationalState: nethelpers.OperStateLowerLayerDown,
			BondMaster: network.BondMasterSpec{Mode: nethelpers.BondMode8023AD, HashPolicy: nethelpers.BondXmitPolicyLayer34, MIIMon: 100, MinLinks: 1},
		}),
		link("enp1s0", network.LinkStatusSpec{Index: 2, MasterIndex: 5, SpeedMegabits: 25000, Duplex: nethelpers.Full}),
		link("enp2s0", network.LinkStatusSpec{Index: 3, MasterIndex: 5, SpeedMegabits: -1}),
		link("bond0.7", network.LinkStatusSpec{
			Index: 6, Kind: "vlan", LinkIndex: 5, VLAN: network.VLANSpec{VID: 7, Protocol: nethelpers.VLANProtocol8021Q},
		}),
		link("br0", network.LinkStatusSpec{
			Index: 7, Kind: "bridge",
			BridgeMaster: network.BridgeMasterSpec{STP: network.STPSpec{Enabled: true}, VLAN: network.BridgeVLANSpec{FilteringEnabled: true}},
		}),
		link("wg0", network.LinkStatusSpec{
			Index: 8, Kind: "wireguard",
			Wireguard: network.WireguardSpec{
				PrivateKey: "SECRET", PublicKey: "PUB", ListenPort: 51820,
				Peers: []network.WireguardPeer{{
					PublicKey: "PEER", PresharedKey: "SECRET", Endpoint: "192.0.2.1:51820", PersistentKeepaliveInterval: 25 * time.Second,
					AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")},
				}},
			},
		}),
	)

	list, err := n.Interfaces(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}

	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}

	if strings.Contains(string(text), "SECRET") {
		t.Errorf("a key of WireGuard is shown: %s", text)
	}

	by := map[string]Interface{}
	for _, i := range list {
		by[i.Name] = i
	}

	if b := by["bond0"]; b.Bond == nil || b.Bond.Mode != "802.3ad" || b.Bond.HashPolicy != "layer3+4" || b.Bond.MIIMonMS != 100 ||
		!slices.Equal(b.Members, []string{"enp1s0", "enp2s0"}) || b.State != "lower_layer_down" || !slices.Equal(b.Addresses, []string{"10.0.0.1/24"}) {
		t.Errorf("bond: %+v %+v", b, b.Bond)
	}

	if e := by["enp1s0"]; e.Master != "bond0" || e.SpeedBits != 25_000_000_000 || e.Duplex != "full" || e.Bond != nil || e.Addresses == nil {
		t.Errorf("member: %+v", e)
	}

	if e := by["enp2s0"]; e.SpeedBits != 0 {
		t.Errorf("an unknown speed is shown as %d", e.SpeedBits)
	}

	if v := by["bond0.7"]; v.VLAN == nil || *v.VLAN != (VLANFacts{7, "802.1q"}) || v.Parent != "bond0" {
		t.Errorf("vlan: %+v %+v", v, v.VLAN)
	}

	if b := by["br0"]; b.Bridge == nil || *b.Bridge != (BridgeFacts{true, true}) {
		t.Errorf("bridge: %+v", b.Bridge)
	}

	if w := by["wg0"].WireGuard; w == nil || w.PublicKey != "PUB" || w.ListenPort != 51820 || len(w.Peers) != 1 || w.Peers[0].KeepAlive != 25 ||
		!slices.Equal(w.Peers[0].AllowedIPs, []string{"10.9.0.0/16"}) {
		t.Errorf("wireguard: %+v", w)
	}
}
