package cmdutil

import (
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/talos"
)

// FileNames gives each of several nodes a name for a file of its own, by address: its hostname, or its address where
// the hostname cannot be a file name or another node has it too. Both come from the cluster.
func FileNames(targets []talos.Target) (map[string]string, error) {
	taken := map[string]int{}
	for _, t := range targets {
		taken[strings.ToLower(t.Hostname)]++
		taken[strings.ToLower(t.Address)]++
	}

	out := map[string]string{}

	for _, t := range targets {
		name, err := fsutil.Element(t.Hostname)
		if err != nil || taken[strings.ToLower(name)] > 1 {
			name, err = fsutil.Element(t.Address)
		}

		if err != nil && len(targets) > 1 {
			return nil, errs.New(errs.Failed, "cannot name the files of %s: %w", t.Address, err).OnNode(t.Address).WithKind(errs.KindUntrusted)
		}

		out[t.Address] = name
	}

	return out, nil
}
