package cluster_test

import (
	"context"
	"testing"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"

	"github.com/talosmate/talosmate/lab/internal/cluster"
)

// TestRemovedMemberEndsAlone asks a living member for its status while it is removed: etcd panics there, and
// only that member may end.
func TestRemovedMemberEndsAlone(t *testing.T) {
	b := start(t, func(o *cluster.Options) { o.Workers = 0 })
	gone := b.node("cp-3")

	_, id, err := gone.Etcd.Leader()
	if err != nil {
		t.Fatal(err)
	}

	// for five seconds after its members met etcd refuses: unhealthy cluster
	b.until("the removal", func() bool {
		_, err := b.client("").MachineClient.EtcdRemoveMemberByID(b.on("cp-1"), &machine.EtcdRemoveMemberByIDRequest{MemberId: id})

		return err == nil
	})

	own := b.direct("cp-3")
	b.until("the member's end", func() bool {
		ctx, cancel := context.WithTimeout(b.ctx, time.Second)
		defer cancel()

		_, _ = own.EtcdStatus(ctx) // the answer does not matter

		return !gone.Etcd.Running()
	})

	if _, err = b.client("").EtcdMemberList(b.on("cp-1"), &machine.EtcdMemberListRequest{}); err != nil {
		t.Errorf("the others: %v", err)
	}
}

// TestStopWithoutQuorum stops a member that came up and never saw a leader.
func TestStopWithoutQuorum(t *testing.T) {
	b := start(t, func(o *cluster.Options) { o.Workers = 0 })

	for _, name := range []string{"cp-1", "cp-2", "cp-3"} {
		b.node(name).PowerOff("test")
	}

	alone := b.node("cp-1")
	alone.PowerOn()
	b.until("the member", func() bool { return alone.Etcd.Running() })

	began := time.Now()

	alone.Etcd.Stop()

	if took := time.Since(began); took > 5*time.Second || alone.Etcd.Running() {
		t.Errorf("stopping took %s, running: %t", took, alone.Etcd.Running())
	}
}
