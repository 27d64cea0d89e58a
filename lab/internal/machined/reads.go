package machined

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/lab/internal/faults"
	node "github.com/talosmate/talosmate/lab/internal/machine"
)

// Version implements machine.MachineService.
func (s *Service) Version(context.Context, *emptypb.Empty) (*machine.VersionResponse, error) {
	v := &machine.Version{
		Version: &machine.VersionInfo{
			Tag: s.node.Version(), Sha: "undefined", GoVersion: "go1.26.8", Os: "linux", Arch: "amd64",
		},
		Platform: &machine.PlatformInfo{Name: s.node.PlatformName(), Mode: "metal"},
	}

	if !s.node.Maintenance() {
		v.Features = &machine.FeaturesInfo{Rbac: true}
	}

	return &machine.VersionResponse{Messages: []*machine.Version{v}}, nil
}

// Hostname implements machine.MachineService.
func (s *Service) Hostname(context.Context, *emptypb.Empty) (*machine.HostnameResponse, error) {
	return &machine.HostnameResponse{Messages: []*machine.Hostname{{Hostname: s.node.Hostname()}}}, nil
}

// ServiceList implements machine.MachineService.
func (s *Service) ServiceList(context.Context, *emptypb.Empty) (*machine.ServiceListResponse, error) {
	return &machine.ServiceListResponse{Messages: []*machine.ServiceList{{Services: s.node.Services()}}}, nil
}

// SystemStat implements machine.MachineService.
func (s *Service) SystemStat(context.Context, *emptypb.Empty) (*machine.SystemStatResponse, error) {
	out := &machine.SystemStatResponse{}
	if err := s.node.Recording.Unary("MachineService.SystemStat", out); err != nil {
		return nil, err
	}

	boot := s.node.BootTime()
	out.Messages[0].BootTime = uint64(boot.Unix())

	// the counters of a machine that is mostly idle
	seconds := time.Since(boot).Seconds()
	for _, cpu := range append(slices.Clone(out.Messages[0].Cpu), out.Messages[0].CpuTotal) {
		cpu.Idle += seconds * 0.9
		cpu.User += seconds * 0.06
		cpu.System += seconds * 0.04
	}

	return out, nil
}

// Memory implements machine.MachineService.
func (s *Service) Memory(context.Context, *emptypb.Empty) (*machine.MemoryResponse, error) {
	out := &machine.MemoryResponse{}

	return out, s.node.Recording.Unary("MachineService.Memory", out)
}

// CPUInfo implements machine.MachineService.
func (s *Service) CPUInfo(context.Context, *emptypb.Empty) (*machine.CPUInfoResponse, error) {
	out := &machine.CPUInfoResponse{}

	return out, s.node.Recording.Unary("MachineService.CPUInfo", out)
}

// CPUFreqStats implements machine.MachineService.
func (s *Service) CPUFreqStats(context.Context, *emptypb.Empty) (*machine.CPUFreqStatsResponse, error) {
	return &machine.CPUFreqStatsResponse{Messages: []*machine.CPUsFreqStats{{}}}, nil
}

// LoadAvg implements machine.MachineService.
func (s *Service) LoadAvg(context.Context, *emptypb.Empty) (*machine.LoadAvgResponse, error) {
	out := &machine.LoadAvgResponse{}

	return out, s.node.Recording.Unary("MachineService.LoadAvg", out)
}

// DiskStats implements machine.MachineService.
func (s *Service) DiskStats(context.Context, *emptypb.Empty) (*machine.DiskStatsResponse, error) {
	out := &machine.DiskStatsResponse{}

	return out, s.node.Recording.Unary("MachineService.DiskStats", out)
}

// NetworkDeviceStats implements machine.MachineService.
func (s *Service) NetworkDeviceStats(context.Context, *emptypb.Empty) (*machine.NetworkDeviceStatsResponse, error) {
	out := &machine.NetworkDeviceStatsResponse{}

	return out, s.node.Recording.Unary("MachineService.NetworkDeviceStats", out)
}

// Processes implements machine.MachineService.
func (s *Service) Processes(context.Context, *emptypb.Empty) (*machine.ProcessesResponse, error) {
	out := &machine.ProcessesResponse{}
	if err := s.node.Recording.Unary("MachineService.Processes", out); err != nil {
		return nil, err
	}

	seconds := time.Since(s.node.BootTime()).Seconds()
	for _, p := range out.Messages[0].Processes {
		p.CpuTime += seconds * 0.01
	}

	return out, nil
}

