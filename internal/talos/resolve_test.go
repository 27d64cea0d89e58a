package talos

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/meta"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	configmachine "github.com/siderolabs/talos/pkg/machinery/config/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	"github.com/siderolabs/talos/pkg/machinery/resources/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
	"github.com/talosmate/talosmate/internal/testing/bufnode"
)

// vip sorts before every address that a node has of its own.
const vip = "10.0.0.5"

// machines is a cluster behind one endpoint: which machine answers at which address.
type machines struct {
	machine.UnimplementedMachineServiceServer

	at      map[string]cosi.StateServer // By the address asked for; "" is the endpoint itself.
	voters  []*machine.EtcdMember
	reboots int
	vips    atomic.Int32  // How often the virtual IPs were asked for.
	kinds   atomic.Int32  // How often the resource definitions were.
	hold    chan struct{} // Discovery does not answer before it is closed; nil to answer at once.
}

func (m *machines) of(ctx context.Context) (cosi.StateServer, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	address := ""

	if nodes := md.Get("node"); len(nodes) > 0 {
		address = nodes[0]
	}

	if s, ok := m.at[address]; ok {
		return s, nil
	}

	return nil, status.Error(codes.Unavailable, "connection error: desc = \"transport: Error while dialing: no route to host\"")
}

func (m *machines) EtcdMemberList(context.Context, *machine.EtcdMemberListRequest) (*machine.EtcdMemberListResponse, error) {
	return &machine.EtcdMemberListResponse{Messages: []*machine.EtcdMembers{{Members: m.voters}}}, nil
}

func (m *machines) Reboot(context.Context, *machine.RebootRequest) (*machine.RebootResponse, error) {
	m.reboots++

	return &machine.RebootResponse{Messages: []*machine.Reboot{{}}}, nil
}

func (m *machines) Read(_ *machine.ReadRequest, out grpc.ServerStreamingServer[common.Data]) error {
	return out.Send(&common.Data{Bytes: []byte("boot-1\n")})
}

// router gives each call to the machine at the address.
type router struct {
	cosi.UnimplementedStateServer

	machines *machines
}

func (r router) Get(ctx context.Context, in *cosi.GetRequest) (*cosi.GetResponse, error) {
	s, err := r.machines.of(ctx)
	if err != nil {
		return nil, err
	}

	return s.Get(ctx, in)
}

func (r router) List(in *cosi.ListRequest, out grpc.ServerStreamingServer[cosi.ListResponse]) error {
	switch in.GetType() {
	case network.OperatorSpecType:
		r.machines.vips.Add(1)
	case meta.ResourceDefinitionType:
		r.machines.kinds.Add(1)
	case cluster.MemberType:
		if r.machines.hold != nil {
			<-r.machines.hold
		}
	}

	s, err := r.machines.of(out.Context())
	if err != nil {
		return err
	}

	return s.List(in, out)
}

func stateOf(t *testing.T, resources ...resource.Resource) cosi.StateServer {
	t.Helper()

	st := state.WrapCore(namespaced.NewState(inmem.Build))

	for _, r := range resources {
		if err := st.Create(t.Context(), r.DeepCopy()); err != nil {
			t.Fatal(err)
		}
	}

	return server.NewState(st)
}

// is what a machine says of itself.
func is(name string, kind configmachine.Type, kubelet string) []resource.Resource {
	identity := cluster.NewIdentity(cluster.NamespaceName, cluster.LocalIdentity)
	identity.TypedSpec().NodeID = "id-" + name

	own := config.NewMachineType()
	own.SetMachineType(kind)

	ip := k8s.NewNodeIP(k8s.NamespaceName, k8s.KubeletID)
	ip.TypedSpec().Addresses = []netip.Addr{netip.MustParseAddr(kubelet)}

	return []resource.Resource{identity, own, ip}
}

func memberOf(name string, kind configmachine.Type, addresses ...string) resource.Resource {
	m := cluster.NewMember(cluster.NamespaceName, name)
	m.TypedSpec().NodeID, m.TypedSpec().Hostname, m.TypedSpec().MachineType = "id-"+name, name, kind

	for _, a := range addresses {
		m.TypedSpec().Addresses = append(m.TypedSpec().Addresses, netip.MustParseAddr(a))
	}

	return m
}

