package upgrade

import (
	"context"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

// bed is one node with its cluster.
type bed struct {
	node  *fake.Machine
	kube  *fake.Kubernetes
	world *probe.Node
	view  etcd.View
}

func newBed(version string) *bed {
	b := &bed{node: fake.NewMachine(version), kube: fake.NewKubernetes("worker-1", "worker-2")}
	b.node.Kube = b.kube
	b.world = &probe.Node{
		Target: talos.Target{Address: "10.0.0.11", Hostname: "worker-1"}, Read: b.node, Change: b.node,
		Fresh:     func() (probe.API, probe.Close) { return b.node, func() error { return nil } },
		Etcd:      func(context.Context) (etcd.View, error) { return b.view, nil },
		Endpoints: []string{"10.0.0.1", "10.0.0.2"}, Members: fake.Members("worker-1", "worker-2"), Now: time.Now,
		Kube: func(context.Context) (probe.Kube, string, error) {
			if b.kube.Gone != nil {
				return nil, "", b.kube.Gone
			}

			return b.kube, "test", nil
		},
	}

	return b
}

// controlPlane makes the node one of three etcd members.
func (b *bed) controlPlane() *bed {
	b.world.ControlPlane = true
	b.view = etcd.View{Known: true, Members: []etcd.Member{
		{ID: "1", Name: "worker-1", Node: "10.0.0.11", Healthy: true}, {ID: "2", Name: "cp-2", Healthy: true}, {ID: "3", Name: "cp-3", Healthy: true},
	}}

	return b
}

func options() Options {
	return Options{
		Options: disruption.Options{
			Drain: true, Wait: true, DrainTimeout: time.Minute, RebootTimeout: 5 * time.Minute, ReadyTimeout: time.Minute, Reason: "talosmate upgrade by test",
		},
		Image: fake.NewImage, RebootMode: talos.RebootDefault,
	}
}

func (b *bed) run(ctx context.Context, o Options) (Result, error) {
	return Run(ctx, b.world, o, progress.Discard{})
}

func (b *bed) marker(phase, target string) {
	m := Marker{Image: fake.NewImage, Target: target, BootID: b.node.BootID(), Phase: phase, Time: time.Now()}
	b.kube.Members["worker-1"].Annotations[MarkerAnnotation] = m.String()
}

func (b *bed) k8s() *fake.KubernetesNode { return b.kube.Members["worker-1"] }

// released says that nothing of ours is left on the Kubernetes node.
func (b *bed) released(t *testing.T) {
	t.Helper()

	if n := b.k8s(); n.Unschedulable || n.Annotations[kube.CordonAnnotation] != "" {
		t.Errorf("the node is still cordoned: %v", n.Annotations)
	}
}

func (b *bed) unmarked(t *testing.T) {
	t.Helper()

	if text := b.k8s().Annotations[MarkerAnnotation]; text != "" {
		t.Errorf("the marker is still there: %s", text)
	}
}
