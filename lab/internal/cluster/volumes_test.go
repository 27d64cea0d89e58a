package cluster_test

import (
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

func TestPartitionsOfTheirOwn(t *testing.T) {
	b := start(t, func(o *testOptions) {
		o.ControlPlanes, o.Workers, o.Partitions = 3, 1, []string{"ETCD", "CRI"}
		o.TalosVersion, o.Mixed = "v1.13.8", map[string]string{"cp-3": "v1.14.1"}
	})
	b.put("precious", "kept")

	for node, want := range map[string]block.VolumeType{"cp-3": block.VolumeTypePartition, "cp-1": block.VolumeTypeDirectory} {
		volume, err := safe.StateGetByID[*block.VolumeStatus](b.ctx, b.direct(node).COSI, "ETCD")
		if err != nil || volume.TypedSpec().Type != want {
			t.Errorf("%s: %v %v", node, volume, err)
		}
	}

	images := len(b.node("cp-3").Dump().Images["system"])

	before := b.node("cp-3").BootID()
	b.reset(b.direct("cp-3"), "cp-3", false, true, "EPHEMERAL")
	b.rebooted("cp-3", before)

	if b.node("cp-3").Etcd.Empty() || len(b.node("cp-3").Dump().Images["system"]) != images {
		t.Error("the wipe of EPHEMERAL erased other partitions")
	}

	err := b.direct("cp-3").ResetGeneric(b.ctx, &machineapi.ResetRequest{SystemPartitionsToWipe: []*machineapi.ResetPartitionSpec{{Label: "KUBELET", Wipe: true}}})
	if err == nil || !strings.Contains(err.Error(), `volume "KUBELET" resides on volume "EPHEMERAL"`) {
		t.Errorf("wipe of a directory: %v", err)
	}

	id := b.etcdID("cp-3")
	before = b.node("cp-3").BootID()
	b.reset(b.direct("cp-3"), "cp-3", false, true, "ETCD")
	b.rebooted("cp-3", before)

	if b.etcdID("cp-3") == id {
		t.Error("the member outlived its partition")
	}
}

// etcdID is the ID of a node's member.
func (b *bed) etcdID(node string) uint64 {
	b.t.Helper()

	_, self, err := b.node(node).Etcd.Leader()
	if err != nil {
		b.t.Fatal(err)
	}

	return self
}

func TestBootLoaders(t *testing.T) {
	b := start(t, small)
	b.arm("worker-1", "bootloader=systemd-boot")

	for node, uki := range map[string]bool{"worker-1": true, "cp-1": false} {
		c := b.direct(node)

		security, err := safe.StateGetByID[*runtime.SecurityState](b.ctx, c.COSI, runtime.SecurityStateID)
		if err != nil || security.TypedSpec().BootedWithUKI != uki || security.TypedSpec().SecureBoot {
			t.Errorf("%s: %v %v", node, security, err)
		}

		entry, err := safe.StateGetByID[*runtime.BootedEntry](b.ctx, c.COSI, runtime.BootedEntryID)
		if uki && (err != nil || entry.TypedSpec().BootedEntry != "Talos-v1.14.1.efi") || !uki && !state.IsNotFoundError(err) {
			t.Errorf("%s: %v %v", node, entry, err)
		}
	}
}
