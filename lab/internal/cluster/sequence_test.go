package cluster_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/meta"
	"google.golang.org/protobuf/proto"

	labcluster "github.com/talosmate/talosmate/lab/internal/cluster"
)

// sequenceErrors follows a node's events until the stream ends, and passes on the errors of its sequences.
func (b *bed) sequenceErrors(node string) <-chan string {
	b.t.Helper()

	stream, err := b.direct(node).MachineClient.Events(b.ctx, &machineapi.EventsRequest{TailEvents: 0})
	if err != nil {
		b.t.Fatal(err)
	}

	if _, err := stream.Header(); err != nil {
		b.t.Fatal(err)
	}

	errs := make(chan string, 10)

	go func() {
		defer close(errs)

		for {
			event, err := stream.Recv()
			if err != nil {
				return
			}

			var sequence machineapi.SequenceEvent
			if event.Data.TypeUrl != "talos/runtime/machine.SequenceEvent" || proto.Unmarshal(event.Data.Value, &sequence) != nil || sequence.Error == nil {
				continue
			}

			errs <- sequence.Sequence + " " + sequence.Action.String() + " " + sequence.Error.Code.String() + ": " + sequence.Error.Message
		}
	}()

	return errs
}

// firstError waits for the error of a sequence.
func (b *bed) firstError(errs <-chan string, want string) {
	b.t.Helper()

	select {
	case got := <-errs:
		if got != want {
			b.t.Errorf("error %q, want %q", got, want)
		}
	case <-b.ctx.Done():
		b.t.Fatal("no error of a sequence")
	}
}

func fast(o *testOptions) {
	o.Cordon, o.Teardown, o.Countdown = 20*time.Millisecond, 20*time.Millisecond, 50*time.Millisecond
}

func TestResetThatCannotLeaveEtcdReboots(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers = 3, 0; fast(o) })
	b.put("precious", "kept")
	b.arm("cp-3", "leave-fails")

	before := b.node("cp-3").BootID()
	errs := b.sequenceErrors("cp-3")
	b.reset(b.direct("cp-3"), "cp-3", true, true, "STATE", "EPHEMERAL")

	b.firstError(errs, "reset NOOP FATAL: sequence failed: error running phase 3 in reset sequence: task 1/1: failed, failed to leave cluster: etcdserver: unhealthy cluster")
	b.rebooted("cp-3", before)

	if b.node("cp-3").Maintenance() || b.get("precious") != "kept" {
		t.Error("the failed reset erased something")
	}

	resp, err := b.client("").EtcdMemberList(b.on("cp-1"), &machineapi.EtcdMemberListRequest{})
	if err != nil || len(resp.Messages[0].Members) != 3 {
		t.Errorf("members %v %v", resp, err)
	}
}

func TestResetWithEtcdDownReboots(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers = 3, 0; fast(o); o.Member = 50 * time.Millisecond })

	if err := b.node("cp-3").SetEtcdDown(true); err != nil {
		t.Fatal(err)
	}

	before := b.node("cp-3").BootID()
	errs := b.sequenceErrors("cp-3")
	b.reset(b.direct("cp-3"), "cp-3", true, true, "STATE", "EPHEMERAL")
	b.firstError(errs, "reset NOOP FATAL: sequence failed: error running phase 3 in reset sequence: task 1/1: failed, failed to leave cluster: failed to get local etcd member ID: context deadline exceeded")
	b.rebooted("cp-3", before)

	if b.node("cp-3").Maintenance() {
		t.Error("the failed reset erased STATE")
	}
}

func TestShutdownThatCannotCordonPowersOff(t *testing.T) {
	b := start(t, func(o *testOptions) { small(o); fast(o) })
	b.arm("worker-1", "cordon-fails")

	errs := b.sequenceErrors("worker-1")
	if err := b.direct("worker-1").Shutdown(b.ctx); err != nil {
		t.Fatal(err)
	}

	b.firstError(errs, "shutdown NOOP FATAL: sequence failed: error running phase 2 in shutdown sequence: task 1/1: failed, context deadline exceeded")
	b.until("no power", func() bool { return !b.node("worker-1").Powered() })

	// a forced shutdown has no such step
	b.node("worker-1").PowerOn()
	b.until("the node", func() bool { return b.node("worker-1").Ready() })

	errs = b.sequenceErrors("worker-1")
	if err := b.direct("worker-1").Shutdown(b.ctx, client.WithShutdownForce(true)); err != nil {
		t.Fatal(err)
	}

	b.until("no power", func() bool { return !b.node("worker-1").Powered() })

	if got, failed := <-errs; failed {
		t.Errorf("forced: %s", got)
	}
}

