package upgrade

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/runbook"
)

func locker(c *cmdutil.Call, connect func(context.Context) (*kube.Client, error), h kube.Holder) clusterlock.Locker {
	return clusterlock.ByKubernetes(connect, h, func(err error) { c.Warn("%v", err) })
}

func notes(c *cmdutil.Call) runbook.Notes { return runbook.Notes{Dir: c.StateDir()} }
