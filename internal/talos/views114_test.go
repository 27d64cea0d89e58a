package talos

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/nethelpers"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"github.com/siderolabs/talos/pkg/machinery/resources/storage"
)

// equal compares what was read with what should have been, without the node.
func equal[T any, P interface {
	*T
	SetNode(Target)
}](t *testing.T, got []T, err error, want ...T,
) {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}

	for i := range want {
		P(&want[i]).SetNode(Target{Address: "10.0.0.1", Hostname: "n1"})
	}

	for i := range got {
		P(&got[i]).SetNode(Target{Address: "10.0.0.1", Hostname: "n1"})
	}

	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestLVM(t *testing.T) {
	t.Parallel()

	group := storage.NewLVMVolumeGroupStatus(storage.NamespaceName, "data")
	*group.TypedSpec() = storage.LVMVolumeGroupStatusSpec{Name: "data", UUID: "g", Partial: "partial", Size: "1000", Free: "400"}

	pv := storage.NewLVMPhysicalVolumeStatus(storage.NamespaceName, "sdb")
	*pv.TypedSpec() = storage.LVMPhysicalVolumeStatusSpec{Device: "/dev/sdb", VGName: "data", UUID: "p", InUse: "used", Missing: "missing", Size: "1000", Free: "400"}

	free := storage.NewLVMPhysicalVolumeStatus(storage.NamespaceName, "sdc")
	*free.TypedSpec() = storage.LVMPhysicalVolumeStatusSpec{Device: "/dev/sdc", Size: "", Free: "many"}

	lv := storage.NewLVMLogicalVolumeStatus(storage.NamespaceName, "data/db")
	*lv.TypedSpec() = storage.LVMLogicalVolumeStatusSpec{
		Path: "/dev/data/db", Name: "db", VGName: "data", UUID: "l", Layout: "linear", Active: "active", DeviceOpen: "open", Suspended: "unknown", Size: "600",
	}

	invalid := storage.NewLVMValidationError(storage.NamespaceName, "other")
	*invalid.TypedSpec() = storage.LVMValidationErrorSpec{VGName: "other", Message: "disk sdb is claimed by data"}

	got, err := nodeWith(t, group, pv, free, lv, invalid).LVM(t.Context())
	equal(t, got, err,
		LVMDevice{Kind: PhysicalVolume, Name: "/dev/sdc", Device: "/dev/sdc", State: []string{}},
		LVMDevice{Kind: VolumeGroup, Name: "data", VolumeGroup: "data", UUID: "g", SizeBytes: 1000, FreeBytes: 400, State: []string{"partial"}},
		LVMDevice{Kind: PhysicalVolume, Name: "/dev/sdb", VolumeGroup: "data", Device: "/dev/sdb", UUID: "p", SizeBytes: 1000, FreeBytes: 400, State: []string{"used", "missing"}},
		LVMDevice{Kind: LogicalVolume, Name: "db", VolumeGroup: "data", Device: "/dev/data/db", UUID: "l", SizeBytes: 600, Layout: "linear", State: []string{"active", "open"}},
		LVMDevice{Kind: VolumeGroup, Name: "other", VolumeGroup: "other", State: []string{}, Error: "disk sdb is claimed by data"},
	)
}

func TestArrays(t *testing.T) {
	t.Parallel()

	md := storage.NewMDArrayStatus(storage.NamespaceName, "data")
	*md.TypedSpec() = storage.MDArrayStatusSpec{
		Level: storage.MDLevelRAID1, Device: "/dev/md/data", Members: []string{"/dev/sdb", "/dev/sdc"}, Status: storage.MDArrayPhaseRebuilding,
		RaidDevices: 2, UUID: "u", ArrayState: "clean", SyncAction: "recover",
	}

	got, err := nodeWith(t, md).Arrays(t.Context())
	equal(t, got, err, Array{
		Name: "data", Device: "/dev/md/data", Level: "raid1", Status: "rebuilding", ArrayState: "clean", SyncAction: "recover",
		Devices: 2, Members: []string{"/dev/sdb", "/dev/sdc"}, UUID: "u",
	})
}

