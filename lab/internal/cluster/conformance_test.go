package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	cosiapi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/talos/pkg/machinery/api/cluster"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/api/storage"
	timeapi "github.com/siderolabs/talos/pkg/machinery/api/time"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"go.yaml.in/yaml/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/lab/internal/machine"
	"github.com/talosmate/talosmate/lab/internal/recording"
)

// answer is what came back from a request: messages as protojson trees, and the error.
type answer struct {
	messages []any
	err      error
}

func one(m proto.Message, err error) answer {
	if err != nil {
		return answer{err: err}
	}

	return answer{messages: []any{tree(m)}}
}

// stream drains a server stream.
func stream[T proto.Message](s interface{ Recv() (T, error) }, err error) answer {
	var out answer

	if err != nil {
		return answer{err: err}
	}

	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}

		if err != nil {
			out.err = err

			return out
		}

		out.messages = append(out.messages, tree(m))
	}
}

func tree(m proto.Message) any {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return err.Error()
	}

	var out any
	if err := json.Unmarshal(raw, &out); err != nil {
		return err.Error()
	}

	return out
}

// request sends one recorded request again. The name is the recording's.
type request func(ctx context.Context, c *client.Client, raw json.RawMessage) answer

func instance(driver common.ContainerDriver, ns common.ContainerdNamespace) *machineapi.ImageServiceListRequest {
	return &machineapi.ImageServiceListRequest{Containerd: &common.ContainerdInstance{Driver: driver, Namespace: ns}}
}

func logs(id string) request {
	return func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
		return stream(c.MachineClient.Logs(ctx, &machineapi.LogsRequest{Namespace: "system", Id: id, TailLines: 100}))
	}
}

func read(path string) request {
	return func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
		return stream(c.MachineClient.Read(ctx, &machineapi.ReadRequest{Path: path}))
	}
}

// recorded fills a message with the recorded request.
func recorded[T proto.Message](raw json.RawMessage, m T) T {
	if len(raw) > 0 {
		_ = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(raw, m) //nolint:errcheck // the comparison will tell
	}

	return m
}

func empty(f func(client.Client) func(context.Context) (proto.Message, error)) request {
	return func(ctx context.Context, c *client.Client, _ json.RawMessage) answer { return one(f(*c)(ctx)) }
}

