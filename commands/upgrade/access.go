package upgrade

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/runbook"
)

// once connects to Kubernetes the first time it is asked, and tries again only after a failure.
func once(c *cmdutil.Call) func(context.Context) (*kube.Client, error) {
	turn := make(chan struct{}, 1)

	var client *kube.Client

	return func(ctx context.Context) (*kube.Client, error) {
		turn <- struct{}{}
		defer func() { <-turn }()

		if client != nil {
			return client, nil
		}

		var err error
		client, err = c.Kubernetes(ctx)

		return client, err
	}
}

// access adapts a connection to what the operations ask for.
func access(connect func(context.Context) (*kube.Client, error)) func(context.Context) (upgrade.Kube, string, error) {
	return func(ctx context.Context) (upgrade.Kube, string, error) {
		k, err := connect(ctx)
		if err != nil {
			return nil, "", err
		}

		return k, k.Source, nil
	}
}

func locker(c *cmdutil.Call, connect func(context.Context) (*kube.Client, error), h kube.Holder) upgrade.Locker {
	return upgrade.KubeLocker(connect, h, func(err error) { c.Warn("%v", err) })
}

func notes(c *cmdutil.Call) runbook.Notes { return runbook.Notes{Dir: c.StateDir()} }
