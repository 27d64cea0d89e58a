package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/fleet"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/talos"
)

// gatherFleet reads the chosen nodes and the cluster around them. With expressions only what they name is
// asked, so that an assertion about versions does not fail for want of Kubernetes.
func gatherFleet(c *cmdutil.Call, now func() time.Time, expressions ...string) (fleet.Fleet, error) {
	targets, err := c.Targets()
	if err != nil {
		return fleet.Fleet{}, err
	}

	return gatherNodes(c, now, targets.Nodes, expressions...)
}

// gatherNodes is gatherFleet for some nodes.
func gatherNodes(c *cmdutil.Call, now func() time.Time, targets []talos.Target, expressions ...string) (fleet.Fleet, error) {
	cluster, err := c.Cluster()
	if err != nil {
		return fleet.Fleet{}, err
	}

	look, err := healthWorld(c, now)
	if err != nil {
		return fleet.Fleet{}, err
	}

	wanted := func(part string) bool {
		return len(expressions) == 0 || slices.ContainsFunc(expressions, func(e string) bool { return strings.Contains(e, part) })
	}

	from := fleet.Cluster{
		Context: cluster.Context.Name, Targets: targets,
		Nodes: func(ctx context.Context, ask func(context.Context, *talos.Node) (fleet.Answer, error)) []talos.Outcome[fleet.Answer] {
			return talos.Each(ctx, cluster, targets, ask)
		},
	}

	if wanted("etcd") {
		from.Etcd = func(ctx context.Context) (etcd.View, error) { return etcd.Look(ctx, cluster) }
	}

	if wanted("health") {
		from.Health = func(ctx context.Context) health.Result {
			// The health is the cluster's also where few nodes are chosen: a part of etcd alone has no quorum.
			world := look()
			world.Members = cluster.Members

			return health.Check(ctx, world, health.Options{Scope: health.ScopeFull})
		}
	}

	if wanted("kubernetes") {
		from.Kubernetes = func(ctx context.Context) ([]kube.Node, bool, error) {
			ctx, cancel := context.WithTimeout(ctx, cluster.Options.Timeout)
			defer cancel()

			k, err := c.Kubernetes(ctx)
			if err != nil {
				return nil, !cluster.Context.HasAnyRole(cmdutil.Admins()), err
			}

			nodes, err := k.Nodes(ctx)

			return nodes, false, err
		}
	}

	return fleet.Gather(c.Context(), from)
}

// asQuestion makes what could not be read a no.
func asQuestion(err error) error {
	var nodes *errs.Nodes
	if errors.As(err, &nodes) {
		nodes.Question = true
	}

	return err
}
