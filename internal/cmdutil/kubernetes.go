package cmdutil

import (
	"context"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/talos"
)

// Kubernetes gives access to the cluster's Kubernetes API: --kubeconfig, else the admin kubeconfig from the
// Talos API, else the user's own if it reaches the same cluster. It fails with kube.ErrNoCredentials when
// there is none.
func (c *Call) Kubernetes(ctx context.Context) (*kube.Client, error) {
	cluster, err := c.Cluster()
	if err != nil {
		return nil, err
	}

	var a kube.Access

	a.Kubeconfig, _ = c.Cmd.Flags().GetString("kubeconfig")
	a.Context, _ = c.Cmd.Flags().GetString("kube-context")

	for _, t := range c.targets.Nodes {
		a.Expect = append(append(a.Expect, t.Address), t.Addresses...)
	}

	a.Admin = func(ctx context.Context) ([]byte, error) {
		targets, err := cluster.Targets(ctx, talos.Selection{ControlPlanes: true}, talos.DefaultNone)
		if err != nil {
			return nil, err
		}

		var last error

		for _, t := range targets.Nodes {
			raw, err := cluster.Node(t).Kubeconfig(ctx)
			if err == nil {
				return raw, nil
			}

			last = err
		}

		return nil, last
	}

	return c.factory.Kubernetes(ctx, a)
}
