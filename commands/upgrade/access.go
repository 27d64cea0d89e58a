package upgrade

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/runbook"
)

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
