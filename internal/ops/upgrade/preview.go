package upgrade

import (
	"context"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// What an upgrade would do to a node.
const (
	ActUpgrade   = "upgrade"   // Everything.
	ActDowngrade = "downgrade" // The same, to a lower version.
	ActReboot    = "reboot"    // An earlier run installed it: only the reboot is left.
	ActSettle    = "settle"    // The end of an install was not observed: reboot, find out, and install if needed.
	ActRelease   = "release"   // It runs the target, and something of an earlier run is left on it.
	ActSkip      = "skip"      // There is nothing to do.
)

// Preview is what an upgrade would find on a node and do to it. Nothing is changed.
type Preview struct{ r *run }

// Look observes a node for an upgrade. The preview is valid also on error, with what was observed before.
func Look(ctx context.Context, n *probe.Node, o Options) (Preview, error) {
	o.DryRun, o.Reason = true, purpose
	p := Preview{newRun(n, o, progress.Discard{})}

	return p, p.r.look(ctx)
}

// KubernetesAway reports whether the node is a Kubernetes member whose API cannot be reached; the gate says so.
func (p Preview) KubernetesAway() bool { return p.r.Status == runbook.DiscoveryFailed }

// KubernetesName is the Kubernetes node; empty when the node is not a member.
func (p Preview) KubernetesName() string { return p.r.K8sName }

// System is what the node runs.
func (p Preview) System() talos.System { return p.r.f.system }

// Found are the verdicts so far.
func (p Preview) Found() []gate.Verdict { return p.r.Rec.Gates }

// Gates checks all gates. A gate that refuses is a verdict, not an error.
func (p Preview) Gates(ctx context.Context) ([]gate.Verdict, error) {
	p.r.Rec.Gates = []gate.Verdict{}

	if err := p.r.gates(ctx); err != nil && p.r.Status != runbook.Refused {
		return nil, err
	}

	return p.r.Rec.Gates, nil
}

// Same checks the gates of an image that the node already runs.
func (p Preview) Same(ctx context.Context) []gate.Verdict { return p.r.gateSame(ctx) }

// Later checks the gates that another image would have to pass, once the node runs the version before.
func (p Preview) Later(image, version string) []gate.Verdict {
	node := p.r.Target.Address
	f, _ := p.r.f.wants(image, version) // it was checked when it was composed

	return []gate.Verdict{f.gateKubernetesRange(node), f.gateSystem(node), f.gatePlatform(node)}
}

// Blockers lists the disruption budgets that hold pods of the node now, where it would be drained.
func (p Preview) Blockers(ctx context.Context) ([]kube.Blocker, error) {
	if p.r.Kube == nil || !p.r.Options.Drain {
		return []kube.Blocker{}, nil
	}

	return p.r.Kube.Blockers(ctx, p.r.K8sName)
}

// Action says what an upgrade to a version would do to the node, and why.
func (p Preview) Action(ctx context.Context, to string) (action, why string) {
	r, f := p.r, p.r.f

	switch m := f.marker; {
	case f.current() && m == nil:
		if f.left {
			return ActRelease, "an earlier run upgraded it and did not observe the end"
		}

		if r.Kube != nil {
			if node, found, err := r.Kube.Node(ctx, r.K8sName); err == nil && found && node.CordonedFor(r.o.Reason) {
				return ActRelease, "an earlier run left it cordoned"
			}
		}

		return ActSkip, "it already runs " + f.version.Tag
	case m != nil && f.isInstalled(m):
		return ActReboot, m.Target + " is installed and waits for its reboot"
	case m != nil && m.Phase == markerInstalling:
		return ActSettle, "an install of " + m.Target + " began and its end was not observed"
	case f.lower():
		return ActDowngrade, "it runs " + f.version.Tag + ", the lower " + to + " is wanted"
	case release.Same(f.version.Tag, to):
		return ActUpgrade, "it runs " + f.version.Tag + " " + f.differs()
	default:
		return ActUpgrade, "it runs " + f.version.Tag + ", " + to + " is wanted"
	}
}

// Install is the action that installs a version where another one runs.
func Install(running, wanted string) string {
	if release.Lower(wanted, running) {
		return ActDowngrade
	}

	return ActUpgrade
}

// Installs reports whether an action installs an image.
func Installs(action string) bool { return action == ActUpgrade || action == ActDowngrade }

// Target is the version that an image's tag names, empty when it names none.
func Target(image registry.Installer) string { return facts{image: image}.target() }
