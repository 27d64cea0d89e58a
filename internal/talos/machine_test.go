package talos

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	timeapi "github.com/siderolabs/talos/pkg/machinery/api/time"
	timeres "github.com/siderolabs/talos/pkg/machinery/resources/time"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// fakeMachine answers what a recording cannot show.
type fakeMachine struct {
	machine.UnimplementedMachineServiceServer
	timeapi.UnimplementedTimeServiceServer

	netstat *machine.NetstatRequest
	usage   *machine.DiskUsageRequest
}

func (f *fakeMachine) Containers(_ context.Context, req *machine.ContainersRequest) (*machine.ContainersResponse, error) {
	if req.GetNamespace() != "k8s.io" || req.GetDriver() != common.ContainerDriver_CRI {
		return nil, errors.New("wrong instance")
	}

	return &machine.ContainersResponse{Messages: []*machine.Container{{Containers: []*machine.ContainerInfo{
		{Id: "kube-system/dns:dns", PodId: "kube-system/dns", Name: "dns", NetworkNamespace: "other"},
		{Id: "kube-system/dns", PodId: "kube-system/dns", Name: "dns", NetworkNamespace: "cni-1"},
	}}}}, nil
}

func (f *fakeMachine) Netstat(_ context.Context, req *machine.NetstatRequest) (*machine.NetstatResponse, error) {
	f.netstat = req

	return &machine.NetstatResponse{Messages: []*machine.Netstat{{Connectrecord: []*machine.ConnectRecord{
		{L4Proto: "tcp", Localip: "10.244.0.9", Localport: 53, State: machine.ConnectRecord_CLOSEWAIT, Netns: "cni-1"},
		{L4Proto: "tcp", Localip: "10.0.0.9", Localport: 900, Remoteip: "10.0.0.1", State: machine.ConnectRecord_LASTACK},
		{L4Proto: "tcp", Localip: "10.0.0.9", Localport: 80, Remoteip: "0.0.0.0", State: machine.ConnectRecord_LISTEN},
	}}}}, nil
}

func (f *fakeMachine) DiskUsage(req *machine.DiskUsageRequest, s grpc.ServerStreamingServer[machine.DiskUsageInfo]) error {
	f.usage = req

	for _, m := range []*machine.DiskUsageInfo{{Name: "/var/lib", Size: 1 << 40}, {Name: "/var/lost", Error: "permission denied"}} {
		if err := s.Send(m); err != nil {
			return err
		}
	}

	return nil
}

func (f *fakeMachine) TimeCheck(_ context.Context, req *timeapi.TimeRequest) (*timeapi.TimeResponse, error) {
	at := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)

	return &timeapi.TimeResponse{Messages: []*timeapi.Time{{
		Server: req.GetServer(), Localtime: timestamppb.New(at), Remotetime: timestamppb.New(at.Add(1500 * time.Millisecond)),
	}}}, nil
}

func fakeMachineNode(t *testing.T) (*Node, *fakeMachine) {
	t.Helper()

	st := state.WrapCore(namespaced.NewState(inmem.Build))

	status := timeres.NewStatus()
	status.TypedSpec().Synced = true

	if err := st.Create(t.Context(), status); err != nil {
		t.Fatal(err)
	}

	f := &fakeMachine{}

	return fakeNode(t, func(s *grpc.Server) {
		machine.RegisterMachineServiceServer(s, f)
		timeapi.RegisterTimeServiceServer(s, f)
		cosi.RegisterStateServer(s, server.NewState(st))
	}), f
}

func TestSocketsOfPods(t *testing.T) {
	t.Parallel()

	n, f := fakeMachineNode(t)

	list, err := n.Sockets(t.Context(), SocketFilter{Pods: true, Process: true, Listening: true, TCP: true})
	if err != nil {
		t.Fatal(err)
	}

	want := &machine.NetstatRequest{
		Filter: machine.NetstatRequest_LISTENING, Feature: &machine.NetstatRequest_Feature{Pid: true},
		L4Proto: &machine.NetstatRequest_L4Proto{Tcp: true, Tcp6: true}, Netns: &machine.NetstatRequest_NetNS{Hostnetwork: true, Allnetns: true},
	}
	if !proto.Equal(f.netstat, want) {
		t.Errorf("request %v", f.netstat)
	}

	got := []string{}
	for _, s := range list {
		got = append(got, s.Local()+" "+s.State+" "+s.Pod)
	}

	if want := []string{"10.0.0.9:80 listen ", "10.0.0.9:900 last_ack ", "10.244.0.9:53 close_wait kube-system/dns"}; !slices.Equal(got, want) {
		t.Errorf("sockets %q", got)
	}
}

