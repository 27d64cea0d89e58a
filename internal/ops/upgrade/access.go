package upgrade

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/talos"
)

// Node is what an upgrade asks of a Talos node; *talos.Node is one.
type Node interface {
	Version(ctx context.Context) (talos.Version, error)
	Boot(ctx context.Context) (talos.Boot, error)
	MachineStatus(ctx context.Context) (talos.MachineStatus, error)
	System(ctx context.Context) (talos.System, error)
	ConfigFacts(ctx context.Context) (talos.ConfigFacts, error)
	TimeStatus(ctx context.Context) (status talos.TimeStatus, known bool, err error)
	Clock(ctx context.Context, server string) (talos.Clock, error)
	KubernetesName(ctx context.Context) (string, error)
	Mounts(ctx context.Context) ([]talos.Mount, error)
	EtcdStatus(ctx context.Context) (talos.EtcdStatus, error)
	PullImage(ctx context.Context, namespace, ref string, progress func(talos.PullProgress)) (string, error)
	Install(ctx context.Context, image string, line func(string)) (int, error)
	UpgradeLegacy(ctx context.Context, image, rebootMode string) error
	Reboot(ctx context.Context, mode string) error
	Rollback(ctx context.Context) error
	EtcdForfeitLeadership(ctx context.Context) (string, error)
}

// Kube is what an upgrade asks of Kubernetes; *kube.Client is one.
type Kube interface {
	Node(ctx context.Context, name string) (kube.Node, bool, error)
	Nodes(ctx context.Context) ([]kube.Node, error)
	Blockers(ctx context.Context, name string) ([]kube.Blocker, error)
	Cordon(ctx context.Context, name, reason string) (ours bool, err error)
	Uncordon(ctx context.Context, name string) error
	Drain(ctx context.Context, name string, o kube.DrainOptions) (int, error)
	Annotate(ctx context.Context, name, key, value string) error
}

// World is the cluster around one node.
type World struct {
	Target talos.Target

	Read   Node                                     // By way of the endpoints.
	Change Node                                     // The same, but never through the node itself if that can be helped.
	Fresh  func() (Node, func() error)              // The node itself over a connection of its own.
	Etcd   func(context.Context) (etcd.View, error) // All control planes' etcd.
	Kube   func(context.Context) (Kube, string, error)

	ControlPlane bool      // Whether the node is a control plane.
	Endpoints    []string  // The endpoints that calls go through.
	VirtualIPs   []string  // Addresses that move between nodes.
	Nodes        int       // How many members the cluster has.
	Expires      time.Time // When the client certificate expires; zero for unknown.

	// Notes keep the marker where there is no Kubernetes node to carry it; nil for none.
	Notes Notes
	// Locks keep two runs on this machine from acting on the node at a time; nil for none.
	Locks boot.Locks
	Now   func() time.Time
}

// Notes remember a short text a node on this machine.
type Notes interface {
	Get(node string) string // Empty when there is none, or it cannot be read.
	Set(node, text string) error
}

func (w *World) witness() boot.Witness[Node] {
	return boot.Witness[Node]{Name: w.Target.Name(), Via: w.Change, Fresh: w.Fresh, Now: w.Now}
}