// requests says how each recording was asked for.
func requests() map[string]request {
	e := &emptypb.Empty{}

	return map[string]request{
		"ClusterService.HealthCheck": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()

			return stream(c.ClusterClient.HealthCheck(ctx, &cluster.HealthCheckRequest{WaitTimeout: durationpb.New(1), ClusterInfo: &cluster.ClusterInfo{}}))
		},
		"ImageService.List.cri-wrong-driver": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return stream(c.ImageClient.List(ctx, instance(common.ContainerDriver_CONTAINERD, common.ContainerdNamespace_NS_CRI)))
		},
		"ImageService.List.cri": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return stream(c.ImageClient.List(ctx, instance(common.ContainerDriver_CRI, common.ContainerdNamespace_NS_CRI)))
		},
		"ImageService.List.system": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return stream(c.ImageClient.List(ctx, instance(common.ContainerDriver_CRI, common.ContainerdNamespace_NS_SYSTEM)))
		},
		"ImageService.List.inmem": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return stream(c.ImageClient.List(ctx, instance(common.ContainerDriver_CONTAINERD, common.ContainerdNamespace_NS_SYSTEM)))
		},
		"ImageService.Pull.ok": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return stream(c.ImageClient.Pull(ctx, &machineapi.ImageServicePullRequest{Containerd: systemStore(), ImageRef: "ghcr.io/siderolabs/installer:v1.13.8"}))
		},
		"ImageService.Pull.notfound": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return stream(c.ImageClient.Pull(ctx, &machineapi.ImageServicePullRequest{Containerd: systemStore(), ImageRef: "ghcr.io/siderolabs/installer:v9.9.9"}))
		},
		"ImageService.Remove.nosuch": func(ctx context.Context, c *client.Client, raw json.RawMessage) answer {
			return one(c.ImageClient.Remove(ctx, recorded(raw, &machineapi.ImageServiceRemoveRequest{})))
		},
		"LifecycleService.Upgrade.container-mode": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return stream(c.LifecycleClient.Upgrade(ctx, &machineapi.LifecycleServiceUpgradeRequest{
				Containerd: systemStore(), Source: &machineapi.InstallArtifactsSource{ImageName: "ghcr.io/siderolabs/installer:v1.13.9"},
			}))
		},
		"MachineService.CPUInfo": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.CPUInfo(ctx, e) }
		}),
		"MachineService.DiskStats": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.DiskStats(ctx, e) }
		}),
		"MachineService.EtcdAlarmList": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.EtcdAlarmList(ctx, e) }
		}),
		"MachineService.EtcdStatus": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.EtcdStatus(ctx, e) }
		}),
		"MachineService.Hostname": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.Hostname(ctx, e) }
		}),
		"MachineService.LoadAvg": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.LoadAvg(ctx, e) }
		}),
		"MachineService.LogsContainers": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.LogsContainers(ctx, e) }
		}),
		"MachineService.Memory": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.Memory(ctx, e) }
		}),
		"MachineService.Mounts": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.Mounts(ctx, e) }
		}),
		"MachineService.NetworkDeviceStats": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.NetworkDeviceStats(ctx, e) }
		}),
		"MachineService.Processes": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.Processes(ctx, e) }
		}),
		"MachineService.ServiceList": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.ServiceList(ctx, e) }
		}),
		"MachineService.SystemStat": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.SystemStat(ctx, e) }
		}),
		"MachineService.Version": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.Version(ctx, e) }
		}),
		"MachineService.EtcdAlarmDisarm.none": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.EtcdAlarmDisarm(ctx, e) }
		}),
		"MachineService.EtcdDefragment": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.EtcdDefragment(ctx, e) }
		}),
		"MachineService.EtcdDefragment.worker": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.EtcdDefragment(ctx, e) }
		}),
		"MachineService.CPUFreqStats": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.MachineClient.CPUFreqStats(ctx, e) }
		}),
		"LVMService.VolumeGroupRemove.nosuch": func(ctx context.Context, c *client.Client, raw json.RawMessage) answer {
			return one(c.LVMClient.VolumeGroupRemove(ctx, recorded(raw, &machineapi.LVMServiceVolumeGroupRemoveRequest{})))
		},
		"MDService.Destroy.nosuch": func(ctx context.Context, c *client.Client, raw json.RawMessage) answer {
			return one(c.MDClient.Destroy(ctx, recorded(raw, &machineapi.MDDestroyRequest{})))
		},
		"StorageService.Disks": empty(func(c client.Client) func(context.Context) (proto.Message, error) {
			return func(ctx context.Context) (proto.Message, error) { return c.StorageClient.Disks(ctx, e) }
		}),
		"TimeService.Time": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return one(c.TimeClient.TimeCheck(ctx, &timeapi.TimeRequest{Server: "time.cloudflare.com"}))
		},
		"MachineService.EtcdMemberList": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return one(c.MachineClient.EtcdMemberList(ctx, &machineapi.EtcdMemberListRequest{}))
		},
		"MachineService.Netstat": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return one(c.MachineClient.Netstat(ctx, &machineapi.NetstatRequest{
				Filter: machineapi.NetstatRequest_ALL, Feature: &machineapi.NetstatRequest_Feature{Pid: true},
				L4Proto: &machineapi.NetstatRequest_L4Proto{Tcp: true, Tcp6: true, Udp: true, Udp6: true},
				Netns:   &machineapi.NetstatRequest_NetNS{Hostnetwork: true},
			}))
		},
		"MachineService.Containers.cri": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return one(c.MachineClient.Containers(ctx, &machineapi.ContainersRequest{Namespace: "k8s.io", Driver: common.ContainerDriver_CRI}))
		},
		"MachineService.Containers.cri-system": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return one(c.MachineClient.Containers(ctx, &machineapi.ContainersRequest{Namespace: "system", Driver: common.ContainerDriver_CRI}))
		},
		"MachineService.Containers.system": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return one(c.MachineClient.Containers(ctx, &machineapi.ContainersRequest{Namespace: "system", Driver: common.ContainerDriver_CONTAINERD}))
		},
		"MachineService.Stats.cri": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return one(c.MachineClient.Stats(ctx, &machineapi.StatsRequest{Namespace: "k8s.io", Driver: common.ContainerDriver_CRI}))
		},
		"MachineService.Stats.system": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return one(c.MachineClient.Stats(ctx, &machineapi.StatsRequest{Namespace: "system", Driver: common.ContainerDriver_CONTAINERD}))
		},
		"MachineService.DiskUsage.var": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return stream(c.MachineClient.DiskUsage(ctx, &machineapi.DiskUsageRequest{Paths: []string{"/var"}, RecursionDepth: 1}))
		},
		"MachineService.List.etc": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return stream(c.MachineClient.List(ctx, &machineapi.ListRequest{Root: "/etc"}))
		},
		"MachineService.List.nosuchdir": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return stream(c.MachineClient.List(ctx, &machineapi.ListRequest{Root: "/nosuchdir"}))
		},
		"MachineService.List.system-recurse": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return stream(c.MachineClient.List(ctx, &machineapi.ListRequest{Root: "/system", Recurse: true, RecursionDepth: 3}))
		},
		"MachineService.Events.tail": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()

			s, err := c.MachineClient.Events(ctx, &machineapi.EventsRequest{TailEvents: -1})
			if err != nil {
				return answer{err: err}
			}

			m, err := s.Recv()

			return one(m, err)
		},
		"MachineService.Logs.apid":          logs("apid"),
		"MachineService.Logs.etcd":          logs("etcd"),
		"MachineService.Logs.kubelet":       logs("kubelet"),
		"MachineService.Logs.machined":      logs("machined"),
		"MachineService.Logs.nosuchservice": logs("nosuchservice"),
		"MachineService.Logs.trustd":        logs("trustd"),
		"MachineService.Read.boot_id":       read("/proc/sys/kernel/random/boot_id"),
		"MachineService.Read.nosuchfile":    read("/etc/nosuchfile"),
		"MachineService.Read.os-release":    read("/etc/os-release"),
		"MachineService.Read.uptime":        read("/proc/uptime"),

		"MachineService.Bootstrap.again": func(ctx context.Context, c *client.Client, raw json.RawMessage) answer {
			return one(c.MachineClient.Bootstrap(ctx, recorded(raw, &machineapi.BootstrapRequest{})))
		},
		"MachineService.Bootstrap.worker": func(ctx context.Context, c *client.Client, raw json.RawMessage) answer {
			return one(c.MachineClient.Bootstrap(ctx, recorded(raw, &machineapi.BootstrapRequest{})))
		},
		"MachineService.EtcdDowngradeValidate": func(ctx context.Context, c *client.Client, raw json.RawMessage) answer {
			return one(c.MachineClient.EtcdDowngradeValidate(ctx, recorded(raw, &machineapi.EtcdDowngradeValidateRequest{})))
		},
		"MachineService.EtcdForfeitLeadership": func(ctx context.Context, c *client.Client, raw json.RawMessage) answer {
			return one(c.MachineClient.EtcdForfeitLeadership(ctx, recorded(raw, &machineapi.EtcdForfeitLeadershipRequest{})))
		},
		"MachineService.EtcdRemoveMemberByID.unknown": func(ctx context.Context, c *client.Client, raw json.RawMessage) answer {
			return one(c.MachineClient.EtcdRemoveMemberByID(ctx, recorded(raw, &machineapi.EtcdRemoveMemberByIDRequest{})))
		},
		"MachineService.Kubeconfig.worker": func(ctx context.Context, c *client.Client, _ json.RawMessage) answer {
			return stream(c.MachineClient.Kubeconfig(ctx, e))
		},
		"MachineService.Restart.nosuch": func(ctx context.Context, c *client.Client, raw json.RawMessage) answer {
			return one(c.MachineClient.Restart(ctx, recorded(raw, &machineapi.RestartRequest{})))
		},
		"MachineService.ServiceRestart.apid":     serviceRestart,
		"MachineService.ServiceRestart.etcd":     serviceRestart,
		"MachineService.ServiceRestart.kubelet":  serviceRestart,
		"MachineService.ServiceRestart.machined": serviceRestart,
		"MachineService.ServiceRestart.nosuch":   serviceRestart,
		"MachineService.ServiceStop.etcd": func(ctx context.Context, c *client.Client, raw json.RawMessage) answer {
			return one(c.MachineClient.ServiceStop(ctx, recorded(raw, &machineapi.ServiceStopRequest{})))
		},
		"StorageService.BlockDeviceWipe.nosuch": func(ctx context.Context, c *client.Client, raw json.RawMessage) answer {
			return one(c.StorageClient.BlockDeviceWipe(ctx, recorded(raw, &storage.BlockDeviceWipeRequest{})))
		},
	}
}

