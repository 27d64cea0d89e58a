package hostile_test

import (
	"strings"
	"sync"
	"testing"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/golden"
	"github.com/talosmate/talosmate/internal/testing/hostile"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

func start(t *testing.T) (*hostile.Endpoint, *replay.Server) {
	t.Helper()

	server := replay.Start(t, "talos-v1.13.8", nil)

	return hostile.Start(t, server.Talosconfig(t, "os:admin"), server.Authority(t)), server
}

func run(t *testing.T, talosconfig string, args ...string) clitest.Result {
	t.Helper()

	return clitest.Run(t, []string{"TALOSCONFIG=" + talosconfig}, args...)
}

func TestPassesThrough(t *testing.T) {
	t.Parallel()

	h, server := start(t)
	direct := server.Talosconfig(t, "os:admin")

	for _, args := range [][]string{
		{"service", "list", "-n", "10.5.0.2,10.5.0.5", "-o", "json"},
		{"get", "hostnamestatus", "-n", "10.5.0.2", "-o", "json"},
		{"logs", "kubelet", "-n", "10.5.0.2"},
		{"fs", "read", "/nosuchfile", "-n", "10.5.0.2"},
	} {
		want, got := run(t, direct, args...), run(t, h.Talosconfig, args...)
		if want.Code != got.Code || string(golden.Stable([]byte(want.Stdout))) != string(golden.Stable([]byte(got.Stdout))) || got.Stdout+got.Stderr == "" {
			t.Errorf("%v: exit code %d, want %d\n%s%s\nwant\n%s", args, got.Code, want.Code, got.Stdout, got.Stderr, want.Stdout)
		}
	}
}

func TestRewrites(t *testing.T) {
	t.Parallel()

	h, _ := start(t)
	hostile.Rewrite(h, machine.MachineService_ServiceList_FullMethodName, func(node string, r *machine.ServiceListResponse) {
		r.Messages[0].Services[0].Id = "evil-on-" + node
	})
	h.Resources("HostnameStatuses.net.talos.dev", func(_ string, r *cosi.Resource) { r.Spec.YamlSpec = "hostname: evil" })

	var mu sync.Mutex // requests run side by side

	seen := map[string]bool{}
	h.Answers(func(_, method string, m proto.Message) {
		mu.Lock()
		defer mu.Unlock()

		seen[method+" "+string(m.ProtoReflect().Descriptor().Name())] = true
	})

	if got := run(t, h.Talosconfig, "service", "list", "-n", "10.5.0.2"); !strings.Contains(got.Stdout, "evil-on-10.5.0.2") {
		t.Errorf("%+v", got)
	}

	if got := run(t, h.Talosconfig, "get", "hostnamestatus", "-n", "10.5.0.2", "-o", "json"); !strings.Contains(got.Stdout, `"evil"`) {
		t.Errorf("%+v", got)
	}

	mu.Lock()
	defer mu.Unlock()

	if !seen[machine.MachineService_ServiceList_FullMethodName+" ServiceListResponse"] {
		t.Errorf("saw %v", seen)
	}
}

func TestServesItsOwn(t *testing.T) {
	t.Parallel()

	h, _ := start(t)
	h.Serve(machine.MachineService_Read_FullMethodName, func(_ string, stream grpc.ServerStream) error {
		for _, m := range []proto.Message{&common.Data{Bytes: []byte("evil ")}, &hostile.Raw{Bytes: []byte("\x12\x04more")}} {
			if err := stream.SendMsg(m); err != nil {
				return err
			}
		}

		return nil
	})

	if got := run(t, h.Talosconfig, "fs", "read", "/etc/os-release", "-n", "10.5.0.2"); got.Stdout != "evil more" {
		t.Errorf("%+v", got)
	}
}

func TestHoldsAndDrops(t *testing.T) {
	t.Parallel()

	h, server := start(t)
	h.Hold(machine.MachineService_ServiceList_FullMethodName)
	h.Drop(machine.MachineService_Memory_FullMethodName)

	before := server.Requests()

	if got := run(t, h.Talosconfig, "service", "list", "-n", "10.5.0.2", "--timeout", "300ms"); !strings.Contains(got.Stderr, "no answer before the deadline") {
		t.Errorf("held: %+v", got)
	}

	if server.Requests() == before || h.Calls(machine.MachineService_ServiceList_FullMethodName) == 0 {
		t.Error("what is held was not executed")
	}

	if got := run(t, h.Talosconfig, "system", "memory", "-n", "10.5.0.2", "--timeout", "5s"); got.Code == 0 || !strings.Contains(got.Stderr, "10.5.0.2") {
		t.Errorf("dropped: %+v", got)
	}

	if h.Calls(machine.MachineService_Memory_FullMethodName) == 0 {
		t.Error("what is dropped was not executed")
	}
}
