// Package node makes nodes go away and come back: reboot, shutdown, rollback and reset, each planned, gated,
// done once, and proved by what is observed afterwards.
package node

import (
	"context"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Machine is what is asked of a Talos node; *talos.Node is one.
type Machine interface {
	Version(ctx context.Context) (talos.Version, error)
	Boot(ctx context.Context) (talos.Boot, error)
	MachineStatus(ctx context.Context) (talos.MachineStatus, error)
	System(ctx context.Context) (talos.System, error)
	KubernetesName(ctx context.Context) (string, error)
	Reboot(ctx context.Context, mode string) error
	Shutdown(ctx context.Context, force bool) error
	Rollback(ctx context.Context) error
	Reset(ctx context.Context, r talos.Reset) error
}

// Kube is what is asked of Kubernetes; *kube.Client is one.
type Kube interface {
	Node(ctx context.Context, name string) (kube.Node, bool, error)
	Nodes(ctx context.Context) ([]kube.Node, error)
	Blockers(ctx context.Context, name string) ([]kube.Blocker, error)
	Cordon(ctx context.Context, name, reason string) (ours bool, err error)
	Uncordon(ctx context.Context, name string) error
	Drain(ctx context.Context, name string, o kube.DrainOptions) (int, error)
	DeleteNode(ctx context.Context, name string) error
}

// World is the cluster around one node.
type World struct {
	Target talos.Target

	Change Machine                                            // By way of the endpoints, never the node itself if that can be helped.
	Fresh  func() (Machine, func() error)                     // The node itself over a connection of its own.
	Etcd   func(context.Context) (etcd.View, error)           // All control planes' etcd.
	Kube   func(context.Context) (Kube, error)                // Kubernetes, where it can be reached.
	Maint  func(context.Context) (talos.MachineStatus, error) // The node in maintenance mode, over a connection of its own.
	// Leave takes the node's member out of etcd: by itself while it is healthy, else by the others.
	Leave func(ctx context.Context, v etcd.View, m etcd.Member, begin func(), sink progress.Sink) (etcd.MembershipChange, error)
	// Expel takes a member out of etcd by the others, whatever its state.
	Expel func(ctx context.Context, v etcd.View, m etcd.Member, begin func(), sink progress.Sink) (etcd.MembershipChange, error)

	ControlPlane bool     // Whether the node is a control plane.
	Endpoints    []string // The endpoints that calls go through.
	VirtualIPs   []string // Addresses that move between nodes.
	Nodes        int      // How many members the cluster has.

	Now   func() time.Time
	Locks boot.Locks // Keep two runs on this machine from acting on the node at a time; nil for none.
}

// Worlds looks at a cluster from the side of each of several nodes, in the order in which they are to be
// acted on: workers first, since a control plane may be what they are reached through.
func Worlds(ctx context.Context, c *talos.Cluster, targets []talos.Target, k func(context.Context) (Kube, error)) ([]*World, error) {
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}

	var vips []string
	if at := slices.IndexFunc(members, func(m talos.Member) bool { return m.Type == target.ControlPlane }); at >= 0 {
		// Only a control plane knows about virtual IPs; one that does not answer is the etcd gates' business.
		vipCtx, cancel := context.WithTimeout(ctx, boot.ProbeLimit)
		defer cancel()

		vips, _ = c.Node(members[at].Target()).VirtualIPs(vipCtx)
	}

	var workers, masters []*World

	env := func(begin func(), sink progress.Sink) etcd.Env {
		return etcd.Env{Access: etcd.Through(c), Now: time.Now, Progress: sink, Begin: begin, Settle: etcdSettle, Deadline: etcdLeave}
	}
	expel := func(ctx context.Context, v etcd.View, m etcd.Member, begin func(), sink progress.Sink) (etcd.MembershipChange, error) {
		return env(begin, sink).Remove(ctx, v, v.PlanRemove(m), nil)
	}

	for _, t := range targets {
		w := &World{
			Target: t, Change: c.ChangingNode(t), Endpoints: c.Endpoints(), VirtualIPs: vips, Kube: k, Nodes: len(members), Now: time.Now,
			Fresh: func() (Machine, func() error) { return c.Fresh(t) },
			Etcd:  etcd.Through(c).Look,
			Maint: func(ctx context.Context) (talos.MachineStatus, error) { return maintenance(ctx, t) },
			Leave: func(ctx context.Context, v etcd.View, m etcd.Member, begin func(), sink progress.Sink) (etcd.MembershipChange, error) {
				if m.Healthy {
					return env(begin, sink).Leave(ctx, v.PlanLeave(m), t)
				}

				return expel(ctx, v, m, begin, sink)
			},
			Expel:        expel,
			ControlPlane: target.IsControlPlane(members, t),
		}

		if w.ControlPlane {
			masters = append(masters, w)
		} else {
			workers = append(workers, w)
		}
	}

	return append(workers, masters...), nil
}

const (
	// etcdSettle is how long the rest of etcd may take to show that a member went.
	etcdSettle = 30 * time.Second
	// etcdLeave is longer than the five minutes for which a node repeats etcd's refusal of an unhealthy cluster.
	etcdLeave = 6 * time.Minute
)

func maintenance(ctx context.Context, t talos.Target) (talos.MachineStatus, error) {
	c, err := talos.NewCluster(nil, "--insecure", talos.Options{Insecure: true})
	if err != nil {
		return talos.MachineStatus{}, err
	}

	n, hangUp := c.Fresh(t)
	defer func() { _ = hangUp() }() // the connection served its one question

	return n.MachineStatus(ctx)
}

func (w *World) witness() boot.Witness[Machine] {
	return boot.Witness[Machine]{Name: w.Target.Name(), Via: w.Change, Fresh: w.Fresh, Now: w.Now}
}
