package talos

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/resources/kubespan"
)

func TestKubeSpanPeersJoinStatusAndAnnouncement(t *testing.T) {
	t.Parallel()

	at := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
	endpoint := netip.MustParseAddrPort("192.0.2.7:51820")

	up := kubespan.NewPeerStatus(kubespan.NamespaceName, "KEY-B")
	*up.TypedSpec() = kubespan.PeerStatusSpec{
		Label: "cp-1", State: kubespan.PeerStateUp, Endpoint: endpoint, LastUsedEndpoint: endpoint, ReceiveBytes: 1 << 40, TransmitBytes: 7,
		LastHandshakeTime: at,
	}

	spec := kubespan.NewPeerSpec(kubespan.NamespaceName, "KEY-B")
	*spec.TypedSpec() = kubespan.PeerSpecSpec{
		Address: netip.MustParseAddr("fd7f::1"), Label: "cp-1", Endpoints: []netip.AddrPort{endpoint},
		AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")},
	}

	down := kubespan.NewPeerStatus(kubespan.NamespaceName, "KEY-A")
	*down.TypedSpec() = kubespan.PeerStatusSpec{Label: "worker-1", State: kubespan.PeerStateDown}

	list, err := nodeWith(t, up, spec, down).KubeSpanPeers(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	if len(list) != 2 || list[0].Label != "cp-1" || list[1].Label != "worker-1" {
		t.Fatalf("peers %+v", list)
	}

	p := list[0]
	if p.State != "up" || p.Endpoint != "192.0.2.7:51820" || p.ReceiveBytes != 1<<40 || p.TransmitBytes != 7 || p.Address != "fd7f::1" ||
		!slices.Equal(p.Endpoints, []string{"192.0.2.7:51820"}) || !slices.Equal(p.AllowedIPs, []string{"10.244.1.0/24"}) ||
		p.LastHandshake == nil || !p.LastHandshake.Equal(at) || p.LastEndpointChange != nil {
		t.Errorf("peer %+v", p)
	}

	if d := list[1]; d.State != "down" || d.Endpoint != "" || d.LastHandshake != nil || d.Endpoints == nil {
		t.Errorf("a peer that never answered: %+v", d)
	}
}
