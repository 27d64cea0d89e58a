package upgrade

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos"
)

// facts is what the preflight learned of a node.
type facts struct {
	version talos.Version
	boot    talos.Boot
	status  talos.MachineStatus
	system  talos.System
	image   registry.Installer
	k8sName string
	marker  *marker // What an earlier run noted in the boot that runs.
	left    bool    // Whether an earlier run left any note at all.
}

// target is the version that the image's tag names, empty when it names none.
func (f facts) target() string {
	if strings.HasPrefix(f.image.Version, "v") && talos.SameVersion(f.image.Version, f.image.Version) {
		return f.image.Version
	}

	return ""
}

// current says whether the node runs the target already.
func (f facts) current() bool {
	same := f.target() != "" && talos.SameVersion(f.version.Tag, f.target())

	return same && (f.image.Schematic == "" || f.image.Schematic == f.system.Schematic)
}

func (r *run) observe(ctx context.Context) (facts, error) {
	var (
		f   facts
		err error
	)

	if f.image, err = registry.ParseInstaller(r.o.Image); err != nil {
		return f, err
	}

	if f.version, err = r.w.Read.Version(ctx); err != nil {
		return f, err
	}

	if f.boot, err = r.w.Read.Boot(ctx); err != nil {
		return f, err
	}

	if f.status, err = r.w.Read.MachineStatus(ctx); err != nil {
		return f, err
	}

	if f.system, err = r.w.Read.System(ctx); err != nil {
		return f, err
	}

	f.k8sName, err = r.w.Read.KubernetesName(ctx)

	return f, err
}

// preflight asks every gate that can be asked without Kubernetes.
func (r *run) preflight(ctx context.Context, f facts) ([]gate.Verdict, error) {
	verdicts := []gate.Verdict{
		r.gatePath(f), r.gateKubernetesRange(f), r.gateSystem(f), r.gatePlatform(f), r.gateInstallOnly(f), r.gateInstallRunning(f),
		boot.GateEndpoints(r.w.Target, r.w.Endpoints, r.w.VirtualIPs),
	}

	args, err := r.gateKernelArgs(ctx, f)
	if err != nil {
		return nil, err
	}

	space, err := r.gateSpace(ctx)
	if err != nil {
		return nil, err
	}

	verdicts = append(verdicts, args, space)

	if r.w.ControlPlane {
		view, err := r.w.Etcd(ctx)
		if err != nil {
			return nil, err
		}

		verdicts = append(verdicts, view.Check(etcd.Restart, r.w.Target)...)
	}

	return verdicts, nil
}

