package cluster_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/cluster"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/talosmate/talosmate/lab/internal/recording"
)

// kinds gives the payload types of events, in order, without repetitions side by side.
func kinds(events []*machineapi.Event) []string {
	var out []string

	for _, e := range events {
		name := strings.TrimPrefix(e.Data.GetTypeUrl(), "talos/runtime/machine.")
		if name != "" && (len(out) == 0 || out[len(out)-1] != name) {
			out = append(out, name)
		}
	}

	return out
}

func TestRebootLooksAsRecorded(t *testing.T) {
	b := start(t, small)
	c := b.direct("worker-1")

	stream, err := c.MachineClient.Events(b.ctx, &machineapi.EventsRequest{})
	if err != nil {
		t.Fatal(err)
	}

	hello, err := stream.Recv()
	if err != nil || hello.Data.GetTypeUrl() != "" {
		t.Fatalf("hello %v %v", hello, err)
	}

	if err := c.Reboot(b.ctx); err != nil {
		t.Fatal(err)
	}

	var seen []*machineapi.Event

	for {
		e, err := stream.Recv()
		if err != nil {
			break
		}

		seen = append(seen, e)
	}

	recorded, err := recording.Stream(recording.Open("talos-v1.13.8/worker-1", nil), "MachineService.Events.reboot", func() *machineapi.Event { return &machineapi.Event{} })
	if err == nil || len(recorded) != 0 {
		// the payloads' types are Talos's own URLs, which protojson does not resolve: the order is written down here
		t.Logf("recorded %d events, %v", len(recorded), err)
	}

	want := []string{"SequenceEvent", "MachineStatusEvent", "PhaseEvent", "TaskEvent", "ServiceStateEvent"}
	got := kinds(seen)

	for _, kind := range want {
		if !slices.Contains(got, kind) {
			t.Errorf("no %s among %v", kind, got)
		}
	}

	if got[0] != "SequenceEvent" {
		t.Errorf("first %s", got[0])
	}
}

func TestHealthStream(t *testing.T) {
	b := start(t, nil)
	c := b.client("")

	if _, err := b.health(c.ClusterClient, "worker-1", 1); status.Code(err) != codes.Unimplemented {
		t.Errorf("health of a worker: %v", err)
	}

	messages, err := b.health(c.ClusterClient, "cp-1", 2*time.Second)
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a cluster without Kubernetes: %v", err)
	}

	recorded, err := recording.Stream(recording.Open("talos-v1.13.8/cp-1", b.Rewriter(0, "controlplane")), "ClusterService.HealthCheck",
		func() *cluster.HealthCheckProgress { return &cluster.HealthCheckProgress{} })
	if status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}

	// as recorded, up to the first condition that is Kubernetes' own
	for i, r := range recorded {
		if strings.Contains(r.Message, "k8s nodes") {
			break
		}

		if i >= len(messages) || messages[i] != r.Message {
			t.Fatalf("message %d: want %q, got %q", i, r.Message, messages[min(i, len(messages)-1)])
		}
	}
}

func (b *bed) health(c cluster.ClusterServiceClient, node string, wait time.Duration) ([]string, error) {
	ctx, cancel := context.WithCancel(b.on(node))
	defer cancel()

	stream, err := c.HealthCheck(ctx, &cluster.HealthCheckRequest{WaitTimeout: durationpb.New(wait), ClusterInfo: &cluster.ClusterInfo{}})
	if err != nil {
		return nil, err
	}

	var out []string

	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}

		if err != nil {
			return out, err
		}

		out = append(out, m.Message)
	}
}

func TestFaultsOfTheWire(t *testing.T) {
	b := start(t, small)
	c := b.direct("worker-1")

	b.arm("worker-1", "fail-rpc=Version:Unavailable:try again:2")

	for i := range 3 {
		_, err := c.Version(b.ctx)
		if want := i < 2; (status.Code(err) == codes.Unavailable) != want {
			t.Errorf("call %d: %v", i, err)
		}
	}

	b.node("worker-1").LogWriter("kubelet").Generate(20_000)
	b.arm("worker-1", "cut-stream=Logs:100000")

	stream, err := c.MachineClient.Logs(b.ctx, &machineapi.LogsRequest{Namespace: "system", Id: "kubelet", TailLines: -1})
	if err != nil {
		t.Fatal(err)
	}

	received := 0

	for {
		data, recvErr := stream.Recv()
		if recvErr != nil {
			err = recvErr

			break
		}

		received += len(data.Bytes)
	}

	if errors.Is(err, io.EOF) || received > 110_000 {
		t.Errorf("%d bytes, then %v", received, err)
	}

	b.arm("worker-1", "latency=300ms")

	begin := time.Now()

	if _, err := b.direct("worker-1").Version(b.ctx); err != nil || time.Since(begin) < 300*time.Millisecond {
		t.Errorf("after %s: %v", time.Since(begin), err)
	}
}

func TestFollowersEndWithTheNode(t *testing.T) {
	b := start(t, small)
	c := b.direct("worker-1")

	logs, err := c.MachineClient.Logs(b.ctx, &machineapi.LogsRequest{Namespace: "system", Id: "apid", Follow: true, TailLines: 0})
	if err != nil {
		t.Fatal(err)
	}

	kernel, err := c.MachineClient.Dmesg(b.ctx, &machineapi.DmesgRequest{Follow: true, Tail: true})
	if err != nil {
		t.Fatal(err)
	}

	// lines are written until the streams have caught one
	done := make(chan struct{})

	go func() {
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()

		for {
			select {
			case <-ticker.C:
				_, _ = b.node("worker-1").LogWriter("apid").Write([]byte("a line\n")) //nolint:errcheck // in memory
				b.node("worker-1").Printk("kern", "err", "a message")
			case <-done:
				return
			}
		}
	}()

	if data, err := logs.Recv(); err != nil || !strings.Contains(string(data.Bytes), "a line") {
		t.Errorf("%v %v", data, err)
	}

	if data, err := kernel.Recv(); err != nil || !strings.HasPrefix(string(data.Bytes), "kern:     err: [") {
		t.Errorf("%v %v", data, err)
	}

	close(done)
	b.node("worker-1").PowerOff("test")

	for err == nil {
		_, err = logs.Recv()
	}

	for err = nil; err == nil; {
		_, err = kernel.Recv()
	}
}

func TestManyNodes(t *testing.T) {
	b := start(t, func(o *testOptions) { o.Preset = "load" })

	if n := len(b.Members()); n != 500 {
		t.Errorf("%d nodes", n)
	}

	notes := b.Timeline.Of("")
	if took := notes[len(notes)-1].Time.Sub(notes[0].Time); took > time.Minute {
		t.Errorf("started in %s", took)
	}

	if _, err := b.client("").Version(b.on("worker-497")); err != nil {
		t.Error(err)
	}
}

func TestVersion114(t *testing.T) {
	b := start(t, func(o *testOptions) {
		small(o)
		o.TalosVersion, o.Mixed = "v1.13.8", map[string]string{"worker-1": "v1.14.0"}
		o.Preset = "factory"
	})

	for typ, want := range map[string]string{"BootIDs.runtime.talos.dev": b.node("worker-1").BootID(), "ImageFactorySchematics.runtime.talos.dev": b.Options.Schematic} {
		got, err := b.rawResources("worker-1", typ)
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %q %v", typ, got, err)
		}

		if _, err := b.rawResources("cp-1", typ); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s before 1.14: %v", typ, err)
		}
	}
}
