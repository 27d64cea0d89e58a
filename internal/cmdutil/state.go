package cmdutil

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"
)

// StateDir is where this machine keeps what a broken-off run left: $XDG_STATE_HOME/talosmate (by default
// ~/.local/state/talosmate), one folder per cluster; empty where there is none.
func (c *Call) StateDir() string {
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