func TestResetThatCannotCordonGoesOn(t *testing.T) {
	b := start(t, func(o *testOptions) { small(o); fast(o) })
	b.arm("worker-1", "cordon-fails")
	b.reset(b.direct("worker-1"), "worker-1", true, true, "STATE", "EPHEMERAL")
	b.until("maintenance mode", func() bool { return b.node("worker-1").Maintenance() && b.node("worker-1").Up() })
}

func TestRebootThatCannotTearDownRevertsTheInstallation(t *testing.T) {
	b := start(t, func(o *testOptions) { small(o); fast(o) })
	c := b.direct("worker-1")
	n := b.node("worker-1")
	before := n.BootID()

	name, err := b.pull(c, "worker-1", nextInstaller)
	if err != nil {
		t.Fatal(err)
	}

	if code, _, err := b.install(c, "worker-1", name); err != nil || code != 0 {
		t.Fatal(code, err)
	}

	if got := n.Dump().Meta[meta.Upgrade]; got != "A" {
		t.Errorf("the way back is %q", got)
	}

	b.arm("worker-1", "teardown-stuck")

	errs := b.sequenceErrors("worker-1")
	if err := c.Reboot(b.ctx); err != nil {
		t.Fatal(err)
	}

	b.firstError(errs, "reboot NOOP FATAL: sequence failed: error running phase 7 in reboot sequence: task 1/1: failed, context deadline exceeded")
	b.rebooted("worker-1", before)

	if d := n.Dump(); d.Version != "v1.14.1" || d.DefaultSlot != "A" || d.RebootPending || d.Meta[meta.Upgrade] != "" {
		t.Errorf("version %s, default slot %s, pending %t, way back %q", d.Version, d.DefaultSlot, d.RebootPending, d.Meta[meta.Upgrade])
	}
}

func TestUpgradeIsConfirmedByAReadyBoot(t *testing.T) {
	b := start(t, small)
	c := b.direct("worker-1")
	n := b.node("worker-1")
	before := n.BootID()

	if _, err := c.MachineClient.Upgrade(b.ctx, &machineapi.UpgradeRequest{Image: nextInstaller}); err != nil { //nolint:staticcheck // nodes before 1.13 have no other
		t.Fatal(err)
	}

	b.rebooted("worker-1", before)

	if d := n.Dump(); d.Version != "v1.14.2" || d.Meta[meta.Upgrade] != "" {
		t.Errorf("version %s, way back %q", d.Version, d.Meta[meta.Upgrade])
	}
}

func TestColdBootFails(t *testing.T) {
	b := start(t, func(o *testOptions) { small(o); o.Workers = 2 })
	b.arm("worker-1", "cold-boot-fails")
	b.arm("worker-2", "cold-boot-fails")

	before := b.node("worker-1").BootID()
	if err := b.direct("worker-1").Reboot(b.ctx); err != nil {
		t.Fatal(err)
	}

	b.rebooted("worker-1", before) // through kexec

	if err := b.direct("worker-2").Reboot(b.ctx, client.WithPowerCycle); err != nil {
		t.Fatal(err)
	}

	b.until("the failed boot", func() bool {
		for _, n := range b.Timeline.Of("worker-2") {
			if n.Event == "lost" && strings.Contains(n.Detail, "cold boot") {
				return !b.node("worker-2").Powered()
			}
		}

		return false
	})

	b.node("worker-2").Faults.Clear("")
	b.node("worker-2").PowerOn()
	b.until("the node", func() bool { return b.node("worker-2").Ready() })

	if lost := slices.ContainsFunc(b.Timeline.Of("worker-1"), func(n labcluster.Note) bool { return n.Event == "lost" }); lost {
		t.Error("the reboot through kexec was a cold boot")
	}
}
