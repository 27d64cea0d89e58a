package cmdutil

import (
	"os"
	"path/filepath"
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

// Writable finds out before a command what would make its report fail after it.
func Writable(report string) error {
	if report == "" {
		return nil
	}

	if info, err := os.Stat(filepath.Dir(report)); err != nil {
		return errs.Usagef("cannot write the report: %w", err)
	} else if !info.IsDir() {
		return errs.Usagef("cannot write the report: %s is not a directory", filepath.Dir(report))
	}

	if info, err := os.Stat(report); err == nil && info.IsDir() {
		return errs.Usagef("cannot write the report: %s is a directory", report)
	}

	return nil
}