func serviceRestart(ctx context.Context, c *client.Client, raw json.RawMessage) answer {
	return one(c.MachineClient.ServiceRestart(ctx, recorded(raw, &machineapi.ServiceRestartRequest{})))
}

// simulatedOtherwise lists the recordings whose answer a lab node gives
// differently on purpose, and why.
func simulatedOtherwise(dir, name string) string {
	switch {
	case name == "MachineService.EtcdMemberList.learner-not-started":
		return "a member that has not started yet"
	case strings.HasSuffix(name, "container-mode") && (name != "LifecycleService.Upgrade.container-mode" || !strings.HasPrefix(dir, "talos-v1.13.8")):
		return "the lab's nodes are metal, not containers"
	case strings.HasPrefix(name, "MachineService.ApplyConfiguration"):
		return "asked with the node's own configuration: TestApplyConfiguration"
	case name == "TimeService.Time":
		return "the lab's time servers answer"
	case name == "MachineService.Reboot", name == "MachineService.Events.reboot", name == "machinestatus.reboot":
		return "a sequence: TestRebootLooksAsRecorded"
	case name == "ImageService.Pull.ok":
		return "digests differ: TestLifecycleUpgrade"
	case name == "ClusterService.HealthCheck":
		return "depends on Kubernetes: TestHealthStream"
	default:
		return ""
	}
}

