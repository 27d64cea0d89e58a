package upgrade

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/redact"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/release"
)

func (r *run) gatePath() gate.Verdict {
	f, node := r.f, r.Target.Address

	if f.target() == "" {
		return gate.New(gate.VersionPath, gate.Refuse, node, "the image %s names no Talos version, so that nothing can be verified afterwards", r.o.Image).
			WithRemedy("use an image with a version tag")
	}

	p, err := release.UpgradePath(f.version.Tag, f.target())

	switch {
	case err != nil:
		return gate.New(gate.VersionPath, gate.Refuse, node, "%v", err)
	case !p.Supported:
		return gate.New(gate.VersionPath, gate.Refuse, node, "%s", p.Reason).WithRemedy("go by the latest patch release of each minor on the way")
	case p.Fallback:
		return gate.New(gate.VersionPath, gate.Warn, node, "%s", p.Reason)
	default:
		return gate.New(gate.VersionPath, gate.Pass, node, "%s", p.Reason)
	}
}

// gateDowngrade guards the way back to an older release, which does not know what a newer one has written: Talos converts
// nothing back, and supports one minor release at most.
func (f facts) gateDowngrade(node string) gate.Verdict {
	if !f.lower() {
		return gate.New(gate.Downgrade, gate.Pass, node, "it is not a downgrade")
	}

	return gate.New(gate.Downgrade, gate.Refuse, node,
		"%s is lower than %s, which runs: nothing converts META and volumes back, and Talos supports a downgrade by one minor release at most", f.target(), f.version.Tag).
		WithRemedy("`talosmate node rollback -n %s` boots the previous version where it is still installed", node)
}

// lower reports whether the target is lower than the version that runs.
func (f facts) lower() bool { return release.Lower(f.target(), f.version.Tag) }

// gateUnmet warns of what is already unmet: it is the baseline of the verification. Talos itself keeps the way back to the
// previous version until a boot in which nothing is unmet (internal/app/machined/pkg/controllers/runtime/drop_upgrade_fallback.go).
func (f facts) gateUnmet(node string) gate.Verdict {
	if f.status.Stage != "running" || len(f.status.Unmet) == 0 {
		return gate.New(gate.UnmetBefore, gate.Pass, node, "nothing is unmet")
	}

	return gate.New(gate.UnmetBefore, gate.Warn, node,
		"the node is not ready before the upgrade (%s): this is not waited for afterwards, and until it is ready Talos may boot the previous version again", f.status)
}

func (f facts) gateKubernetesRange(node string) gate.Verdict {
	if f.system.Kubelet == "" || f.target() == "" {
		return gate.New(gate.KubernetesRange, gate.Skip, node, "the Kubernetes version of the node is not known")
	}

	p, err := release.KubernetesRange(f.system.Kubelet, f.target())
	if err != nil {
		return gate.New(gate.KubernetesRange, gate.Skip, node, "%v", err)
	}

	if !p.Supported {
		return gate.New(gate.KubernetesRange, gate.Refuse, node, "%s", p.Reason).WithRemedy("upgrade Kubernetes first: talosmate upgrade kubernetes")
	}

	return gate.New(gate.KubernetesRange, gate.Pass, node, "%s", p.Reason)
}

// gateSystem guards what the running image has and the new one may lack. A stock image has no extensions.
func (f facts) gateSystem(node string) gate.Verdict {
	had := ExtensionNames(f.system.Extensions)
	schematic := f.system.Schematic
	custom := len(had) > 0 || (schematic != "" && schematic != registry.EmptySchematic)

	switch {
	case f.unnamed:
		return f.skipUnnamed(gate.ExtensionsLost, node)
	case !custom:
		return gate.New(gate.ExtensionsLost, gate.Pass, node, "the node has no extensions to lose")
	case f.image.Schematic == schematic && schematic != "":
		return gate.New(gate.ExtensionsLost, gate.Pass, node, "the image has the node's own schematic")
	case !f.image.Factory() && IsStock(f.image):
		return gate.New(gate.ExtensionsLost, gate.Refuse, node, "%s is a stock image: the node would lose %s", f.image, describeSystem(had, schematic)).
			WithRemedy("use the Image Factory installer of the node's schematic: %s", registry.FactoryInstaller("", f.version.Platform, f.system.SecureBoot, schematic, f.target()))
	case f.image.Factory():
		return gate.New(gate.ExtensionsLost, gate.Refuse, node, "the image has the schematic %.12s…, the node %s", f.image.Schematic, describeSystem(had, schematic)).
			WithRemedy("if the change is wanted, pass this gate; to keep what the node has: %s", f.image.WithSchematic(schematic))
	default:
		return gate.New(gate.ExtensionsLost, gate.Warn, node, "what %s holds is not known; the node has %s", f.image, describeSystem(had, schematic))
	}
}

// skipUnnamed is the verdict on an image that is not known.
func (f facts) skipUnnamed(code gate.Code, node string) gate.Verdict {
	return gate.New(code, gate.Skip, node, "the image is not known: this certificate may not read the machine configuration")
}