func TestSocketFilter(t *testing.T) {
	t.Parallel()

	all := &machine.NetstatRequest_L4Proto{Tcp: true, Tcp6: true, Udp: true, Udp6: true}

	for name, c := range map[string]struct {
		in     SocketFilter
		filter machine.NetstatRequest_Filter
		proto  *machine.NetstatRequest_L4Proto
	}{
		"everything": {SocketFilter{}, machine.NetstatRequest_ALL, all},
		"both":       {SocketFilter{Listening: true, Connected: true, TCP: true, UDP: true}, machine.NetstatRequest_ALL, all},
		"connected":  {SocketFilter{Connected: true}, machine.NetstatRequest_CONNECTED, all},
		"udp":        {SocketFilter{UDP: true}, machine.NetstatRequest_ALL, &machine.NetstatRequest_L4Proto{Udp: true, Udp6: true}},
	} {
		req := c.in.request()
		if req.GetFilter() != c.filter || !proto.Equal(req.GetL4Proto(), c.proto) || req.GetNetns().GetAllnetns() {
			t.Errorf("%s: %v", name, req)
		}
	}
}

func TestDiskUsageKeepsWhatCouldNotBeRead(t *testing.T) {
	t.Parallel()

	n, f := fakeMachineNode(t)

	list, err := n.DiskUsage(t.Context(), "/var", UsageOptions{Depth: 2, Files: true, Threshold: -5})
	if err != nil {
		t.Fatal(err)
	}

	if !proto.Equal(f.usage, &machine.DiskUsageRequest{Paths: []string{"/var"}, RecursionDepth: 3, All: true, Threshold: -5}) {
		t.Errorf("request %v", f.usage)
	}

	if len(list) != 2 || list[0].SizeBytes != 1<<40 || list[1].Error != "permission denied" {
		t.Errorf("usage %+v", list)
	}
}

func TestClockOffsetIsWhatTheNodeLacks(t *testing.T) {
	t.Parallel()

	n, _ := fakeMachineNode(t)

	c, err := n.Clock(t.Context(), "ntp.example.com")
	if err != nil {
		t.Fatal(err)
	}

	if c.Server != "ntp.example.com" || c.OffsetSeconds != 1.5 || c.Synced == nil || !*c.Synced || c.SyncDisabled == nil || *c.SyncDisabled {
		t.Errorf("clock %+v", c)
	}
}

func TestCPUPercent(t *testing.T) {
	t.Parallel()

	before := []ContainerStat{{ID: "a", CPUSeconds: 10}, {ID: "restarted", CPUSeconds: 50}}
	after := []ContainerStat{{ID: "a", CPUSeconds: 13}, {ID: "restarted", CPUSeconds: 1}, {ID: "new", CPUSeconds: 1}}

	SetCPUPercent(before, after, 2)

	if after[0].CPUPercent == nil || *after[0].CPUPercent != 150 || after[1].CPUPercent != nil || after[2].CPUPercent != nil {
		t.Errorf("percent %v %v %v", after[0].CPUPercent, after[1].CPUPercent, after[2].CPUPercent)
	}
}

func TestCPULoadBetweenTwoReadings(t *testing.T) {
	t.Parallel()

	c := CPU{Processors: make([]Processor, 2)}
	c.SetLoad(
		CPUTimes{Total: cpuTime{user: 10, idle: 10}, Each: []cpuTime{{user: 5, idle: 5}}},
		CPUTimes{Total: cpuTime{user: 13, idle: 11}, Each: []cpuTime{{user: 8, idle: 6}, {system: 1, idle: 3}}},
	)

	if c.Load == nil || c.Load.Used != 0.75 || c.Load.Idle != 0.25 {
		t.Errorf("load %+v", c.Load)
	}

	if p := c.Processors[1].Load; p == nil || p.System != 0.25 {
		t.Errorf("a processor that came later: %+v", p)
	}

	c.SetLoad(CPUTimes{}, CPUTimes{})

	if c.Load != nil {
		t.Errorf("nothing counted is shown as %+v", c.Load)
	}
}

// TestSettledBut: what was unmet before does not keep a node from being settled, what is new does.
func TestSettledBut(t *testing.T) {
	t.Parallel()

	known := []string{"services ext-a", "network connectivity", "nodeReady"}

	for name, tt := range map[string]struct {
		stage string
		unmet []UnmetCondition
		want  bool
	}{
		"nothing":              {"running", nil, true},
		"the same":             {"running", []UnmetCondition{{Name: "services", Reason: "ext-a not healthy"}}, true},
		"the same, worse":      {"running", []UnmetCondition{{Name: "services", Reason: "ext-a not running"}}, true},
		"another service":      {"running", []UnmetCondition{{Name: "services", Reason: "ext-a not healthy, kubelet not running"}}, false},
		"network and the node": {"running", []UnmetCondition{{Name: "network", Reason: "waiting on: connectivity"}, {Name: "nodeReady", Reason: "node is not ready"}}, true},
		"more of the network":  {"running", []UnmetCondition{{Name: "network", Reason: "waiting on: address, connectivity"}}, false},
		"booting":              {"booting", []UnmetCondition{{Name: "services", Reason: "ext-a not healthy"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			s := MachineStatus{Stage: tt.stage, Ready: len(tt.unmet) == 0, Unmet: tt.unmet}
			if s.SettledBut(known) != tt.want {
				t.Errorf("%s: settled %t", s, !tt.want)
			}
		})
	}
}