// newMachines has two control planes, cp-3 that only etcd lists, and two workers: w-1 announces the address of a network
// plugin first, and w-2 is dead. The virtual IP has moved from cp-1, which announced it, to cp-2.
func newMachines(t *testing.T, discovery bool) (*machines, *Cluster) {
	t.Helper()

	operator := network.NewOperatorSpec(network.NamespaceName, "vip/eth0")
	operator.TypedSpec().Operator = network.OperatorVIP
	operator.TypedSpec().VIP = network.VIPOperatorSpec{IP: netip.MustParseAddr(vip), GratuitousARP: true}

	seen := []resource.Resource{operator}
	if discovery {
		seen = append(seen,
			memberOf("cp-1", configmachine.TypeControlPlane, vip, "10.0.0.11"),
			memberOf("cp-2", configmachine.TypeControlPlane, "10.0.0.12"),
			memberOf("w-1", configmachine.TypeWorker, "10.0.0.2", "10.0.0.21", "fd00::21"),
			memberOf("w-2", configmachine.TypeWorker, "10.0.0.3", "10.0.0.22"))
	}

	control, worker := configmachine.TypeControlPlane, configmachine.TypeWorker
	cp1, cp2 := stateOf(t, append(seen, is("cp-1", control, "10.0.0.11")...)...), stateOf(t, append(seen, is("cp-2", control, "10.0.0.12")...)...)

	m := &machines{
		at: map[string]cosi.StateServer{
			"": cp1, "10.0.0.11": cp1, "203.0.113.7": cp1, "10.0.0.12": cp2, vip: cp2,
			"10.0.0.13": stateOf(t, is("cp-3", control, "10.0.0.13")...), "10.0.0.21": stateOf(t, is("w-1", worker, "10.0.0.21")...),
		},
		voters: []*machine.EtcdMember{
			{Id: 1, Hostname: "cp-1", PeerUrls: []string{"https://10.0.0.11:2380"}},
			{Id: 2, Hostname: "cp-2", PeerUrls: []string{"https://10.0.0.12:2380"}},
			{Id: 3, Hostname: "cp-3", PeerUrls: []string{"https://10.0.0.13:2380"}},
		},
	}

	return m, m.cluster(t)
}

// cluster is access to the machines.
func (m *machines) cluster(t *testing.T) *Cluster {
	t.Helper()

	cc := bufnode.Serve(t, func(s *grpc.Server) {
		cosi.RegisterStateServer(s, router{machines: m})
		machine.RegisterMachineServiceServer(s, m)
	})

	c, err := NewCluster(nil, "test", conn.Options{Endpoints: []string{vip, "10.0.0.11"}, Concurrency: 4})
	if err != nil {
		t.Fatal(err)
	}

	c.Keep("10.0.0.11", cc)
	c.Keep(vip, cc)

	return c
}

