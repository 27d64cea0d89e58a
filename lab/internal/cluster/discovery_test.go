package cluster_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/safe"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	machinetype "github.com/siderolabs/talos/pkg/machinery/config/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	configres "github.com/siderolabs/talos/pkg/machinery/resources/config"

	"github.com/talosmate/talosmate/lab/internal/faults"
)

// discovered lists the IDs of Members and Affiliates as a node has them.
func (b *bed) discovered(node string) (members, affiliates []string) {
	b.t.Helper()

	c := b.direct(node)

	ms, err := safe.StateListAll[*cluster.Member](b.ctx, c.COSI)
	if err != nil {
		b.t.Fatal(err)
	}

	for m := range ms.All() {
		members = append(members, m.Metadata().ID())
	}

	as, err := safe.StateListAll[*cluster.Affiliate](b.ctx, c.COSI)
	if err != nil {
		b.t.Fatal(err)
	}

	for a := range as.All() {
		affiliates = append(affiliates, a.Metadata().ID())
	}

	return members, affiliates
}

func TestDiscoveryFaults(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers, o.Etcd = 1, 2, false })

	for _, step := range []struct {
		fault string
		want  []string
	}{
		{"", []string{"cp-1", "worker-1", "worker-2"}},
		{"discovery=off", nil},
		{"discovery=alone", []string{"cp-1"}},
		{"discovery=missing:worker-1", []string{"cp-1", "worker-2"}},
		{"clear", []string{"cp-1", "worker-1", "worker-2"}},
	} {
		switch step.fault {
		case "":
		case "clear":
			b.node("cp-1").Faults.Clear(faults.Discovery)
		default:
			b.arm("cp-1", step.fault)
		}

		members, affiliates := b.discovered("cp-1")
		if !slices.Equal(members, step.want) || len(affiliates) != len(step.want) {
			t.Errorf("%s: members %v affiliates %v, want %v", step.fault, members, affiliates, step.want)
		}
	}

	if members, _ := b.discovered("worker-1"); len(members) != 3 {
		t.Errorf("another node: %v", members)
	}
}

func TestDiscoveryOfAWholeCluster(t *testing.T) {
	b := start(t, func(o *testOptions) { small(o); o.Discovery = faults.DiscoveryOff })

	if members, affiliates := b.discovered("worker-1"); len(members)+len(affiliates) > 0 {
		t.Errorf("%v %v", members, affiliates)
	}

	typ, err := safe.StateGetByID[*configres.MachineType](b.ctx, b.direct("worker-1").COSI, configres.MachineTypeID)
	if err != nil || typ.MachineType() != machinetype.TypeWorker {
		t.Errorf("type %v %v", typ, err)
	}
}

func TestTwoMachinesWithOneHostname(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers, o.Etcd = 1, 2, false })
	renamed := strings.Replace(b.config("worker-2"), "hostname: worker-2", "hostname: Worker-1", 1)

	if _, err := b.apply(b.client(""), "worker-2", renamed, machineapi.ApplyConfigurationRequest_NO_REBOOT, false); err != nil {
		t.Fatal(err)
	}

	members, affiliates := b.discovered("cp-1")
	if !slices.Equal(members, []string{"cp-1", "worker-1"}) || len(affiliates) != 3 {
		t.Errorf("members %v affiliates %v", members, affiliates)
	}

	wins := max(b.node("worker-1").Identity(), b.node("worker-2").Identity())
	if got := b.member("cp-1", "worker-1"); got.NodeID != wins {
		t.Errorf("member %v, want node ID %s", got, wins)
	}
}

func TestIdentities(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers, o.Maintenance, o.Etcd = 1, 1, 1, false })

	before, err := b.nodeID(b.node("worker-1").Address.String())
	if err != nil || before != b.node("worker-1").Identity() || before == b.node("cp-1").Identity() {
		t.Fatalf("%q %v", before, err)
	}

	boot := b.node("worker-1").BootID()
	if err := b.direct("worker-1").Reboot(b.ctx); err != nil {
		t.Fatal(err)
	}

	b.rebooted("worker-1", boot)

	if got := b.node("worker-1").Identity(); got != before {
		t.Errorf("after a reboot %q", got)
	}

	b.reset(b.direct("worker-1"), "worker-1", false, true, "STATE")
	b.until("maintenance mode", func() bool { return b.node("worker-1").Maintenance() && b.node("worker-1").Up() })

	if got := b.node("worker-1").Identity(); got == before {
		t.Error("the identity outlived STATE")
	}

	typ, err := safe.StateGetByID[*configres.MachineType](b.ctx, b.insecure("new-1").COSI, configres.MachineTypeID)
	if err != nil || typ.MachineType() != machinetype.TypeUnknown {
		t.Errorf("type in maintenance mode %v %v", typ, err)
	}
}