// IsStock reports whether an image is one of those published by Sidero Labs, without extensions.
func IsStock(i registry.Installer) bool {
	return i.Registry == "ghcr.io" && strings.HasPrefix(i.Path, "siderolabs/installer")
}

func describeSystem(extensions []string, schematic string) string {
	var parts []string

	if len(extensions) > 0 {
		parts = append(parts, "the extensions "+strings.Join(extensions, ", "))
	}

	if schematic != "" {
		parts = append(parts, fmt.Sprintf("the schematic %.12s…", schematic))
	}

	return strings.Join(parts, " and ")
}

// ExtensionNames lists extensions as NAME VERSION, sorted.
func ExtensionNames(all []talos.Extension) []string {
	out := []string{}
	for _, e := range all {
		out = append(out, strings.TrimSpace(e.Name+" "+e.Version))
	}

	slices.Sort(out)

	return out
}

func (f facts) gatePlatform(node string) gate.Verdict {
	if f.unnamed {
		return f.skipUnnamed(gate.PlatformMismatch, node)
	}

	if !f.image.Factory() {
		return gate.New(gate.PlatformMismatch, gate.Skip, node, "the image does not tell its platform")
	}

	if p := f.image.Platform(); p != "" && f.version.Platform != "" && p != f.version.Platform {
		return gate.New(gate.PlatformMismatch, gate.Refuse, node, "the image is for the platform %s, the node runs on %s", p, f.version.Platform).
			WithRemedy("use the %s-installer", f.version.Platform)
	}

	if f.image.SecureBoot() != f.system.SecureBoot {
		return gate.New(gate.PlatformMismatch, gate.Refuse, node, "secure boot: image %t, node %t", f.image.SecureBoot(), f.system.SecureBoot).
			WithRemedy("a node keeps the flavour that it was installed with")
	}

	return gate.New(gate.PlatformMismatch, gate.Pass, node, "platform and secure boot flavour stay")
}

func (r *run) gateInstallOnly() gate.Verdict {
	f, node := r.f, r.Target.Address

	if !r.o.InstallOnly || f.version.API == release.APILifecycle {
		return gate.New(gate.NoInstallOnly, gate.Pass, node, "the node can do what was asked for")
	}

	return gate.New(gate.NoInstallOnly, gate.Refuse, node, "Talos %s installs and reboots in one request, staged or not", f.version.Tag).
		WithRemedy("omit --install-only; from v1.13 on install and reboot are separate requests")
}

// gateConfig asks what the machine configuration tells, which takes an admin's certificate to read.
func (r *run) gateConfig(ctx context.Context) ([]gate.Verdict, error) {
	config, err := r.Node.Read.ConfigFacts(ctx)

	switch {
	case conn.KindOf(err) == errs.KindPermissionDenied:
		v := gate.New(gate.KernelArgsDropped, gate.Skip, r.Target.Address, "this certificate may not read the machine configuration")

		return []gate.Verdict{v}, nil
	case err != nil:
		return nil, err
	}

	return []gate.Verdict{r.gateKernelArgs(config), r.gateAuthorities(config.Authorities)}, nil
}

// gateKernelArgs guards the kernel arguments that GRUB boots. systemd-boot boots those of the image, whatever the
// configuration says.
func (r *run) gateKernelArgs(config talos.ConfigFacts) gate.Verdict {
	f, node, dropped := r.f, r.Target.Address, config.DroppedKernelArgs

	switch {
	case f.system.BootedUKI:
		return gate.New(gate.KernelArgsDropped, gate.Pass, node, "systemd-boot boots the image's own kernel arguments")
	case config.NoInstall && release.GRUBBuilds(f.target()):
		return gate.New(gate.KernelArgsDropped, gate.Refuse, node,
			"the node boots with GRUB and has no machine.install section: an installer of %s would drop the image's own kernel arguments", f.target()).
			WithRemedy("set machine.install.grubUseUKICmdline, or add an UnattendedInstallConfig document")
	case f.version.API == release.APILegacy:
		return gate.New(gate.KernelArgsDropped, gate.Skip, node, "the legacy API passes kernel arguments on")
	case len(dropped) > 0:
		return gate.New(gate.KernelArgsDropped, gate.Refuse, node, "machine.install.extraKernelArgs (%s) would be dropped: the upgrade does not pass them on", redact.KernelArgs(strings.Join(dropped, " "))).
			WithRemedy("put them into the image's schematic, or set machine.install.grubUseUKICmdline")
	default:
		return gate.New(gate.KernelArgsDropped, gate.Pass, node, "no kernel arguments would be dropped")
	}
}

