package cluster_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	"github.com/siderolabs/talos/pkg/machinery/resources/etcd"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	labcluster "github.com/talosmate/talosmate/lab/internal/cluster"
)

// member reads a Member as a node has it.
func (b *bed) member(asked, id string) *cluster.MemberSpec {
	b.t.Helper()

	m, err := safe.StateGetByID[*cluster.Member](b.ctx, b.direct(asked).COSI, id)
	if err != nil {
		b.t.Fatal(err)
	}

	return m.TypedSpec()
}

// nodeID asks an endpoint, given by its address, which machine it is.
func (b *bed) nodeID(endpoint string) (string, error) {
	id, err := safe.StateGetByID[*cluster.Identity](b.ctx, b.client("", endpoint).COSI, cluster.LocalIdentity)
	if err != nil {
		return "", err
	}

	return id.TypedSpec().NodeID, nil
}

// vipHolders waits until every control plane can hold the virtual IP, and returns its holder and the next one.
func (b *bed) vipHolders() (holder, next string) {
	b.t.Helper()

	names := []string{"cp-1", "cp-2", "cp-3"}
	for _, name := range names {
		b.until(name+" to take part in the election", b.node(name).CanHoldVIP)
	}

	holder = b.VIPHolder()

	return holder, names[(slices.Index(names, holder)+1)%len(names)]
}

func TestVirtualIP(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers, o.VIP = 3, 1, "auto" })
	vip := b.Describe("").VIP

	first, second := b.vipHolders()

	addresses := b.member("worker-1", first).Addresses
	if len(addresses) != 2 || addresses[0].String() != vip || addresses[1] != b.node(first).Address {
		t.Errorf("addresses of the holder %v, virtual IP %s", addresses, vip)
	}

	c := b.direct(first)

	for id, want := range map[string]string{
		network.NodeAddressDefaultID: b.node(first).Address.String() + "/24",
		network.NodeAddressRoutedID:  vip + "/32", network.NodeAddressCurrentID: vip + "/32", network.NodeAddressAccumulativeID: vip + "/32",
		"routed-no-k8s": vip + "/32",
	} {
		res, err := safe.StateGetByID[*network.NodeAddress](b.ctx, c.COSI, id)
		if err != nil || res.TypedSpec().Addresses[0].String() != want {
			t.Errorf("node addresses %s: %v %v, want %s first", id, res, err, want)
		}
	}

	if ip, err := safe.StateGetByID[*k8s.NodeIP](b.ctx, c.COSI, k8s.KubeletID); err != nil || !slices.Equal(ip.TypedSpec().Addresses, []netip.Addr{b.node(first).Address}) {
		t.Errorf("the kubelet's address: %v %v", ip, err)
	}

	if spec, err := safe.StateGetByID[*etcd.Spec](b.ctx, c.COSI, etcd.SpecID); err != nil || !slices.Equal(spec.TypedSpec().AdvertisedAddresses, []netip.Addr{b.node(first).Address}) {
		t.Errorf("etcd's address: %v %v", spec, err)
	}

	if id, err := b.nodeID(vip); err != nil || id != b.node(first).Identity() {
		t.Errorf("directly: %q %v", id, err)
	}

	id, err := safe.StateGetByID[*cluster.Identity](client.WithNode(b.ctx, vip), b.direct(second).COSI, cluster.LocalIdentity)
	if err != nil || id.TypedSpec().NodeID != b.node(first).Identity() {
		t.Errorf("through an endpoint: %v %v", id, err)
	}

	// a reboot stops the kubelet first
	before := b.node(first).BootID()
	if err := c.Reboot(b.ctx); err != nil {
		t.Fatal(err)
	}

	b.rebooted(first, before)

	if holder := b.VIPHolder(); holder != second {
		t.Errorf("holder after the reboot %q", holder)
	}

	if got := b.member("worker-1", first).Addresses; len(got) != 1 {
		t.Errorf("addresses of the former holder %v", got)
	}

	if id, err := b.nodeID(vip); err != nil || id != b.node(second).Identity() {
		t.Errorf("directly after the move: %q %v", id, err)
	}

	released := slices.IndexFunc(b.Timeline.Of(first), func(n labcluster.Note) bool { return n.Event == "vip-released" })
	down := slices.IndexFunc(b.Timeline.Of(first), func(n labcluster.Note) bool { return n.Event == "down" })

	if released < 0 || released > down {
		t.Errorf("released at %d, down at %d", released, down)
	}
}