// volatile lists fields whose value belongs to the moment or the machine.
func volatile(field string) bool {
	return slices.Contains([]string{
		"ts", "last_change", "created_at", "size", "digest", "modified", "cpu_usage", "memory_usage", "pid", "id", "member_id", "leader",
		"raft_index", "raft_applied_index", "raft_term", "db_size", "db_size_in_use", "boot_time", "cpu_time", "available", "filesystem",
		"idle", "user", "system", "bytes", "message", "msg", "image", "peer_urls", "client_urls", "mode", "name", "hostname", "member",
		"last_message", "layer_id", "last_cpu", "is_learner",
	}, field)
}

// sameShape compares two protojson trees: the same fields with the same values,
// except where the value is volatile.
func sameShape(path string, want, got any) error {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: want an object, got %v", path, got)
		}

		var problems []error

		for k, v := range w {
			if volatile(k) {
				continue
			}

			have, there := g[k]
			if !there {
				problems = append(problems, fmt.Errorf("%s.%s: missing", path, k))

				continue
			}

			problems = append(problems, sameShape(path+"."+k, v, have))
		}

		return errors.Join(problems...)
	case []any:
		g, ok := got.([]any)
		if !ok || len(w) > 0 && len(g) == 0 {
			return fmt.Errorf("%s: want %d items, got %v", path, len(w), got)
		}

		// lists of services, members and mounts differ in length with the platform: compare what both have by position of shape only
		if len(w) > 0 && len(w) == len(g) && !isObject(w[0]) {
			for i := range w {
				if err := sameShape(fmt.Sprintf("%s[%d]", path, i), w[i], g[i]); err != nil {
					return err
				}
			}
		}

		return nil
	default:
		if fmt.Sprint(want) != fmt.Sprint(got) {
			return fmt.Errorf("%s: want %v, got %v", path, want, got)
		}

		return nil
	}
}

