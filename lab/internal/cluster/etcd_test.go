package cluster_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	etcdres "github.com/siderolabs/talos/pkg/machinery/resources/etcd"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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

// TestEtcdDown asks a node whose etcd is down while the node is up: nothing of its own member is answered before
// the caller's deadline, and what any member can answer is.
func TestEtcdDown(t *testing.T) {
	b := start(t, func(o *cluster.Options) { o.Workers = 0 })
	down := b.node("cp-3")

	b.until("machined to know its member", func() bool { _, ok := down.EtcdMemberID(); return ok }) //nolint:nlreturn // short

	if err := down.SetEtcdDown(true); err != nil {
		t.Fatal(err)
	}

	const patience = 2 * time.Second

	c := b.direct("cp-3")
	within := func(ask func(context.Context) error) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		defer cancel()

		began := time.Now()
		err := ask(ctx)

		return time.Since(began), err
	}

	var asked sync.WaitGroup

	for name, ask := range map[string]func(context.Context) error{
		"status": func(ctx context.Context) error { _, err := c.EtcdStatus(ctx); return err },
		"alarms": func(ctx context.Context) error { _, err := c.EtcdAlarmList(ctx); return err },
		"own list": func(ctx context.Context) error {
			_, err := c.EtcdMemberList(ctx, &machine.EtcdMemberListRequest{QueryLocal: true})

			return err
		},
		"leave": func(ctx context.Context) error { return c.EtcdLeaveCluster(ctx, &machine.EtcdLeaveClusterRequest{}) },
		"forfeit": func(ctx context.Context) error {
			_, err := c.EtcdForfeitLeadership(ctx, &machine.EtcdForfeitLeadershipRequest{})
			return err
		},
	} {
		asked.Go(func() {
			if took, err := within(ask); status.Code(err) != codes.DeadlineExceeded || took < patience-100*time.Millisecond {
				t.Errorf("%s: after %s: %v", name, took, err)
			}
		})
	}

	asked.Wait()

	if took, err := within(func(ctx context.Context) error {
		_, err := c.EtcdMemberList(ctx, &machine.EtcdMemberListRequest{})

		return err
	}); err != nil {
		t.Errorf("the list of any member: after %s: %v", took, err)
	}

	members := resource.NewMetadata(etcdres.NamespaceName, etcdres.MemberType, "", resource.VersionUndefined)
	if list, err := c.COSI.List(b.ctx, members); err != nil || len(list.Items) > 0 {
		t.Errorf("the member's resource: %v, %v", list.Items, err)
	}

	// What waits for the member goes on when it is back.
	ended := make(chan error, 1)

	go func() {
		_, err := c.EtcdForfeitLeadership(b.ctx, &machine.EtcdForfeitLeadershipRequest{})
		ended <- err
	}()

	if err := down.SetEtcdDown(false); err != nil {
		t.Fatal(err)
	}

	if err := <-ended; err != nil {
		t.Errorf("asked before it was back: %v", err)
	}
}