func TestVirtualIPOfAHolderWithoutPower(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers, o.VIP, o.VIPLease = 3, 0, "auto", 1 })

	first, second := b.vipHolders()

	b.node(first).PowerOff("test")
	b.until("the lease to expire", func() bool { return b.VIPHolder() == second })
}

func TestExtraAddresses(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers, o.Etcd, o.ExtraAddresses = 1, 1, false, "2" })

	got := b.member("cp-1", "worker-1").Addresses
	if len(got) != 3 || got[2] != b.node("worker-1").Address {
		t.Fatalf("addresses %v", got)
	}

	if id, err := b.nodeID(got[1].String()); err != nil || id != b.node("worker-1").Identity() {
		t.Errorf("storage address: %q %v", id, err)
	}

	if _, err := b.nodeID(got[0].String()); status.Code(err) != codes.Unavailable {
		t.Errorf("an address of cilium_host answers: %v", err)
	}

	_, err := b.client("").Version(client.WithNode(b.ctx, got[0].String()))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "no route to host") {
		t.Errorf("through an endpoint: %v", err)
	}
}

func TestLoadBalancer(t *testing.T) {
	b := start(t, func(o *testOptions) {
		o.ControlPlanes, o.Workers, o.Etcd, o.LoadBalancer, o.Endpoints = 2, 0, false, true, labcluster.EndpointLoadBalancer
	})
	address := b.Describe("").LoadBalancer

	if !slices.Equal(b.Endpoints(), []string{address}) {
		t.Errorf("endpoints %v", b.Endpoints())
	}

	seen := map[string]bool{}

	for range 2 {
		id, err := b.nodeID(address)
		if err != nil {
			t.Fatal(err)
		}

		seen[id] = true
	}

	if len(seen) != 2 {
		t.Errorf("machines %v", seen)
	}

	b.node("cp-1").PowerOff("test")

	if id, err := b.nodeID(address); err != nil || id != b.node("cp-2").Identity() {
		t.Errorf("with one control plane down: %q %v", id, err)
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	for want, change := range map[string]func(*testOptions){
		"endpoints vip need --vip":        func(o *testOptions) { o.Endpoints = labcluster.EndpointVIP },
		"virtual IP 10.0.0.1 is not in":   func(o *testOptions) { o.VIP = "10.0.0.1" },
		"further addresses for all nodes": func(o *testOptions) { o.ExtraAddresses = "100" },
		"want a number or NODE=ADDRESS":   func(o *testOptions) { o.ExtraAddresses = "worker-1" },
		"10.0.0.1@cilium_host":            func(o *testOptions) { o.ExtraAddresses = "worker-1=10.0.0.1" },
		"discovery must be off or alone":  func(o *testOptions) { o.Discovery = "partial" },
		"boot loader must be grub":        func(o *testOptions) { o.Bootloader = "lilo" },
		"ETCD, CRI, KUBELET and LOG":      func(o *testOptions) { o.Partitions = []string{"STATE"} },
	} {
		opts := labcluster.Defaults()
		opts.Dir = t.TempDir()
		change(&opts)

		if _, err := labcluster.New(opts, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func TestNamedAddresses(t *testing.T) {
	b := start(t, func(o *testOptions) {
		o.ControlPlanes, o.Workers, o.Etcd, o.ExtraAddresses = 1, 1, false, "worker-1=10.244.1.7@cilium_host"
	})

	if got := b.member("cp-1", "worker-1").Addresses; len(got) != 2 || got[0].String() != "10.244.1.7" {
		t.Errorf("addresses %v", got)
	}

	if got := b.member("cp-1", "cp-1").Addresses; len(got) != 1 {
		t.Errorf("addresses of another node %v", got)
	}
}