// Netstat implements machine.MachineService.
func (s *Service) Netstat(_ context.Context, req *machine.NetstatRequest) (*machine.NetstatResponse, error) {
	recorded := &machine.NetstatResponse{}
	if err := s.node.Recording.Unary("MachineService.Netstat", recorded); err != nil {
		return nil, err
	}

	l4 := req.GetL4Proto()
	wanted := map[string]bool{
		"tcp": l4.GetTcp(), "tcp6": l4.GetTcp6(), "udp": l4.GetUdp(), "udp6": l4.GetUdp6(),
		"udplite": l4.GetUdplite(), "udplite6": l4.GetUdplite6(), "raw": l4.GetRaw(), "raw6": l4.GetRaw6(),
	}

	out := &machine.Netstat{}

	for _, r := range recorded.Messages[0].Connectrecord {
		unspecified := r.Remoteip == "0.0.0.0" || r.Remoteip == "::"

		switch req.GetFilter() {
		case machine.NetstatRequest_LISTENING:
			if !unspecified || r.Remoteport != 0 {
				continue
			}
		case machine.NetstatRequest_CONNECTED:
			if unspecified || r.Remoteport == 0 {
				continue
			}
		case machine.NetstatRequest_ALL:
		default:
			return nil, status.Errorf(codes.InvalidArgument, "invalid filter: %v", req.GetFilter())
		}

		if !wanted[r.L4Proto] {
			continue
		}

		if !req.GetFeature().GetPid() {
			r.Process = &machine.ConnectRecord_Process{}
		}

		out.Connectrecord = append(out.Connectrecord, r)
	}

	return &machine.NetstatResponse{Messages: []*machine.Netstat{out}}, nil
}

// Mounts implements machine.MachineService.
func (s *Service) Mounts(context.Context, *emptypb.Empty) (*machine.MountsResponse, error) {
	out := &machine.MountsResponse{}
	if err := s.node.Recording.Unary("MachineService.Mounts", out); err != nil {
		return nil, err
	}

	size, free := s.node.Disk()

	for _, m := range out.Messages[0].Stats {
		switch m.MountedOn {
		case "/":
			m.Filesystem, m.Size, m.Available = "/dev/loop0", 80<<20, 0
		case "/var":
			m.Filesystem, m.Size, m.Available = "/dev/sda6", uint64(size), uint64(free)
		case "/system/state":
			m.Filesystem, m.Size, m.Available = "/dev/sda5", 92<<20, 85<<20
		default:
			if m.Filesystem == "/dev/vda" && m.Size > 0 {
				m.Filesystem, m.Size, m.Available = "overlay", uint64(size), uint64(free)
			}
		}
	}

	// Volumes with partitions of their own are mounted too.
	for target, size := range s.node.PromotedMounts() {
		out.Messages[0].Stats = append(out.Messages[0].Stats, &machine.MountStat{Filesystem: "/dev/sda7", MountedOn: target, Size: size, Available: size - size/10})
	}

	return out, nil
}

// LogsContainers implements machine.MachineService.
func (s *Service) LogsContainers(context.Context, *emptypb.Empty) (*machine.LogsContainersResponse, error) {
	return &machine.LogsContainersResponse{Messages: []*machine.LogsContainer{{Ids: s.node.LogIDs()}}}, nil
}

// Logs implements machine.MachineService.
func (s *Service) Logs(req *machine.LogsRequest, srv grpc.ServerStreamingServer[common.Data]) error {
	if req.Namespace != constants.SystemContainerdNamespace && req.Id != "kubelet" {
		return s.podLogs(req, srv)
	}

	log, ok := s.node.Log(req.Id)
	if !ok {
		return fmt.Errorf("log %q was not registered", req.Id)
	}

	tail := -1
	if req.TailLines >= 0 {
		tail = int(req.TailLines)
	}

	return sendBytes(log.Reader(srv.Context(), tail, req.Follow), srv.Send)
}

