// Package rollout upgrades a cluster by a plan, node by node, without losing quorum: canary, control planes one at a
// time with etcd's leader last, workers side by side, with gates in between.
package rollout

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/impact"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Cluster is the whole cluster, as far as a rollout needs it.
type Cluster struct {
	Name    string         // The talosconfig context.
	Members []talos.Member // Every discovered member.
	Expires time.Time      // When the client certificate expires; zero for unknown.

	Node func(talos.Target) *probe.Node
	Etcd func(context.Context) (etcd.View, error)
	Kube probe.Connect

	// Image asks the registry for an image's digest; nil when registries are not to be asked.
	Image upgrade.Digest
	// Extensions asks the image's factory for the official extensions in the image's schematic; nil when factories are not to
	// be asked.
	Extensions func(ctx context.Context, image registry.Installer) ([]string, error)
	// Releases lists Talos releases, the newest first; asked only when the path needs a hop in between.
	Releases func(ctx context.Context) ([]string, error)
	// Impact checks what the releases on the way to a version change for nodes; nil for not at all.
	Impact func(ctx context.Context, nodes []talos.Target, to string) (impact.Result, error)
	// Health checks the members that are not in flight, and lists what is wrong.
	Health func(ctx context.Context, skip []talos.Target) ([]string, error)
	// BootAudit reads how a node came up. Nil for not at all.
	BootAudit func(ctx context.Context, t talos.Target) (talos.BootAudit, error)
	// Snapshot takes a verified snapshot of etcd into a file, and reports whether it would restore.
	Snapshot func(ctx context.Context, path string) (etcd.Snapshot, gate.Verdict, error)
	Lock     clusterlock.Locker // Takes the cluster's lock.
	Holder   kube.Holder        // Who we are to it.

	// AwaitUnderway is how long a plan waits for a node that an earlier run left rebooting; zero for not at all.
	AwaitUnderway time.Duration
	Progress      progress.Sink // Shows what that waits for.

	Now func() time.Time
}

// New gets a cluster ready for a rollout. The optional parts are for the caller to fill in.
func New(ctx context.Context, cluster *talos.Cluster, name string, k probe.Connect) (*Cluster, error) {
	members, err := cluster.Members(ctx)
	if err != nil {
		return nil, err
	}

	if len(members) == 0 {
		return nil, talos.ErrNoMembers()
	}

	return &Cluster{
		Name: name, Members: members, Expires: cluster.Context.NotAfter, Kube: k, Now: time.Now, Progress: progress.Discard{}, Etcd: etcd.Through(cluster).Look,
		Node: probe.Nodes(ctx, cluster, members, k),
	}, nil
}

// gateDiscovery checks that "all nodes" are all that etcd and Kubernetes have. That Kubernetes cannot be asked is said by
// the nodes' own gates.
func (c *Cluster) gateDiscovery(ctx context.Context) gate.Verdict {
	ctx, cancel := context.WithTimeout(ctx, disruption.ConnectOnce)
	defer cancel()

	var nodes []kube.Node

	if k, _, err := c.Kube(ctx); err == nil {
		nodes, _ = k.Nodes(ctx)
	}

	return probe.GateDiscovery(c.Members, nodes, "")
}

func (c *Cluster) isControlPlane(t talos.Target) bool { return target.IsControlPlane(c.Members, t) }

// Target is a node with all that discovery knows of it.
func (c *Cluster) Target(n talos.NodeRef) talos.Target {
	if m, found := lists.Find(c.Members, func(m talos.Member) bool { return m.Node == n.Node }); found {
		return m.Target()
	}

	return talos.Target{Address: n.Node, Hostname: n.Hostname}
}

// member finds a member by address or hostname.
func (c *Cluster) member(name string) (talos.Member, error) {
	for _, m := range c.Members {
		if m.Hostname == name || m.Target().Has(name) {
			return m, nil
		}
	}

	return talos.Member{}, errs.Usagef("the cluster has no member %q", name).WithHint("talosmate members")
}
