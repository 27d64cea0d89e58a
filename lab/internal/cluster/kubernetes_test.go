//go:build kubebed

// These tests need the Kubernetes bed, which takes minutes to build the first
// time: go run ./build in lab/kube, then go test -tags kubebed ./internal/cluster

package cluster_test

import (
	"testing"

	"github.com/cosi-project/runtime/pkg/safe"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
)

func TestKubernetesFollowsTheNodes(t *testing.T) {
	b := start(t, func(o *testOptions) { o.Kubernetes, o.TalosVersion = "real", "v1.12.9" })
	c := b.client("")
	n := b.node("worker-1")

	st, err := safe.StateGetByID[*k8s.NodeStatus](b.on("worker-1"), c.COSI, "worker-1")
	if err != nil || !st.TypedSpec().NodeReady || st.TypedSpec().Unschedulable {
		t.Fatalf("node status %v %v", st, err)
	}

	_, err = c.MachineClient.Upgrade(b.on("worker-1"), &machineapi.UpgradeRequest{Image: nextInstaller}) //nolint:staticcheck // what is tested
	if err != nil {
		t.Fatal(err)
	}

	b.until("Talos's own cordon", func() bool {
		s, ok := n.KubernetesNode(b.ctx)

		return ok && s.Unschedulable && s.Annotations["talos.dev/cordoned"] == "true"
	})
	b.until("the upgrade, and the cordon to be lifted", func() bool {
		s, ok := n.KubernetesNode(b.ctx)

		return ok && n.Version() == "v1.14.2" && n.Ready() && s.Ready && !s.Unschedulable
	})
}
