// Package release knows the releases of Talos: which upgrades lead from one to another, which Kubernetes they run, and
// which API upgrades them.
package release

import (
	"fmt"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/compatibility"
	"github.com/siderolabs/talos/pkg/machinery/gendata"
)

// Path is the result of a check of two versions.
type Path struct {
	Supported bool
	Reason    string // Why not, or the rule that was applied.
	Fallback  bool   // Machinery's tables do not have the target; the general rule was applied.
}

// UpgradePath reports whether Talos supports the step, by machinery's compatibility tables. For targets that are not in
// the tables, the rule of the last three releases applies: from at most two minor versions before, or one after.
func UpgradePath(from, to string) (Path, error) {
	target, err := compatibility.ParseTalosVersion(&machine.VersionInfo{Tag: to})
	if err != nil {
		return Path{}, fmt.Errorf("cannot read the version %q: %w", to, err)
	}

	host, err := compatibility.ParseTalosVersion(&machine.VersionInfo{Tag: from})
	if err != nil {
		return Path{}, fmt.Errorf("cannot read the version %q: %w", from, err)
	}

	if known(to) {
		if err = target.UpgradeableFrom(host); err != nil {
			return Path{Reason: err.Error()}, nil
		}

		return Path{Supported: true, Reason: fmt.Sprintf("%s can be upgraded to %s", from, to)}, nil
	}

	f, t := Minor(from), Minor(to)
	p := Path{Fallback: true, Supported: f+2 >= t && f <= t+1}
	p.Reason = fmt.Sprintf("%s is not in the compatibility tables of this program; by the rule of earlier releases, it takes upgrades from 1.%d and downgrades from 1.%d", to, max(t, 2)-2, t+1)

	return p, nil
}

// KubernetesRange reports whether a Talos release runs a Kubernetes version.
func KubernetesRange(kubernetes, talosVersion string) (Path, error) {
	k, err := compatibility.ParseKubernetesVersion(kubernetes)
	if err != nil {
		return Path{}, fmt.Errorf("cannot read the version %q: %w", kubernetes, err)
	}

	target, err := compatibility.ParseTalosVersion(&machine.VersionInfo{Tag: talosVersion})
	if err != nil {
		return Path{}, fmt.Errorf("cannot read the version %q: %w", talosVersion, err)
	}

	if known(talosVersion) {
		if err = k.SupportedWith(target); err != nil {
			return Path{Reason: err.Error()}, nil
		}

		return Path{Supported: true, Reason: fmt.Sprintf("Talos %s runs Kubernetes %s", talosVersion, kubernetes)}, nil
	}

	low, high := Minor(talosVersion)+18, NewestKubernetes(talosVersion)
	at := Minor(kubernetes)
	p := Path{Fallback: true, Supported: at >= low && at <= high}
	p.Reason = fmt.Sprintf("Talos %s is not in the compatibility tables of this program; by the rule of earlier releases, it runs Kubernetes 1.%d to 1.%d", talosVersion, low, high)

	return p, nil
}

// NewestKubernetes is the minor of the newest Kubernetes that a Talos release runs. Talos 1.12 runs 1.30 to 1.35, 1.13 runs
// 1.31 to 1.36, 1.14 runs 1.32 to 1.37: both ends increase by one.
func NewestKubernetes(talosVersion string) uint64 { return Minor(talosVersion) + 23 }

// machineryMinor is the minor release of machinery. It does not know newer ones.
const machineryMinor = 14

// known reports whether machinery's tables have the target.
func known(target string) bool {
	v, err := semver.ParseTolerant(target)

	return err == nil && v.Major == 1 && v.Minor <= machineryMinor
}

// Known is the last Talos release whose machine configuration this program knows.
func Known() string { return fmt.Sprintf("1.%d", machineryMinor) }

// Newer reports whether a node runs a release newer than Known, whose documents machinery's reader may reject. A
// version that does not parse counts as known.
func Newer(tag string) bool {
	v, err := semver.ParseTolerant(tag)

	return err == nil && (v.Major > 1 || v.Minor > machineryMinor)
}

// Minor is the minor release of a version; 0 for one that does not parse.
func Minor(tag string) uint64 {
	v, err := semver.ParseTolerant(tag)
	if err != nil {
		return 0
	}

	return v.Minor
}

// Same compares versions with or without a leading v.
func Same(a, b string) bool {
	x, xerr := semver.ParseTolerant(a)
	y, yerr := semver.ParseTolerant(b)

	return xerr == nil && yerr == nil && x.EQ(y)
}

// Lower reports whether a version is lower than another. Versions that do not parse are not.
func Lower(a, b string) bool {
	x, xerr := semver.ParseTolerant(a)
	y, yerr := semver.ParseTolerant(b)

	return xerr == nil && yerr == nil && x.LT(y)
}

// NeedsInstall reports whether a version needs the section machine.install on metal; from 1.14 on it may be missing.
func NeedsInstall(tag string) bool {
	v, err := semver.ParseTolerant(tag)

	return err == nil && v.Major == 1 && v.Minor < 14
}

// GRUBBuilds reports whether an installer of a version has GRUB boot arguments of its own where the configuration has no
// install section: from 1.14 on, where the section may be missing.
func GRUBBuilds(tag string) bool {
	v, err := semver.ParseTolerant(tag)

	return err == nil && (v.Major > 1 || v.Major == 1 && v.Minor >= 14)
}

// The upgrade APIs.
const (
	APILifecycle = "lifecycle" // ImageService.Pull, LifecycleService.Upgrade, Reboot: from 1.13.
	APILegacy    = "legacy"    // MachineService.Upgrade installs and reboots in one request.
)

// oldest is the oldest minor release that this program supports.
const oldest = 12

// Range is what this program is made for, 1.12 to 1.14.
func Range() string { return fmt.Sprintf("1.%d to %s", oldest, Known()) }

// Supported reports whether this program is made for a release: from the oldest that it supports to one minor after the
// newest that it knows. A version that does not parse counts as supported.
func Supported(tag string) bool {
	v, err := semver.ParseTolerant(tag)

	return err != nil || v.Major == 1 && v.Minor >= oldest && v.Minor <= machineryMinor+1
}

// Tags are the newest patch releases that this program knows of, one for each minor release that it supports, the newest
// first.
func Tags() []string { return []string{gendata.VersionTag, "v1.13.9", "v1.12.9"} }

// Latest completes a version that names no patch release with the newest that this program knows of, and returns any
// other version unchanged, with its v. A minor release that it does not know gets its first patch release.
func Latest(version string) string {
	version = "v" + strings.TrimPrefix(version, "v")
	if strings.Count(version, ".") >= 2 {
		return version
	}

	for _, known := range Tags() {
		if strings.HasPrefix(known, version+".") {
			return known
		}
	}

	return version + ".0"
}

// UpgradeAPI returns the upgrade API of a version (Talos 1.13 introduced LifecycleService). A version that does not
// parse counts as new: the call itself then fails.
func UpgradeAPI(tag string) string {
	v, err := semver.ParseTolerant(tag)
	if err == nil && (v.Major < 1 || (v.Major == 1 && v.Minor < 13)) {
		return APILegacy
	}

	return APILifecycle
}
