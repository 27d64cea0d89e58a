package upgrade

import (
	"context"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Fleet is the whole cluster, as far as an upgrade of it has to do with it.
type Fleet struct {
	Name    string         // The talosconfig context.
	Members []talos.Member // Every discovered member.
	Expires time.Time      // When the client certificate expires; zero for unknown.

	World func(talos.Target) *World // One node's side.
	Etcd  func(context.Context) (etcd.View, error)
	Kube  func(context.Context) (Kube, string, error)

	// Image asks the registry for an image's digest; nil when registries are not to be asked.
	Image func(ctx context.Context, ref string) (digest string, err error)
	// Extensions asks the image's factory for the official extensions in the image's schematic; nil when factories are not to
	// be asked.
	Extensions func(ctx context.Context, image registry.Installer) ([]string, error)
	// Releases lists Talos releases, the newest first; asked only when the path needs a hop in between.
	Releases func(ctx context.Context) ([]string, error)
	// Health looks at the members that are not in flight, and lists what is wrong.
	Health func(ctx context.Context, skip []talos.Target) ([]string, error)
	// Snapshot takes a verified snapshot of etcd into a file.
	Snapshot func(ctx context.Context, path string) (etcd.Snapshot, error)
	Lock     Locker      // Takes the cluster's lock.
	Holder   kube.Holder // Who we are to it.

	// AwaitUnderway is how long a plan waits for a node that an earlier run left rebooting; zero for not at all.
	AwaitUnderway time.Duration

	Now func() time.Time
}

// NewFleet looks at a cluster. The optional parts are the caller's to fill in.
func NewFleet(ctx context.Context, c *talos.Cluster, name string, k func(context.Context) (Kube, string, error)) (*Fleet, error) {
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}

	f := &Fleet{Name: name, Members: members, Expires: c.Context.NotAfter, Kube: k, Now: time.Now}

	var controlPlanes []talos.Target

	for _, m := range members {
		if m.Type == target.ControlPlane {
			controlPlanes = append(controlPlanes, m.Target())
		}
	}

	f.Etcd = func(ctx context.Context) (etcd.View, error) {
		return etcd.Settled(ctx, func(ctx context.Context) (etcd.View, error) {
			return etcd.Gather(ctx, etcd.Sources(c, controlPlanes), c.Options.Timeout), nil
		})
	}

	var vips []string

	if len(controlPlanes) > 0 {
		// Only a control plane knows about virtual IPs; one that does not answer is the etcd gates' business.
		if found, err := c.Node(controlPlanes[0]).VirtualIPs(ctx); err == nil {
			vips = found
		}
	}

	f.World = func(t talos.Target) *World {
		return &World{
			Target: t, Read: c.Node(t), Change: c.ChangingNode(t), Endpoints: c.Endpoints(), Kube: k, Now: time.Now,
			Fresh: func() (Node, func() error) { return c.Fresh(t) },
			Etcd:  f.Etcd, ControlPlane: f.isControlPlane(t), VirtualIPs: vips, Nodes: len(members), Expires: f.Expires,
		}
	}

	return f, nil
}

func (f *Fleet) isControlPlane(t talos.Target) bool {
	return target.IsControlPlane(f.Members, t)
}

// member finds a member by address or hostname.
func (f *Fleet) member(name string) (talos.Member, error) {
	for _, m := range f.Members {
		if m.Node == name || m.Hostname == name || slices.Contains(m.Addresses, name) {
			return m, nil
		}
	}

	return talos.Member{}, errs.Usagef("the cluster has no member %q", name).WithHint("`talosmate members` lists them")
}

// NewWorld looks at a cluster from one node's side.
func NewWorld(ctx context.Context, c *talos.Cluster, t talos.Target, k func(context.Context) (Kube, string, error)) (*World, error) {
	f, err := NewFleet(ctx, c, "", k)
	if err != nil {
		return nil, err
	}

	return f.World(t), nil
}
