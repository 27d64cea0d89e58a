package cmdutil

import (
	"context"
	"errors"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Kubernetes gives access to the cluster's Kubernetes API: --kubeconfig, else the admin kubeconfig from the
// Talos API, else the user's own if it reaches the same cluster. It fails with kube.ErrNoCredentials when
// there is none. The client that was made first serves the whole command; after a failure the next call tries again.
func (c *Call) Kubernetes(ctx context.Context) (*kube.Client, error) {
	if client := c.kube.Load(); client != nil {
		return client, nil
	}

	client, err := c.connectKubernetes(ctx)
	if err == nil && !c.kube.CompareAndSwap(nil, client) {
		client = c.kube.Load()
	}

	return client, err
}

func (c *Call) connectKubernetes(ctx context.Context) (*kube.Client, error) {
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

	a.Admin = func(ctx context.Context) (kube.Admin, error) {
		targets, err := cluster.Targets(ctx, target.Selection{ControlPlanes: true}, target.DefaultNone)
		if err != nil {
			return kube.Admin{}, err
		}

		admin, _, err := AdminKubeconfig(ctx, cluster, targets.Nodes)

		var failed *errs.Nodes
		if errors.As(err, &failed) && len(failed.Errors) > 0 {
			err = failed.Errors[len(failed.Errors)-1] // one of them says why there are no credentials
		}

		return admin, err
	}

	client, err := c.factory.Kubernetes(ctx, a)
	if err == nil {
		client.Begin = c.mayBegin()
	}

	if errs.IsUntrusted(err) {
		c.untrusted.Do(func() { c.Warn("%v", err) }) // some commands do without Kubernetes
	}

	return client, err
}

// AdminKubeconfig asks control planes one after another until one gives an admin kubeconfig. One that must not be used
// ends it.
func AdminKubeconfig(ctx context.Context, cluster *talos.Cluster, targets []talos.Target) (kube.Admin, talos.Target, error) {
	failed := &errs.Nodes{}

	for i, t := range targets {
		limit := cluster.Idle()
		if deadline, has := ctx.Deadline(); has { // one that hangs leaves time for the others
			limit = min(limit, time.Until(deadline)/time.Duration(len(targets)-i))
		}

		one, cancel := context.WithTimeout(ctx, limit)
		raw, err := cluster.Node(t).Kubeconfig(one)

		cancel()

		if err == nil {
			admin, err := kube.ParseAdmin(t.Address, raw)

			return admin, t, err
		}

		var typed *errs.Error
		if !errors.As(err, &typed) {
			return kube.Admin{}, t, err
		}

		failed.Errors = append(failed.Errors, typed)
	}

	return kube.Admin{}, talos.Target{}, failed
}

// ConnectKubernetes is Kubernetes for operations on nodes.
func (c *Call) ConnectKubernetes(ctx context.Context) (probe.Kube, string, error) {
	k, err := c.Kubernetes(ctx)
	if err != nil {
		return nil, "", err
	}

	return k, k.Source, nil
}
