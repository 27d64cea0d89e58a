package upgrade

import (
	"context"
	"strings"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// facts are what the preflight knows of a node.
type facts struct {
	version   talos.Version
	boot      talos.Boot
	status    talos.MachineStatus
	system    talos.System
	image     registry.Installer
	unnamed   bool               // Of the image only the version is known.
	recorded  string             // The image that a verified upgrade of this tool installed, where it noted one.
	installed registry.Installer // The image in the configuration, read where the wanted one does not tell what it holds.
	k8sName   string
	installs  bool     // Whether an installer runs.
	marker    *Marker  // What an earlier run noted in the current boot.
	unmet     []string // What was unmet before, by that note.
	left      bool     // Whether an earlier run left any note at all.
}

// wants sets the image, or only its version where the image is not known.
func (f facts) wants(image, version string) (_ facts, err error) {
	if f.unnamed = image == "" && version != ""; f.unnamed {
		f.image = registry.Installer{Version: version}

		return f, nil
	}

	f.image, err = registry.ParseInstaller(image)

	return f, err
}

// isInstalled reports whether an earlier run installed the wanted image.
func (f facts) isInstalled(m *Marker) bool {
	if f.unnamed {
		return m.Installed() && m.Target == f.target()
	}

	return m.installed(f.image)
}

// target is the version that the image's tag names, empty when it names none.
func (f facts) target() string {
	if strings.HasPrefix(f.image.Version, "v") && release.Same(f.image.Version, f.image.Version) {
		return f.image.Version
	}

	return ""
}

// observe reads the facts of the node.
func (r *run) observe(ctx context.Context) (f facts, err error) {
	if f, err = f.wants(r.o.Image, r.o.Version); err != nil {
		return f, err
	}

	n := r.Node.Read

	if f.version, err = n.Version(ctx); err == nil {
		f.boot, err = n.Boot(ctx, "")
	}

	if err == nil {
		f.status, err = n.MachineStatus(ctx)
	}

	if err == nil {
		f.system, err = n.System(ctx)
	}

	if err == nil {
		f.installs, err = n.InstallerRuns(ctx)
	}

	if err == nil {
		f.k8sName, err = n.KubernetesName(ctx)
	}

	return f, err
}

// gateBusy lets an installer pass that an earlier run began: its end is waited for.
func (r *run) gateBusy() gate.Verdict {
	v := r.GateBusy(r.f.status, r.f.installs)
	if r.f.installs && r.f.marker != nil && r.f.marker.Phase == markerInstalling && !probe.Busy(r.f.status) {
		v.Verdict, v.Message, v.Remedy = gate.Warn, "the installer that an earlier run began still runs: its end is waited for", ""
	}

	return v
}

// preflight checks every gate that needs no Kubernetes.
func (r *run) preflight(ctx context.Context) ([]gate.Verdict, error) {
	verdicts := []gate.Verdict{
		r.gatePath(), r.f.gateDowngrade(r.Target.Address), r.f.gateKubernetesRange(r.Target.Address), r.f.gateSystem(r.Target.Address), r.f.gatePlatform(r.Target.Address), r.gateInstallOnly(), r.gateBusy(), r.f.gateUnmet(r.Target.Address),
		r.Node.GateEndpoints(), probe.GateDiscovery(r.Node.Members, nil, r.Target.Address), GateClient(r.Node.Expires, r.Now(), 1, r.Target.Address),
	}

	config, err := r.gateConfig(ctx)
	if err != nil {
		return nil, err
	}

	clock, err := probe.GateClock(ctx, r.Node.Read, r.Target)
	if err != nil {
		return nil, err
	}

	space, err := r.gateSpace(ctx)
	if err != nil {
		return nil, err
	}

	verdicts = append(append(verdicts, config...), clock, space)

	if r.f.version.API == release.APILegacy {
		memory, err := r.gateMemory(ctx)
		if err != nil {
			return nil, err
		}

		verdicts = append(verdicts, memory)
	}

	if r.Node.ControlPlane {
		view, err := r.Node.Etcd(ctx)
		if err != nil {
			return nil, err
		}

		verdicts = append(append(verdicts, view.Check(etcd.Restart, r.Target)...), r.gateServer(view))
	}

	return verdicts, nil
}
