package upgrade

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/engine"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
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

// stateDir is where this machine keeps what a broken-off run left: $XDG_STATE_HOME/talosmate (by default
// ~/.local/state/talosmate), a folder a cluster.
func stateDir(c *cmdutil.Call) string {
	root, _ := c.IO.Env("XDG_STATE_HOME")
	if root == "" {
		home, _ := c.IO.Env("HOME")
		if home == "" {
			return ""
		}

		root = filepath.Join(home, ".local", "state")
	}

	cluster, err := c.Cluster()
	if err != nil || cluster.Context == nil {
		return ""
	}

	endpoints := slices.Sorted(slices.Values(cluster.Context.Endpoints))
	sum := sha256.Sum256([]byte(cluster.Context.Cluster + "\n" + strings.Join(endpoints, "\n")))
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:`, r) {
			return '_'
		}

		return r
	}, cluster.Context.Name)

	return filepath.Join(root, "talosmate", name+"-"+hex.EncodeToString(sum[:6]))
}

func notes(c *cmdutil.Call) engine.Notes { return engine.Notes{Dir: stateDir(c)} }