func isObject(v any) bool {
	_, ok := v.(map[string]any)

	return ok
}

// TestConformance sends every recorded request to a node of the same kind and
// compares what comes back with what was recorded.
func TestConformance(t *testing.T) {
	conforms(t, "v1.13.8", map[string]string{
		"talos-v1.13.8/cp-1": "cp-1", "talos-v1.13.8/cp-2": "cp-2", "talos-v1.13.8/worker-1": "worker-1",
		"talos-v1.13.9/cp-1": "cp-1", "talos-v1.13.9/worker-1": "worker-1", "talos-v1.13.9/acts": "cp-1",
	})
}

// TestConformance114 is TestConformance for Talos 1.14.
func TestConformance114(t *testing.T) {
	conforms(t, "v1.14.0-rc.1", map[string]string{
		release114 + "/cp-1": "cp-1", release114 + "/cp-2": "cp-2", release114 + "/worker-1": "worker-1", release114 + "/acts": "cp-1",
	})
}

// release114 are the recordings of Talos 1.14.
const release114 = "talos-v1.14.0-rc.1"

func conforms(t *testing.T, version string, nodes map[string]string) {
	t.Helper()

	b := start(t, func(o *testOptions) { o.TalosVersion = version })
	c := b.client("")
	known := requests()

	rewriters := map[string]recording.Rewriter{}
	for _, m := range b.Members() {
		rewriters[m.Name] = b.Rewriter(m.Number-1, m.Type())
	}

	for dir, node := range nodes {
		set := recording.Open(dir, rewriters[node])

		names, err := set.Names()
		if err != nil {
			t.Fatal(err)
		}

		for _, name := range names {
			if simulatedOtherwise(dir, name) != "" {
				continue
			}

			ask := known[name]
			if ask == nil {
				t.Errorf("%s/%s: the table does not know how to ask", dir, name)

				continue
			}

			target := node
			if strings.HasSuffix(name, ".worker") {
				target = "worker-1"
			}

			compare(t, set, name, dir, func(raw json.RawMessage) answer { return ask(b.on(target), c, raw) })
		}
	}
}

// differs lists comparisons that are of the recorded machine, not of Talos.
func differs(dir, name string) bool {
	switch name {
	// the recorded 1.13.9 cluster never had a kubelet, the lab's does
	case "MachineService.Logs.kubelet", "MachineService.Version", "ImageService.List.system":
		return strings.HasPrefix(dir, "talos-v1.13.9")
	// of the two clusters the lab serves the 1.13.8 one's counters
	case "MachineService.Memory", "MachineService.LoadAvg", "MachineService.NetworkDeviceStats", "MachineService.DiskStats",
		"MachineService.CPUInfo", "MachineService.SystemStat", "MachineService.LogsContainers":
		return strings.HasPrefix(dir, "talos-v1.13.9") || dir == "talos-v1.13.8/cp-2" || name == "MachineService.LogsContainers"
	default:
		return false
	}
}

func compare(t *testing.T, set *recording.Set, name, dir string, ask func(json.RawMessage) answer) {
	t.Helper()

	call, err := set.Call(name)
	if err != nil {
		t.Fatal(err)
	}

	got := ask(call.Request)
	want := call.Error.Status()

	if differs(dir, name) {
		return
	}

	if status.Code(want) != status.Code(got.err) || status.Convert(want).Message() != status.Convert(got.err).Message() {
		t.Errorf("%s/%s:\n want error %v\n  got error %v", dir, name, want, got.err)

		return
	}

	if want != nil {
		return
	}

	var recordedMessages []any

	for _, raw := range call.Responses {
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}

		recordedMessages = append(recordedMessages, v)
	}

	if len(recordedMessages) > 0 && len(got.messages) == 0 {
		t.Errorf("%s/%s: no answer", dir, name)

		return
	}

	if len(recordedMessages) == 1 && len(got.messages) == 1 {
		if err := sameShape("", platform(recordedMessages[0]), got.messages[0]); err != nil {
			t.Errorf("%s/%s: %v", dir, name, err)
		}
	}
}

