package talos

import (
	"fmt"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/compatibility"
)

// Path is what is known of a step from one Talos version to another.
type Path struct {
	Supported bool
	Reason    string // Why not, or which rule was applied.
	Fallback  bool   // The tables of this program do not know the target; the general rule was applied.
}

// UpgradePath says whether Talos supports the step (machinery's compatibility tables). For targets that the
// tables do not know the rule of the last three releases stands in: from two minors before.
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

	f, t := minor(from), minor(to)
	p := Path{Fallback: true, Supported: f+2 >= t && f <= t+2}
	p.Reason = fmt.Sprintf("the tables of this program do not know %s; by the rule of the releases before, it takes upgrades from 1.%d", to, max(t, 2)-2)

	return p, nil
}

// KubernetesRange says whether a Talos release runs a Kubernetes version.
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

	// Talos 1.12 runs 1.30 to 1.35, 1.13 runs 1.31 to 1.36, 1.14 runs 1.32 to 1.37: the range moves along.
	low, high := minor(talosVersion)+18, minor(talosVersion)+23
	at := minor(kubernetes)
	p := Path{Fallback: true, Supported: at >= low && at <= high}
	p.Reason = fmt.Sprintf("the tables of this program do not know Talos %s; by the rule of the releases before, it runs Kubernetes 1.%d to 1.%d", talosVersion, low, high)

	return p, nil
}

// machineryMinor is the minor release that machinery itself is of: what it knows of Talos ends there.
const machineryMinor = 13

// known says whether machinery's tables have the target.
func known(target string) bool {
	v, err := semver.ParseTolerant(target)

	return err == nil && v.Major == 1 && v.Minor <= machineryMinor
}

// KnownRelease is the last Talos release whose machine configuration this program knows.
func KnownRelease() string { return fmt.Sprintf("1.%d", machineryMinor) }

// Newer says whether a node runs a release whose machine configuration this program does not know in full: it
// has documents that machinery's reader rejects. A version that does not parse is taken for a known one.
func Newer(tag string) bool {
	v, err := semver.ParseTolerant(tag)

	return err == nil && (v.Major > 1 || v.Minor > machineryMinor)
}

func minor(tag string) uint64 {
	v, err := semver.ParseTolerant(tag)
	if err != nil {
		return 0
	}

	return v.Minor
}

// SameVersion compares versions, with or without their leading v.
func SameVersion(a, b string) bool {
	x, xerr := semver.ParseTolerant(a)
	y, yerr := semver.ParseTolerant(b)

	return xerr == nil && yerr == nil && x.EQ(y)
}
