package cluster_test

import (
	"slices"
	"testing"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/etcd"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestResetWithAPlatformThatGivesTheConfiguration(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers = 3, 0 })
	b.arm("cp-3", "platform-config")

	// by partitions, and of the whole disk, after which Talos is installed again
	for _, labels := range [][]string{{"STATE", "EPHEMERAL"}, nil} {
		before, identity := b.node("cp-3").BootID(), b.node("cp-3").Identity()
		b.reset(b.direct("cp-3"), "cp-3", true, true, labels...)
		b.rebooted("cp-3", before)
		b.until("the member to be a voter", func() bool {
			resp, err := b.direct("cp-1").EtcdMemberList(b.ctx, &machineapi.EtcdMemberListRequest{})

			return err == nil && len(resp.Messages[0].Members) == 3 && !slices.ContainsFunc(resp.Messages[0].Members, func(m *machineapi.EtcdMember) bool { return m.IsLearner })
		})

		if n := b.node("cp-3"); n.Maintenance() || n.Identity() == identity || !n.Installed() {
			t.Errorf("%v: maintenance %t, identity kept %t, installed %t", labels, n.Maintenance(), n.Identity() == identity, n.Installed())
		}
	}
}

func TestSystemContainers(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers, o.Schematic = 1, 1, "iscsi-tools" })
	c := b.client("")

	for node, want := range map[string][]string{"cp-1": {"apid", "trustd", "ext-iscsid"}, "worker-1": {"apid", "ext-iscsid"}} {
		resp, err := c.Containers(b.on(node), "system", common.ContainerDriver_CONTAINERD)
		if err != nil {
			t.Fatal(err)
		}

		var got []string
		for _, info := range resp.Messages[0].Containers {
			got = append(got, info.Id)
		}

		if !slices.Equal(got, want) {
			t.Errorf("%s: %v", node, got)
		}

		spec, err := safe.StateGetByID[*k8s.KubeletSpec](b.on(node), c.COSI, k8s.KubeletID)
		if err != nil || spec.TypedSpec().Image != "ghcr.io/siderolabs/kubelet:v1.35.4" {
			t.Errorf("%s: kubelet %v %v", node, spec, err)
		}
	}

	spec, err := safe.StateGetByID[*etcd.Spec](b.on("cp-1"), c.COSI, etcd.SpecID)
	if err != nil || spec.TypedSpec().Image != "registry.k8s.io/etcd:3.7.1" {
		t.Errorf("etcd %v %v", spec, err)
	}

	if _, err := safe.StateGetByID[*k8s.KubeletSpec](b.on("cp-1"), b.client("-reader").COSI, k8s.KubeletID); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a reader sees the kubelet's spec: %v", err)
	}
}
