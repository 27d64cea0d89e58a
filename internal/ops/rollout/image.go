package rollout

import (
	"fmt"
	"maps"
	"slices"

	"github.com/blang/semver/v4"

	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// imageFor composes the installer of a version that keeps what the node has: its schematic, platform, secure
// boot flavour and, where the configuration tells it, its registry. installed is machine.install.image, empty
// when it cannot be read.
func imageFor(installed string, system talos.System, platform, version string) (registry.Installer, error) {
	known, err := registry.ParseInstaller(installed)
	if installed == "" || err != nil {
		known = registry.Installer{}
	}

	if known.Registry != "" && !known.Factory() && !upgrade.IsStock(known) {
		// Somebody's own registry and name: only they know what is in it, and the name is all there is to keep.
		return known.ForVersion(version), nil
	}

	if system.Schematic == "" && len(system.Extensions) > 0 {
		return registry.Installer{}, fmt.Errorf("the node has extensions (%s) and no schematic, so that no image can be composed that keeps them",
			upgrade.ExtensionNames(system.Extensions)[0])
	}

	host := ""
	if known.Factory() {
		host = known.Registry
		if known.Path != "" {
			host += "/" + known.Path
		}
	}

	if host == "" && system.Schematic == "" && upgrade.IsStock(known) && publishedAtGHCR(version) {
		return known.ForVersion(version), nil
	}

	// Containers have no installer of their own; what they are given is never booted.
	if platform == "container" {
		platform = "metal"
	}

	return registry.FactoryInstaller(host, platform, system.SecureBoot, system.Schematic, version), nil
}

// publishedAtGHCR reports whether ghcr.io/siderolabs/installer has a version: up to 1.13.
func publishedAtGHCR(version string) bool {
	v, err := semver.ParseTolerant(version)

	return err == nil && v.Major == 1 && v.Minor < 14
}

// hops finds the way from one version to another: the target itself, or the latest patch release of each
// minor that must lie between. releases may be given in any order.
func hops(from, to string, releases []string) ([]string, error) {
	candidates := latestPatches(releases)
	at := from

	var out []string

	for range 20 {
		direct, err := release.UpgradePath(at, to)
		if err != nil {
			return nil, err
		}

		if direct.Supported {
			return append(out, to), nil
		}

		next := ""

		for _, c := range candidates { // the newest first
			if !newer(c, at) || !newer(to, c) {
				continue
			}

			if p, err := release.UpgradePath(at, c); err == nil && p.Supported {
				next = c

				break
			}
		}

		if next == "" {
			return nil, fmt.Errorf("%s", direct.Reason)
		}

		out, at = append(out, next), next
	}

	return nil, fmt.Errorf("there is no way from %s to %s", from, to)
}

func newer(a, b string) bool {
	x, xerr := semver.ParseTolerant(a)
	y, yerr := semver.ParseTolerant(b)

	return xerr == nil && yerr == nil && x.GT(y)
}

// latestPatches keeps of each minor its latest release, the newest first.
func latestPatches(releases []string) []string {
	latest := map[[2]uint64]string{}

	for _, r := range releases {
		v, err := semver.ParseTolerant(r)
		if err != nil || len(v.Pre) > 0 {
			continue
		}

		key := [2]uint64{v.Major, v.Minor}
		if old := latest[key]; old == "" || newer(r, old) {
			latest[key] = r
		}
	}

	return slices.SortedFunc(maps.Values(latest), func(a, b string) int {
		if newer(a, b) {
			return -1
		}

		return 1
	})
}