func TestUpkeep(t *testing.T) {
	t.Parallel()

	next, last := time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC), time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

	scrub := block.NewFSScrubSchedule(block.NamespaceName, "EPHEMERAL")
	*scrub.TypedSpec() = block.FSScrubScheduleSpec{Filesystem: block.FilesystemTypeXFS, Interval: 168 * time.Hour, NextScrub: next}

	status := block.NewFSScrubStatus("EPHEMERAL")
	*status.TypedSpec() = block.FSScrubStatusSpec{Mountpoint: "/var", Interval: 168 * time.Hour, Time: last, Duration: 90 * time.Second, Status: "success"}

	trim := block.NewVolumeTrimSchedule(block.NamespaceName, "EPHEMERAL")
	*trim.TypedSpec() = block.VolumeTrimScheduleSpec{Filesystem: block.FilesystemTypeXFS, Interval: 24 * time.Hour, NextTrim: next}

	got, err := nodeWith(t, scrub, status, trim).Upkeep(t.Context())
	equal(t, got, err,
		Upkeep{
			Volume: "EPHEMERAL", Work: "scrub", Filesystem: "xfs", Mountpoint: "/var", IntervalSeconds: 604800, Next: &next, Last: &last,
			DurationSeconds: 90, Result: "success",
		},
		Upkeep{Volume: "EPHEMERAL", Work: "trim", Filesystem: "xfs", IntervalSeconds: 86400, Next: &next},
	)
}