func (s *Service) podLogs(req *machine.LogsRequest, srv grpc.ServerStreamingServer[common.Data]) error {
	if _, err := s.inspect(req.Namespace, req.Driver); err != nil {
		return err
	}

	for _, c := range s.node.Containers(req.Namespace) {
		if c.ID != req.Id && c.InternalID != req.Id {
			continue
		}

		log := s.node.LogWriter("container/" + c.ID)
		if log.Size() == 0 {
			for i := range 20 {
				fmt.Fprintf(log, "%s stdout F line %d of %s\n", time.Now().UTC().Format(time.RFC3339Nano), i, c.ID) //nolint:errcheck // in memory
			}
		}

		tail := -1
		if req.TailLines >= 0 {
			tail = int(req.TailLines)
		}

		return sendBytes(log.Reader(srv.Context(), tail, req.Follow), srv.Send)
	}

	return fmt.Errorf("container %q not found", req.Id)
}

// Dmesg implements machine.MachineService.
func (s *Service) Dmesg(req *machine.DmesgRequest, srv grpc.ServerStreamingServer[common.Data]) error {
	if !req.Tail {
		for _, line := range s.node.Kernel() {
			if err := srv.Send(&common.Data{Bytes: []byte(line)}); err != nil {
				return err
			}
		}
	}

	if !req.Follow {
		return nil
	}

	seen := len(s.node.Kernel())

	for {
		more := s.node.KernelGrown()
		lines := s.node.Kernel()

		for ; seen < len(lines); seen++ {
			if err := srv.Send(&common.Data{Bytes: []byte(lines[seen])}); err != nil {
				return err
			}
		}

		select {
		case <-more:
		case <-srv.Context().Done():
			return srv.Context().Err()
		}
	}
}

// Events implements machine.MachineService.
func (s *Service) Events(req *machine.EventsRequest, srv grpc.ServerStreamingServer[machine.Event]) error {
	events := s.node.Events()

	hello, err := node.Event{ID: events.NewID(time.Now()), ActorID: req.WithActorId}.Proto()
	if err != nil {
		return err
	}

	if err := srv.Send(hello); err != nil {
		return err
	}

	if f, dead := s.node.Faults.Get(faults.EventStreamDead); dead {
		if f.Value == "end" {
			return nil
		}

		<-srv.Context().Done()

		return srv.Context().Err()
	}

	past, more, ended := events.Since("")
	start := selectTail(req, past)
	last := ""

	if len(past) > 0 {
		last = past[len(past)-1].ID
	}

	for {
		for _, e := range start {
			if req.WithActorId != "" && e.ActorID != req.WithActorId {
				continue
			}

			msg, err := e.Proto()
			if err != nil {
				return err
			}

			if err := srv.Send(msg); err != nil {
				return err
			}
		}

		if ended {
			return nil
		}

		select {
		case <-more:
		case <-srv.Context().Done():
			return srv.Context().Err()
		}

		if _, dead := s.node.Faults.Get(faults.EventStreamDead); dead {
			return nil
		}

		start, more, ended = events.Since(last)
		if len(start) > 0 {
			last = start[len(start)-1].ID
		}
	}
}

// selectTail selects the past events of a request.
func selectTail(req *machine.EventsRequest, past []node.Event) []node.Event {
	switch {
	case req.TailEvents < 0:
		return past
	case req.TailEvents > 0:
		return past[max(0, len(past)-int(req.TailEvents)):]
	case req.TailId != "":
		for i, e := range past {
			if e.ID > req.TailId {
				return past[i:]
			}
		}

		return nil
	case req.TailSeconds > 0:
		since := time.Now().Add(-time.Duration(req.TailSeconds) * time.Second)
		for i, e := range past {
			if e.Time.After(since) {
				return past[i:]
			}
		}

		return nil
	default:
		return nil
	}
}

// inspect checks namespace and driver as machined's container inspectors do.
func (s *Service) inspect(namespace string, driver common.ContainerDriver) (string, error) {
	if namespace == "" {
		return "", status.Errorf(codes.InvalidArgument, "namespace can't be empty")
	}

	switch driver {
	case common.ContainerDriver_CRI:
		if namespace != constants.K8sContainerdNamespace {
			return "", errors.New("CRI inspector is supported only for K8s namespace")
		}
	case common.ContainerDriver_CONTAINERD:
	default:
		return "", status.Errorf(codes.InvalidArgument, "unsupported driver %q", driver)
	}

	return namespace, nil
}