// platform turns what the container platform says of itself into what metal says.
func platform(v any) any {
	raw, err := json.Marshal(v)
	if err != nil {
		return v
	}

	text := strings.NewReplacer(`"mode":"container"`, `"mode":"metal"`, `"name":"container"`, `"name":"metal"`).Replace(string(raw))

	var out any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return v
	}

	return out
}

// TestRecordedResources reads every recorded resource of a type that the state
// machine does not make itself, and compares the text of the spec that a client gets. What machinery's types make of it is
// the client's: those of a newer release have other fields.
func TestRecordedResources(t *testing.T) {
	recordedResources(t, "v1.13.8", map[string]string{"cp-1": "talos-v1.13.8/cp-1", "worker-1": "talos-v1.13.8/worker-1"})
}

// TestRecordedResources114 is TestRecordedResources for Talos 1.14, where a node makes more of them of its configuration.
func TestRecordedResources114(t *testing.T) {
	recordedResources(t, "v1.14.1", map[string]string{"cp-1": release114 + "/cp-1", "worker-1": release114 + "/worker-1"})
}

func recordedResources(t *testing.T, version string, nodes map[string]string) {
	t.Helper()

	b := start(t, func(o *testOptions) { o.Etcd, o.TalosVersion = false, version })

	var text string

	c := b.clientWith("", []grpc.DialOption{grpc.WithUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			err := invoke(ctx, method, req, reply, cc, opts...)
			if got, ok := reply.(*cosiapi.GetResponse); ok {
				text = got.GetResource().GetSpec().GetYamlSpec()
			}

			return err
		})})

	for node, dir := range nodes {
		m := b.node(node)

		raw, err := recording.Open(dir, b.Rewriter(m.Number-1, m.Type())).Resources()
		if err != nil {
			t.Fatal(err)
		}

		var types map[string]struct {
			Namespace string `yaml:"namespace"`
			Items     []struct {
				Metadata struct{ ID, Namespace string }
				Spec     any
			}
		}
		if err := yaml.Unmarshal(raw, &types); err != nil {
			t.Fatal(err)
		}

		seen := 0

		for typ, recordedType := range types {
			if version != "v1.13.8" && rendered(typ) {
				seen += len(recordedType.Items)

				if len(recordedType.Items) > 0 {
					specs := make([]any, len(recordedType.Items))
					for i, item := range recordedType.Items {
						specs[i] = item.Spec
					}

					b.inventsNothing(node, recordedType.Namespace, typ, specs)
				}

				continue
			}

			for _, item := range recordedType.Items {
				if b.MadeByStateMachine(typ, item.Metadata.ID) {
					continue
				}

				// Talos writes address families it has no name for as a text it cannot read itself
				if strings.HasPrefix(item.Metadata.ID, "Family(") {
					continue
				}

				seen++

				if version != "v1.13.8" && typ == k8s.ManifestType && machine.RendersManifest(item.Metadata.ID) {
					b.rendersPartOf(node, item.Metadata.ID, item.Spec)

					continue
				}

				if _, err := c.COSI.Get(b.on(node), resource.NewMetadata(item.Metadata.Namespace, typ, item.Metadata.ID, resource.VersionUndefined)); err != nil {
					t.Errorf("%s %s/%s: %v", node, typ, item.Metadata.ID, err)

					continue
				}

				if err := sameSpec(item.Spec, text); err != nil {
					t.Errorf("%s %s/%s: %v", node, typ, item.Metadata.ID, err)
				}
			}
		}

		if seen < 150 {
			t.Errorf("%s: only %d resources compared", node, seen)
		}
	}
}