func (r *run) gatePath(f facts) gate.Verdict {
	node := r.w.Target.Address

	if f.target() == "" {
		return gate.New(gate.VersionPath, gate.Refuse, node, "the image %s names no Talos version, so that nothing can be verified afterwards", r.o.Image).
			WithRemedy("use an image with a version tag")
	}

	p, err := talos.UpgradePath(f.version.Tag, f.target())

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

func (r *run) gateKubernetesRange(f facts) gate.Verdict {
	node := r.w.Target.Address

	if f.system.Kubelet == "" || f.target() == "" {
		return gate.New(gate.KubernetesRange, gate.Skip, node, "the Kubernetes version of the node is not known")
	}

	p, err := talos.KubernetesRange(f.system.Kubelet, f.target())
	if err != nil {
		return gate.New(gate.KubernetesRange, gate.Skip, node, "%v", err)
	}

	if !p.Supported {
		return gate.New(gate.KubernetesRange, gate.Refuse, node, "%s", p.Reason).WithRemedy("upgrade Kubernetes first: talosmate upgrade kubernetes")
	}

	return gate.New(gate.KubernetesRange, gate.Pass, node, "%s", p.Reason)
}

// gateSystem guards what the running image has and the new one may lack. A stock image has no extensions.
func (r *run) gateSystem(f facts) gate.Verdict {
	node := r.w.Target.Address
	had := extensionNames(f.system.Extensions)
	schematic := f.system.Schematic
	custom := len(had) > 0 || (schematic != "" && schematic != registry.EmptySchematic)

	switch {
	case !custom:
		return gate.New(gate.ExtensionsLost, gate.Pass, node, "the node has no extensions to lose")
	case f.image.Schematic == schematic && schematic != "":
		return gate.New(gate.ExtensionsLost, gate.Pass, node, "the image has the node's own schematic")
	case !f.image.Factory() && isStock(f.image):
		return gate.New(gate.ExtensionsLost, gate.Refuse, node, "%s is a stock image: the node would lose %s", r.o.Image, describeSystem(had, schematic)).
			WithRemedy("use the Image Factory installer of the node's schematic: %s", registry.FactoryInstaller("", f.version.Platform, f.system.SecureBoot, schematic, f.target()))
	case f.image.Factory():
		return gate.New(gate.ExtensionsLost, gate.Refuse, node, "the image has the schematic %.12s…, the node %s", f.image.Schematic, describeSystem(had, schematic)).
			WithRemedy("if the change is wanted, pass this gate; to keep what the node has: %s", f.image.WithSchematic(schematic))
	default:
		return gate.New(gate.ExtensionsLost, gate.Warn, node, "what %s holds is not known; the node has %s", r.o.Image, describeSystem(had, schematic))
	}
}

func isStock(i registry.Installer) bool {
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

func extensionNames(all []talos.Extension) []string {
	out := []string{}
	for _, e := range all {
		out = append(out, strings.TrimSpace(e.Name+" "+e.Version))
	}

	slices.Sort(out)

	return out
}

func (r *run) gatePlatform(f facts) gate.Verdict {
	node := r.w.Target.Address

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

func (r *run) gateInstallOnly(f facts) gate.Verdict {
	node := r.w.Target.Address

	if r.o.AutoReboot || f.version.API == talos.APILifecycle {
		return gate.New(gate.NoInstallOnly, gate.Pass, node, "the node can do what was asked for")
	}

	return gate.New(gate.NoInstallOnly, gate.Refuse, node, "Talos %s installs and reboots in one request, staged or not", f.version.Tag).
		WithRemedy("leave --auto-reboot=false away; from v1.13 the two are apart")
}

func (r *run) gateInstallRunning(f facts) gate.Verdict {
	node := r.w.Target.Address

	switch {
	case busy(f.status):
		return gate.New(gate.InstallRunning, gate.Refuse, node, "the node is busy: %s", f.status).WithRemedy("wait until it is running again")
	default:
		return gate.New(gate.InstallRunning, gate.Pass, node, "the node is not installing anything")
	}
}

func (r *run) gateKernelArgs(ctx context.Context, f facts) (gate.Verdict, error) {
	node := r.w.Target.Address

	if f.version.API == talos.APILegacy {
		return gate.New(gate.KernelArgsDropped, gate.Skip, node, "the legacy API passes kernel arguments on"), nil
	}

	args, err := r.w.Read.ExtraKernelArgs(ctx)
	if talos.KindOf(err) == errs.KindPermissionDenied {
		return gate.New(gate.KernelArgsDropped, gate.Skip, node, "this certificate may not read the machine configuration"), nil
	}

	if err != nil {
		return gate.Verdict{}, err
	}

	if len(args) > 0 {
		return gate.New(gate.KernelArgsDropped, gate.Refuse, node, "machine.install.extraKernelArgs (%s) would be dropped: the upgrade does not pass them on", strings.Join(args, " ")).
			WithRemedy("put them into the image's schematic, or set machine.install.grubUseUKICmdline"), nil
	}

	return gate.New(gate.KernelArgsDropped, gate.Pass, node, "no kernel arguments would be dropped"), nil
}

// An installer image is about half a GiB unpacked.
const (
	spaceNeeded = 512 << 20
	spaceWanted = 2 << 30
)

func (r *run) gateSpace(ctx context.Context) (gate.Verdict, error) {
	node := r.w.Target.Address

	mounts, err := r.w.Read.Mounts(ctx)
	if err != nil {
		return gate.Verdict{}, err
	}

	at := slices.IndexFunc(mounts, func(m talos.Mount) bool { return m.MountedOn == "/var" && m.SizeBytes > 0 })
	if at < 0 {
		return gate.New(gate.DiskSpace, gate.Skip, node, "there is no mount for /var to look at"), nil
	}

	free := mounts[at].AvailableBytes

	switch {
	case free < spaceNeeded:
		return gate.New(gate.DiskSpace, gate.Refuse, node, "%d MiB are free under /var, the installer image needs %d", free>>20, spaceNeeded>>20).
			WithRemedy("talosmate image prune -n %s --apply", r.w.Target.Name()), nil
	case free < spaceWanted:
		return gate.New(gate.DiskSpace, gate.Warn, node, "only %d MiB are free under /var", free>>20), nil
	default:
		return gate.New(gate.DiskSpace, gate.Pass, node, "more than %d MiB are free under /var", spaceWanted>>20), nil
	}
}