// Containers implements machine.MachineService.
func (s *Service) Containers(_ context.Context, req *machine.ContainersRequest) (*machine.ContainersResponse, error) {
	if _, err := s.inspect(req.Namespace, req.Driver); err != nil {
		return nil, err
	}

	out := &machine.Container{}

	for _, c := range s.node.Containers(req.Namespace) {
		out.Containers = append(out.Containers, &machine.ContainerInfo{
			Namespace: req.Namespace, Id: c.ID, InternalId: c.InternalID, Uid: c.UID, PodId: c.PodID, Name: c.Name,
			Image: c.Image, Pid: c.PID, Status: c.Status,
		})
	}

	return &machine.ContainersResponse{Messages: []*machine.Container{out}}, nil
}

// Stats implements machine.MachineService.
func (s *Service) Stats(_ context.Context, req *machine.StatsRequest) (*machine.StatsResponse, error) {
	if _, err := s.inspect(req.Namespace, req.Driver); err != nil {
		return nil, err
	}

	out := &machine.Stats{}
	elapsed := time.Since(s.node.BootTime())

	for _, c := range s.node.Containers(req.Namespace) {
		out.Stats = append(out.Stats, &machine.Stat{
			Namespace: req.Namespace, Id: c.ID, PodId: c.PodID, Name: c.Name,
			MemoryUsage: 20<<20 + uint64(c.PID)<<10, CpuUsage: uint64(elapsed.Nanoseconds()/50) + uint64(c.PID)*1000,
		})
	}

	return &machine.StatsResponse{Messages: []*machine.Stats{out}}, nil
}

// Restart implements machine.MachineService.
func (s *Service) Restart(_ context.Context, req *machine.RestartRequest) (*machine.RestartResponse, error) {
	if _, err := s.inspect(req.Namespace, req.Driver); err != nil {
		return nil, err
	}

	for _, c := range s.node.Containers(req.Namespace) {
		if c.ID == req.Id || c.InternalID == req.Id {
			return &machine.RestartResponse{Messages: []*machine.Restart{{}}}, nil
		}
	}

	return nil, fmt.Errorf("container %q not found", req.Id)
}

// Read implements machine.MachineService.
func (s *Service) Read(req *machine.ReadRequest, srv grpc.ServerStreamingServer[common.Data]) error {
	f, err := s.node.Files().Lookup(req.Path, true)
	if err != nil {
		return status.Errorf(codes.NotFound, "stat %s: no such file or directory", req.Path)
	}

	if !f.Mode.IsRegular() {
		return errors.New("path must be a regular file")
	}

	return sendBytes(f.Open(), srv.Send)
}

// List implements machine.MachineService.
func (s *Service) List(req *machine.ListRequest, srv grpc.ServerStreamingServer[machine.FileInfo]) error {
	root := "/" + strings.Trim(req.Root, "/")

	depth := 1

	if req.Recurse {
		depth = -1
		if req.RecursionDepth != 0 {
			depth = int(req.RecursionDepth)
		}
	}

	files, err := s.node.Files().Walk(root, depth)
	if err != nil {
		return fmt.Errorf("lstat %s: no such file or directory", root)
	}

	for _, f := range files {
		if !wantType(req.Types, f.Mode) {
			continue
		}

		err := srv.Send(&machine.FileInfo{
			Name: f.Path, RelativeName: relative(root, f.Path), Size: f.Size, Mode: uint32(f.Mode), Modified: f.Modified.Unix(),
			IsDir: f.Mode.IsDir(), Link: f.Link, Uid: f.UID, Gid: f.GID,
		})
		if err != nil {
			return err
		}
	}

	return nil
}

func relative(root, name string) string {
	rel := strings.TrimPrefix(strings.TrimPrefix(name, root), "/")
	if rel == "" {
		return "."
	}

	return rel
}

func wantType(types []machine.ListRequest_Type, mode fs.FileMode) bool {
	if len(types) == 0 {
		return true
	}

	for _, t := range types {
		switch t {
		case machine.ListRequest_REGULAR:
			if mode.IsRegular() {
				return true
			}
		case machine.ListRequest_DIRECTORY:
			if mode.IsDir() {
				return true
			}
		case machine.ListRequest_SYMLINK:
			if mode&fs.ModeSymlink != 0 {
				return true
			}
		}
	}

	return false
}