// gateServer says what no override passes: the legacy upgrade refuses two members, and unhealthy ones, on the server (Talos
// v1.12, internal/pkg/etcd/etcd.go).
func (r *run) gateServer(view etcd.View) gate.Verdict {
	node := r.Target.Address
	at := slices.IndexFunc(view.Members, func(m etcd.Member) bool { return !m.Healthy })

	switch {
	case r.f.version.API != release.APILegacy:
		return gate.New(gate.ServerRefuses, gate.Pass, node, "the lifecycle API does not check etcd")
	case len(view.Members) == 2:
		return gate.New(gate.ServerRefuses, gate.Refuse, node, "Talos %s refuses an upgrade of one of two etcd members, whatever is overridden", r.f.version.Tag).
			WithRemedy("add a third control plane node first, or remove a member")
	case at >= 0:
		return gate.New(gate.ServerRefuses, gate.Refuse, node, "Talos %s refuses an upgrade while an etcd member is unhealthy (%s), whatever is overridden",
			r.f.version.Tag, cmp.Or(view.Members[at].Name, view.Members[at].ID)).WithRemedy("bring the member back first")
	default:
		return gate.New(gate.ServerRefuses, gate.Pass, node, "etcd is as Talos %s wants it", r.f.version.Tag)
	}
}

// gateMemory guards the legacy upgrade, which unpacks the image into memory (Talos v1.12, internal/pkg/install/pull.go).
func (r *run) gateMemory(ctx context.Context) (gate.Verdict, error) {
	node := r.Target.Address

	memory, err := r.Node.Read.Memory(ctx)
	if err != nil {
		return gate.Verdict{}, err
	}

	switch free := memory.AvailableBytes; {
	case free < spaceNeeded:
		return gate.New(gate.DiskSpace, gate.Refuse, node, "%d MiB of memory are available, and Talos %s unpacks the installer image into memory: it needs %d",
			free>>20, r.f.version.Tag, spaceNeeded>>20).WithRemedy("stop or move workloads of the node first"), nil
	case free < 2*spaceNeeded:
		return gate.New(gate.DiskSpace, gate.Warn, node, "only %d MiB of memory are available, and Talos %s unpacks the installer image into memory", free>>20, r.f.version.Tag), nil
	default:
		return gate.New(gate.DiskSpace, gate.Pass, node, "more than %d MiB of memory are available", 2*spaceNeeded>>20), nil
	}
}

// An installer image is about half a GiB unpacked.
const (
	spaceNeeded = 512 << 20
	spaceWanted = 2 << 30
)

// imageMount is the mount that images are unpacked on: from Talos 1.14 on /var/lib/containerd may be a volume of its own.
func imageMount(mounts []talos.Mount) (talos.Mount, bool) {
	for _, on := range []string{"/var/lib/containerd", "/var"} {
		if m, found := lists.Find(mounts, func(m talos.Mount) bool { return m.MountedOn == on && m.SizeBytes > 0 }); found {
			return m, true
		}
	}

	return talos.Mount{}, false
}

func (r *run) gateSpace(ctx context.Context) (gate.Verdict, error) {
	node := r.Target.Address

	mounts, err := r.Node.Read.Mounts(ctx)
	if err != nil {
		return gate.Verdict{}, err
	}

	mount, found := imageMount(mounts)
	if !found {
		return gate.New(gate.DiskSpace, gate.Skip, node, "there is no mount for /var to look at"), nil
	}

	free, on := mount.AvailableBytes, mount.MountedOn

	switch {
	case free < spaceNeeded:
		return gate.New(gate.DiskSpace, gate.Refuse, node, "%d MiB are free under %s, the installer image needs %d", free>>20, on, spaceNeeded>>20).
			WithRemedy("talosmate image prune -n %s --apply", r.Target.Name()), nil
	case free < spaceWanted:
		return gate.New(gate.DiskSpace, gate.Warn, node, "only %d MiB are free under %s", free>>20, on), nil
	default:
		return gate.New(gate.DiskSpace, gate.Pass, node, "more than %d MiB are free under %s", spaceWanted>>20, on), nil
	}
}

// gatePending guards the way back: an install that is not yet booted must not be repeated.
func (r *run) gatePending() gate.Verdict {
	f, node := r.f, r.Target.Address

	switch m := f.marker; {
	case m == nil && r.o.RebootOnly:
		return gate.New(gate.InstallPending, gate.Refuse, node, "nothing was installed that waits for its reboot, and only that was asked for").
			WithRemedy("install first: --install-only")
	case m == nil:
		return gate.New(gate.InstallPending, gate.Pass, node, "no install waits for its reboot")
	case f.isInstalled(m):
		return gate.New(gate.InstallPending, gate.Pass, node, "%s was installed at %s and waits for its reboot", m.Target, m.Time.UTC().Format(time.RFC3339))
	case m.Phase == markerInstalled:
		return gate.New(gate.InstallPending, gate.Refuse, node,
			"%s was installed at %s and waits for its reboot: another install would overwrite the running system's slot, and with it the way back",
			m.Image, m.Time.UTC().Format(time.RFC3339)).WithRemedy("reboot the node first")
	case r.o.InstallOnly:
		return gate.New(gate.InstallPending, gate.Refuse, node,
			"an install of %s began at %s and its end was not seen: another one could overwrite the running system's slot", m.Target, m.Time.UTC().Format(time.RFC3339)).
			WithRemedy("reboot the node and look which version comes up")
	default:
		// Only a boot tells what the node holds, and after it no install overwrites what runs.
		return gate.New(gate.InstallPending, gate.Warn, node,
			"an install of %s began at %s and its end was not seen: the node is rebooted first, to see which version comes up", m.Target, m.Time.UTC().Format(time.RFC3339))
	}
}