func TestSecurity(t *testing.T) {
	t.Parallel()

	security := runtime.NewSecurityStateSpec(runtime.NamespaceName)
	*security.TypedSpec() = runtime.SecurityStateSpec{
		SecureBoot: true, PCRSigningKeyFingerprint: "AB:CD", SELinuxState: runtime.SELinuxStateEnforcing, FIPSState: runtime.FIPSStateEnabled,
		BootedWithUKI: true, ModuleSignatureEnforced: true,
	}

	entry := runtime.NewBootedEntrySpec()
	entry.TypedSpec().BootedEntry = "Talos-v1.14.1.efi"

	for name, c := range map[string]struct {
		has  []resource.Resource
		want SecurityState
	}{
		"all of it": {[]resource.Resource{security, entry}, SecurityState{
			SecureBoot: true, BootedUKI: true, BootEntry: "Talos-v1.14.1.efi", PCRFingerprint: "AB:CD", SELinux: "enforcing", FIPS: "enabled", ModuleSignatures: true,
		}},
		"nothing is on": {[]resource.Resource{runtime.NewSecurityStateSpec(runtime.NamespaceName)}, SecurityState{SELinux: "disabled", FIPS: "disabled"}},
		"not known":     {nil, SecurityState{}},
	} {
		if got, err := nodeWith(t, c.has...).Security(t.Context()); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestKernelModules(t *testing.T) {
	t.Parallel()

	module := runtime.NewKernelModuleStatus(runtime.NamespaceName, "nvme")
	*module.TypedSpec() = runtime.KernelModuleStatusSpec{
		Type: runtime.KernelModuleTypeDynamic, State: runtime.KernelModuleStateLive, Size: 4096, ReferenceCount: 1, Dependencies: []string{"nvme_core"},
	}

	old := runtime.NewLoadedKernelModule(runtime.NamespaceName, "nvme")
	*old.TypedSpec() = runtime.LoadedKernelModuleSpec{State: "Live", Size: 4096}

	got, err := nodeWith(t, module, old).KernelModules(t.Context())
	equal(t, got, err, KernelModule{Name: "nvme", Type: "dynamic", State: "live", SizeBytes: 4096, References: 1, Dependencies: []string{"nvme_core"}})

	got, err = nodeWith(t, old).KernelModules(t.Context())
	equal(t, got, err, KernelModule{Name: "nvme", State: "live", SizeBytes: 4096, Dependencies: []string{}})
}

func TestBGPPeers(t *testing.T) {
	t.Parallel()

	since := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

	peer := network.NewBGPPeerStatus(network.NamespaceName, "main/10.0.0.254")
	*peer.TypedSpec() = network.BGPPeerStatusSpec{
		Peer: "10.0.0.254", LocalASN: 65001, PeerASN: 65000, State: nethelpers.BGPSessionStateEstablished,
		Since: since, Received: 9, Advertised: 2, Accepted: 8, BFDState: "up", Instance: "main",
	}

	got, err := nodeWith(t, peer).BGPPeers(t.Context())
	equal(t, got, err, BGPPeer{
		Peer: "10.0.0.254", Instance: "main", LocalASN: 65001, PeerASN: 65000, State: "established", Since: &since,
		Received: 9, Accepted: 8, Advertised: 2, BFDState: "up",
	})
}

// A route with several next hops has no gateway of its own; a resolver over TLS has a name to check.
func TestRoutesAndResolversOf114(t *testing.T) {
	t.Parallel()

	route := network.NewRouteStatus(network.NamespaceName, "default")
	*route.TypedSpec() = network.RouteStatusSpec{
		Family: nethelpers.FamilyInet4, Table: nethelpers.TableMain,
		NextHops: []network.RouteNextHop{
			{Gateway: netip.MustParseAddr("10.0.0.1"), OutLinkName: "eth0", Weight: 2}, {Gateway: netip.MustParseAddr("10.1.0.1"), OutLinkName: "eth1"},
		},
	}

	resolver := network.NewResolverStatus(network.NamespaceName, network.ResolverID)
	*resolver.TypedSpec() = network.ResolverStatusSpec{
		DNSServers: []netip.Addr{netip.MustParseAddr("9.9.9.9")},
		NameServers: []network.NameServerSpec{{
			Addr: netip.MustParseAddr("9.9.9.9"), Protocol: nethelpers.DNSProtocolDNSOverTLS, TLSServerName: "dns.quad9.net",
		}},
	}

	n := nodeWith(t, route, resolver)

	routes, err := n.Routes(t.Context())
	equal(t, routes, err, Route{
		Family: "inet4", Table: "main", Scope: "global", Type: "unspec", Protocol: "unspec",
		NextHops: []NextHop{{Gateway: "10.0.0.1", Interface: "eth0", Weight: 2}, {Gateway: "10.1.0.1", Interface: "eth1"}},
	})

	resolvers, err := n.Resolvers(t.Context())
	equal(t, resolvers, err, Resolvers{
		DNSServers: []string{"9.9.9.9"}, NameServers: []NameServer{{Address: "9.9.9.9", Protocol: "DoT", TLSServerName: "dns.quad9.net"}}, SearchDomains: []string{},
	})
}

// The boot is proved by the boot ID, which Talos 1.14 shows readers too; a wanted proof is not replaced by another.
func TestBootOfReaders(t *testing.T) {
	t.Parallel()

	status := runtime.NewMachineStatus()
	id := runtime.NewBootID()
	id.TypedSpec().BootID = "215f8390"

	for name, c := range map[string]struct {
		resources []resource.Resource
		proof     string
		want      string // The proof that is found.
	}{
		"1.14":                        {resources: []resource.Resource{status, id}, want: ByBootID},
		"1.13":                        {resources: []resource.Resource{status}, want: ByMachineStatus},
		"before it was known by 1.13": {resources: []resource.Resource{status, id}, proof: ByMachineStatus, want: ByMachineStatus},
		"no boot ID":                  {resources: []resource.Resource{status}, proof: ByBootID},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			boot, err := nodeWith(t, c.resources...).Boot(t.Context(), c.proof)
			if boot.Proof != c.want || (err == nil) != (c.want != "") {
				t.Errorf("%+v, %v", boot, err)
			}
		})
	}
}
