package upgrade

import (
	"context"
	"strings"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
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
	if strings.HasPrefix(f.image.Version, "v") && release.Same(f.image.Version, f.image.Version) {
		return f.image.Version
	}

	return ""
}

// current says whether the node runs the target already.
func (f facts) current() bool {
	same := f.target() != "" && release.Same(f.version.Tag, f.target())

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
		boot.GateEndpoints(r.w.Target, r.w.Endpoints, r.w.VirtualIPs), gateClient(r.w.Expires, r.w.Now(), 1, r.w.Target.Address),
	}

	config, err := r.gateConfig(ctx, f)
	if err != nil {
		return nil, err
	}

	clock, err := r.gateClock(ctx)
	if err != nil {
		return nil, err
	}

	space, err := r.gateSpace(ctx)
	if err != nil {
		return nil, err
	}

	verdicts = append(append(verdicts, config...), clock, space)

	if r.w.ControlPlane {
		view, err := r.w.Etcd(ctx)
		if err != nil {
			return nil, err
		}

		verdicts = append(verdicts, view.Check(etcd.Restart, r.w.Target)...)
	}

	return verdicts, nil
}