// TestReadsDoNotWaitForDiscovery names nodes by their addresses. Discovery answers only after they have. What it knows decides
// afterwards: a machine that was named twice has one outcome, a virtual IP is asked again at the address of its node, and the error of
// a dead node names it.
func TestReadsDoNotWaitForDiscovery(t *testing.T) {
	t.Parallel()

	m, c := newMachines(t, true)
	m.hold = make(chan struct{})
	names := []string{"10.0.0.11", "203.0.113.7", vip, "10.0.0.21", "10.0.0.22"}

	var answered atomic.Int32

	ask := func(ctx context.Context, n *Node) (string, error) {
		id, err := n.Identity(ctx)
		if err == nil && int(answered.Add(1)) == len(names)-1 {
			close(m.hold)
		}

		return id, err
	}

	begun := c.Begin(t.Context(), target.Selection{Nodes: names}, target.DefaultMembers)
	outcomes := Each(t.Context(), c, begun.Nodes, ask)

	set, err := begun.Wait()
	if err != nil {
		t.Fatal(err)
	}

	var got []string

	for _, o := range Join(t.Context(), c, set.Nodes, outcomes, ask) {
		text := fmt.Sprintf("%s %s %s", o.Target.Address, o.Target.Hostname, o.Value)
		if o.Err != nil {
			text += errs.Typed(o.Err, "", "").Hostname + " failed"
		}

		got = append(got, text)
	}

	want := []string{"10.0.0.11 cp-1 id-cp-1", "10.0.0.12 cp-2 id-cp-2", "10.0.0.21 w-1 id-w-1", "10.0.0.22 w-2 w-2 failed"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDiscoveryComesFirst(t *testing.T) {
	t.Parallel()

	for name, tt := range map[string]struct {
		options   conn.Options
		selection target.Selection
	}{
		"a name":        {conn.Options{}, target.Selection{Nodes: []string{"10.0.0.11", "cp-2"}}},
		"a set":         {conn.Options{}, target.Selection{All: true}},
		"no choice":     {conn.Options{}, target.Selection{}},
		"maintenance":   {conn.Options{Insecure: true}, target.Selection{Nodes: []string{"10.0.0.11"}}},
		"limited nodes": {conn.Options{Allowed: []target.Allowed{{}}}, target.Selection{Nodes: []string{"10.0.0.11"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			c, err := NewCluster(nil, "test", tt.options)
			if err != nil {
				t.Fatal(err)
			}

			if c.Begin(t.Context(), tt.selection, target.DefaultMembers) != nil {
				t.Error("nodes are asked before they are resolved")
			}
		})
	}
}

// TestDefinitionsAreReadOncePerRelease: nodes of one release have the same types; of a cluster with two releases, and of a node
// that is not a member, nothing is assumed.
func TestDefinitionsAreReadOncePerRelease(t *testing.T) {
	t.Parallel()

	for name, tt := range map[string]struct {
		releases []string
		more     []string // Addresses that are asked too.
		reads    int32
	}{
		"one release":     {[]string{"v1.14.1", "v1.14.1", "v1.14.1"}, nil, 1},
		"two releases":    {[]string{"v1.14.1", "v1.14.1", "v1.13.9"}, nil, 3},
		"unknown release": {[]string{"v1.14.1", "v1.14.1", ""}, nil, 3},
		"not a member":    {[]string{"v1.14.1", "v1.14.1", "v1.14.1"}, []string{"203.0.113.7"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			var (
				members []resource.Resource
				targets []Target
			)

			m := &machines{at: map[string]cosi.StateServer{}}

			for i, release := range tt.releases {
				one := memberOf(fmt.Sprintf("n-%d", i), configmachine.TypeWorker, fmt.Sprintf("10.0.0.%d", i+1))
				if release != "" {
					one.(*cluster.Member).TypedSpec().OperatingSystem = "Talos (" + release + ")"
				}

				members = append(members, one)
				targets = append(targets, Target{Address: fmt.Sprintf("10.0.0.%d", i+1)})
			}

			for _, address := range tt.more {
				targets = append(targets, Target{Address: address})
			}

			m.at[""] = stateOf(t, members...)
			for _, target := range targets {
				m.at[target.Address] = m.at[""]
			}

			c := m.cluster(t)

			for _, o := range Each(t.Context(), c, targets, func(ctx context.Context, n *Node) ([]ResourceKind, error) { return c.ResourceKinds(ctx, n) }) {
				if o.Err != nil {
					t.Error(o.Err)
				}
			}

			if got := m.kinds.Load(); got != tt.reads {
				t.Errorf("the definitions were read %d times, want %d", got, tt.reads)
			}
		})
	}
}

func TestTargetsAreWhoTheyAre(t *testing.T) {
	t.Parallel()

	const cp1, cp3, w1 = "10.0.0.11 cp-1 controlplane", "10.0.0.13 cp-3 controlplane", "10.0.0.21 w-1 worker"

	for _, tt := range []struct {
		name      string
		nodes     []string
		blind     bool     // Discovery lists nobody.
		want      []string // Address, hostname and type.
		forbidden bool
	}{
		{name: "a name whose virtual IP sorts first", nodes: []string{"cp-1"}, want: []string{cp1}},
		{name: "another case", nodes: []string{"CP-1"}, want: []string{cp1}},
		{name: "a virtual IP is whoever holds it", nodes: []string{vip}, want: []string{"10.0.0.12 cp-2 controlplane"}},
		{name: "an address that the node does not announce", nodes: []string{"203.0.113.7"}, want: []string{"203.0.113.7 cp-1 controlplane"}},
		{name: "an endpoint", nodes: []string{"10.0.0.11:50000"}, want: []string{cp1}},
		{name: "one node under several addresses", nodes: []string{"10.0.0.11", "cp-1", "203.0.113.7"}, want: []string{cp1}},
		{name: "the address of a network plugin sorts first", nodes: []string{"w-1"}, want: []string{w1}},
		{name: "spellings of an address", nodes: []string{"[FD00:0::21]"}, want: []string{"fd00::21 w-1 worker"}},
		{name: "a dead node keeps its first address", nodes: []string{"w-2"}, want: []string{"10.0.0.3 w-2 worker"}},
		{name: "a control plane that only etcd lists", nodes: []string{"cp-3"}, want: []string{cp3}},
		{name: "the first label of a name that DNS does not know", nodes: []string{"w-1.cluster.invalid"}, want: []string{w1}},
		{name: "no such node", nodes: []string{"w-9"}, forbidden: true},
		{name: "no such node in a domain", nodes: []string{"w-9.cluster.invalid"}, forbidden: true},
		{name: "an address without discovery", nodes: []string{"10.0.0.21"}, blind: true, want: []string{"10.0.0.21  worker"}},
		{name: "a control plane without discovery", nodes: []string{"cp-3"}, blind: true, want: []string{cp3}},
		{name: "a worker's name without discovery", nodes: []string{"w-1"}, blind: true, forbidden: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()

			_, c := newMachines(t, !tt.blind)

			got, err := c.Targets(t.Context(), target.Selection{Nodes: tt.nodes}, target.DefaultNone)
			if (errs.ExitCode(err) == errs.Usage) != tt.forbidden || (err != nil) != tt.forbidden {
				t.Fatalf("error %v", err)
			}

			var have []string
			for _, n := range got.Nodes {
				have = append(have, n.Address+" "+n.Hostname+" "+n.Type)
			}

			if !slices.Equal(have, tt.want) {
				t.Errorf("%q, want %q", have, tt.want)
			}
		})
	}
}

// TestChangesReachTheTargetOnly has an address that moved to another control plane after it was resolved.
func TestChangesReachTheTargetOnly(t *testing.T) {
	t.Parallel()

	m, c := newMachines(t, true)
	moved := Target{Address: vip, Hostname: "cp-1", ID: "id-cp-1"}

	err := c.ChangingNode(moved).Reboot(t.Context(), "")
	if errs.ExitCode(err) != errs.Refused || conn.KindOf(err) != errs.KindAnotherMachine || !conn.Undelivered(err) || m.reboots != 0 {
		t.Errorf("%d reboots, %v", m.reboots, err)
	}

	if _, err = c.Node(moved).Boot(t.Context(), ""); conn.KindOf(err) != errs.KindAnotherMachine {
		t.Errorf("the boot of another machine: %v", err)
	}

	if err = c.ChangingNode(Target{Address: "10.0.0.12", ID: "id-cp-2"}).Reboot(t.Context(), ""); err != nil || m.reboots != 1 {
		t.Errorf("%d reboots, %v", m.reboots, err)
	}
}

// TestVirtualIPs: discovery asks for them where a member has several addresses; otherwise who needs them does, once.
func TestVirtualIPs(t *testing.T) {
	t.Parallel()

	for _, discovery := range []bool{true, false} {
		m, c := newMachines(t, discovery)

		if members, err := c.Members(t.Context()); err != nil || len(members) == 0 {
			t.Fatal(members, err)
		}

		for range 2 {
			if got := c.VirtualIPs(t.Context(), time.Minute); !slices.Equal(got, []string{vip}) {
				t.Errorf("discovery %t: got %v", discovery, got)
			}
		}

		if asked := m.vips.Load(); asked != 1 {
			t.Errorf("discovery %t: asked %d times", discovery, asked)
		}
	}
}