// rendered reports whether a node with Talos 1.14 makes the resources of a type of its configuration.
func rendered(typ string) bool {
	return slices.Contains([]string{
		runtime.KernelParamSpecType, runtime.BootIDType, runtime.ImageFactorySchematicType, runtime.UnattendedInstallStatusType,
		k8s.NodeLabelSpecType, k8s.NodeTaintSpecType, k8s.AdmissionControlConfigType, k8s.AuditPolicyConfigType, k8s.AuthorizationConfigType,
		k8s.EtcdEncryptionConfigType, k8s.StaticPodType, network.LinkSpecType, network.AddressSpecType, network.RouteSpecType,
		network.HostnameSpecType, network.TimeServerSpecType, network.ResolverSpecType, network.OperatorSpecType,
	}, typ)
}

// inventsNothing verifies that a node has resources of a type, with no other fields than the recorded ones.
func (b *bed) inventsNothing(node, namespace, typ string, recordedSpecs []any) {
	b.t.Helper()

	st, err := b.node(node).State(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}

	list, err := st.Core().List(b.ctx, resource.NewMetadata(namespace, typ, "", resource.VersionUndefined))
	if err != nil || len(list.Items) == 0 {
		b.t.Errorf("%s: %d of %s: %v", node, len(list.Items), typ, err)
	}

	known := map[string]bool{}
	for _, spec := range recordedSpecs {
		for _, field := range fields(spec) {
			known[field] = true
		}
	}

	for _, item := range list.Items {
		for _, field := range fields(item.Spec()) {
			if !known[field] {
				b.t.Errorf("%s: %s has %q", node, item.Metadata(), field)
			}
		}
	}
}

// rendersPartOf verifies that a node renders a manifest with objects and fields of the recorded one only.
func (b *bed) rendersPartOf(node, id string, recorded any) {
	b.t.Helper()

	res, err := safe.StateGetByID[*k8s.Manifest](b.ctx, b.direct(node).COSI, id)
	if err != nil || len(res.TypedSpec().Items) == 0 {
		b.t.Errorf("%s: manifest %s: %v", node, id, err)

		return
	}

	named := map[string]any{}

	objects, _ := recorded.([]any)
	for _, one := range objects {
		named[nameOf(one)] = one
	}

	for _, item := range res.TypedSpec().Items {
		if name := nameOf(item.Object); named[name] == nil {
			b.t.Errorf("%s: manifest %s has %s", node, id, name)
		} else if err := partOf(name, named[name], item.Object); err != nil {
			b.t.Errorf("%s: manifest %s: %v", node, id, err)
		}
	}
}

// nameOf is an object's kind and name, without the digest in the name of kube-proxy's file.
func nameOf(object any) string {
	fields, _ := object.(map[string]any)
	metadata, _ := fields["metadata"].(map[string]any)
	name := fmt.Sprint(metadata["name"])

	if strings.HasPrefix(name, "kube-proxy-config-") {
		name = "kube-proxy-config-DIGEST"
	}

	return fmt.Sprint(fields["kind"], "/", name)
}

// partOf verifies that all fields of got are fields of want too; a list's elements have those of any recorded element.
func partOf(path string, want, got any) error {
	switch got := got.(type) {
	case map[string]any:
		have, _ := want.(map[string]any)
		for field, value := range got {
			if _, known := have[field]; !known {
				return fmt.Errorf("no field %s.%s is recorded", path, field)
			}

			if err := partOf(path+"."+field, have[field], value); err != nil {
				return err
			}
		}
	case []any:
		have, _ := want.([]any)
		for _, value := range got {
			err := fmt.Errorf("%s is recorded as empty", path)

			for _, one := range have {
				if err = partOf(path+"[]", one, value); err == nil {
					break
				}
			}

			if err != nil {
				return err
			}
		}
	}

	return nil
}

// fields lists the fields of a spec.
func fields(spec any) []string {
	var out map[string]any

	raw, err := yaml.Marshal(spec)
	if err != nil || yaml.Unmarshal(raw, &out) != nil {
		return nil
	}

	return slices.Collect(maps.Keys(out))
}

func sameSpec(want any, text string) error {
	var back any
	if err := yaml.Unmarshal([]byte(text), &back); err != nil {
		return err
	}

	a, b := fmt.Sprint(want), fmt.Sprint(back)
	if a != b {
		return fmt.Errorf("want %s, got %s", a, b)
	}

	return nil
}
