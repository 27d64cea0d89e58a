package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/engine"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/talos"
)

// Options are what the user decides about the upgrade of a node.
type Options struct {
	Image         string        // The installer image.
	AutoReboot    bool          // Reboot after the install; without it there is neither drain nor reboot.
	Wait          bool          // Wait for the node to come back.
	SkipDrain     bool          // Neither cordon nor drain.
	DrainTimeout  time.Duration // For all evictions together.
	RebootMode    string        // default, powercycle or force.
	RebootTimeout time.Duration // From the reboot request to a new boot.
	ReadyTimeout  time.Duration // From the new boot to everything being well.
	Overrides     gate.Overrides
	DryRun        bool
	Reason        string // Who and why, for the cordon's annotation.
	// BeforeChange is called once, right before the first request that changes something.
	BeforeChange func()
}

// run is one node's upgrade.
type run struct {
	w    *World
	o    Options
	sink progress.Sink
	undo engine.Undo

	res     Result
	started time.Time
	kube    Kube
	keep    func() // Takes the uncordon off the undo stack.
	changed bool
}

// Run upgrades one node. The result holds everything that was observed, whatever the end; the error says
// the end again, with its exit code and hint.
func Run(ctx context.Context, w *World, o Options, sink progress.Sink) (Result, error) {
	r := &run{w: w, o: o, sink: sink, started: w.Now()}
	r.res = Result{
		Image: o.Image, DryRun: o.DryRun, ExtensionsBefore: []string{}, ExtensionsAfter: []string{}, Gates: []gate.Verdict{}, Stages: []Stage{},
	}
	r.res.SetNode(w.Target)

	err := r.steps(ctx)

	if undoErr := r.undo.Run(ctx, defaultUndoTimeout); undoErr != nil {
		r.res.UncordonError = undoErr.Error()
		err = errors.Join(err, undoErr)
	}

	r.finish(ctx, err)

	return r.res, r.typed(err)
}

// finish settles status and message.
func (r *run) finish(ctx context.Context, err error) {
	if err != nil {
		r.res.Error = err.Error()
	}

	if ctx.Err() != nil {
		r.res.Status = InterruptedStatus
		r.res.Hint = r.leftovers()
	}

	if hints := errs.Hints(err); r.res.Hint == "" && len(hints) > 0 {
		r.res.Hint = hints[0]
	}

	r.res.ElapsedSeconds = r.w.Now().Sub(r.started).Seconds()
	r.sink.Emit(progress.Event{
		Time: r.w.Now(), Node: r.w.Target.Name(), Stage: string(r.res.Status), Message: r.summary(), Done: true, Failed: err != nil,
	})
}

func (r *run) summary() string {
	switch {
	case r.res.Status == OK:
		return fmt.Sprintf("%s -> %s, API away for %.1f s", r.res.ServerTag, r.res.RunningTag, r.res.DowntimeSeconds)
	case r.res.Error != "":
		return r.res.Error
	default:
		return ""
	}
}

// leftovers says what an interrupted upgrade leaves on the node.
func (r *run) leftovers() string {
	switch {
	case r.res.RebootRequested && !r.res.TalosBack:
		return "the node is rebooting into the new version; run the same command again to verify it"
	case r.res.PulledImage != "" && r.stageReached("install"):
		return "the new version may be installed and waits for a reboot; run the same command again to finish"
	default:
		return "the node runs what it ran before"
	}
}

func (r *run) stageReached(name string) bool {
	for _, s := range r.res.Stages {
		if s.Stage == name {
			return true
		}
	}

	return false
}

// typed gives the run's error the exit code of its status.
func (r *run) typed(err error) error {
	code := r.res.Status.exit()
	if err == nil || code == errs.OK {
		return err
	}

	var inner *errs.Error

	out := &errs.Error{Exit: code, Node: r.w.Target.Address, Hostname: r.w.Target.Hostname, Hint: r.res.Hint, Err: err}
	if errors.As(err, &inner) {
		out.Kind, out.GRPCCode, out.Gate, out.Retryable = inner.Kind, inner.GRPCCode, inner.Gate, inner.Retryable

		if r.res.Status == unfinished {
			// It failed before anything was decided: the cause's own code tells best.
			out.Exit = inner.Exit
		}
	}

	if code != errs.Refused && code != errs.Failed {
		out.Kind = ""
	}

	return out
}

func (r *run) stage(name, format string, args ...any) {
	now := r.w.Now()
	message := fmt.Sprintf(format, args...)
	r.res.Stages = append(r.res.Stages, Stage{Time: now.UTC(), Stage: name, Message: message, ElapsedSeconds: now.Sub(r.started).Seconds()})
	r.sink.Emit(progress.Event{Time: now, Node: r.w.Target.Name(), Stage: name, Message: message})
}

func (r *run) beforeChange() {
	if !r.changed && r.o.BeforeChange != nil {
		r.o.BeforeChange()
	}

	r.changed = true
}

func (r *run) fail(status Status, format string, args ...any) error {
	r.res.Status = status

	return fmt.Errorf("cannot upgrade %s: %w", r.w.Target.Name(), fmt.Errorf(format, args...))
}

// steps is the runbook.
func (r *run) steps(ctx context.Context) error {
	r.stage("preflight", "looking at the node")

	f, err := r.observe(ctx)
	r.note(f)

	if err != nil {
		return err
	}

	if err = r.discover(ctx, &f); err != nil {
		return err
	}

	if f.current() && f.marker == nil {
		return r.alreadyCurrent(ctx)
	}

	if err = r.gates(ctx, f); err != nil {
		return err
	}

	if r.o.DryRun {
		r.res.Status = Planned
		r.stage("preflight", "dry run: nothing is done")

		return nil
	}

	resume := f.marker != nil && f.marker.Phase == markerInstalled

	if !resume {
		if err = r.pull(ctx); err != nil {
			return err
		}
	}

	if r.o.AutoReboot {
		if err = r.clear(ctx); err != nil {
			return err
		}
	}

	if resume {
		r.res.ResumedInstall, r.res.PulledImage = true, f.marker.Image
		r.stage("install", "%s is installed already and waits for its reboot", f.marker.Target)
	} else if err = r.install(ctx, f); err != nil {
		return err
	}

	if !r.o.AutoReboot {
		r.res.Status = Installed
		r.res.Hint = "the new version becomes active with the next reboot; do not install again before"

		return nil
	}

	return r.restart(ctx, f)
}

func (r *run) note(f facts) {
	r.res.API, r.res.ServerTag, r.res.RunningTag, r.res.TargetTag = f.version.API, f.version.Tag, f.version.Tag, f.target()
	r.res.BootIDBefore, r.res.BootProof, r.res.SchematicBefore, r.res.K8sNodeName = f.boot.ID, f.boot.Proof, f.system.Schematic, f.k8sName
	r.res.ExtensionsBefore = extensionNames(f.system.Extensions)
}

// discover finds the Kubernetes side of the node: its API, our own cordon and our marker from an earlier run.
func (r *run) discover(ctx context.Context, f *facts) error {
	if f.k8sName == "" {
		r.stage("preflight", "the node is no Kubernetes member: cordon, drain and uncordon are skipped")

		return nil
	}

	node, err := r.connectKubernetes(ctx, f.k8sName)
	if err != nil {
		if r.o.SkipDrain || !r.o.AutoReboot {
			r.stage("preflight", "the Kubernetes API cannot be reached (%v): going on without it", err)

			return nil
		}

		if r.o.Overrides.Has(gate.KubernetesAway) {
			r.verdict(gate.New(gate.KubernetesAway, gate.Overridden, r.w.Target.Address, "%v", err))

			return nil
		}

		v := gate.New(gate.KubernetesAway, gate.Refuse, r.w.Target.Address,
			"%s is a Kubernetes member and its API cannot be reached: %v", r.w.Target.Name(), err).
			WithRemedy("name a kubeconfig with --kubeconfig, or go on without cordon and drain: --skip-drain")
		r.verdict(v)
		r.res.Status = DiscoveryFailed

		return v.Refusal()
	}

	if m, ok := parseMarker(node.Annotations[MarkerAnnotation]); ok && m.BootID == f.boot.ID {
		f.marker = &m
	}

	return nil
}

func (r *run) connectKubernetes(ctx context.Context, name string) (kube.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()

	k, source, err := r.w.Kube(ctx)
	if err != nil {
		return kube.Node{}, err
	}

	node, found, err := k.Node(ctx, name)
	if err != nil {
		return kube.Node{}, err
	}

	if !found {
		return kube.Node{}, fmt.Errorf("kubernetes knows no node %q", name)
	}

	r.kube, r.res.K8sCredentials = k, source

	return node, nil
}

// alreadyCurrent ends an upgrade that has nothing to do, and releases what an earlier run left behind.
func (r *run) alreadyCurrent(ctx context.Context) error {
	r.res.Status, r.res.TalosBack = AlreadyCurrent, true
	r.stage("preflight", "the node runs %s already", r.res.TargetTag)

	if r.kube == nil || r.o.DryRun {
		return nil
	}

	node, _, err := r.kube.Node(ctx, r.res.K8sNodeName)
	if err != nil {
		return err
	}

	r.res.K8sReady = node.Ready

	if _, ours := node.Annotations[kube.CordonAnnotation]; ours {
		r.beforeChange()
		r.stage("uncordon", "lifting the cordon that an earlier run left")

		if err = r.kube.Uncordon(ctx, node.Name); err != nil {
			return err
		}

		r.res.Uncordoned = true
	}

	if node.Annotations[MarkerAnnotation] != "" {
		r.beforeChange()

		return r.kube.Annotate(ctx, node.Name, MarkerAnnotation, "")
	}

	return nil
}

func (r *run) verdict(v ...gate.Verdict) { r.res.Gates = append(r.res.Gates, v...) }

// gates asks all gates and refuses with the first that stands. All verdicts are in the result.
func (r *run) gates(ctx context.Context, f facts) error {
	verdicts, err := r.preflight(ctx, f)
	if err != nil {
		return err
	}

	verdicts = append(verdicts, r.gatePending(f))

	if r.kube != nil && r.o.AutoReboot && !r.o.SkipDrain {
		budget, err := r.gateBudgets(ctx)
		if err != nil {
			return err
		}

		verdicts = append(verdicts, budget...)
	}

	err = gate.Apply(verdicts, r.o.Overrides)
	r.verdict(verdicts...)

	for _, v := range verdicts {
		switch v.Verdict {
		case gate.Warn:
			r.stage("preflight", "warning (%s): %s", v.Gate, v.Message)
		case gate.Overridden:
			r.res.OverriddenGates = append(r.res.OverriddenGates, string(v.Gate))
			r.stage("preflight", "gate %s overridden: %s", v.Gate, v.Message)
		case gate.Pass, gate.Refuse, gate.Skip:
		}
	}

	if err != nil {
		r.res.Status = RefusedStatus
	}

	return err
}

// gatePending guards the way back: an install that is not yet booted must not be repeated.
func (r *run) gatePending(f facts) gate.Verdict {
	node := r.w.Target.Address

	switch m := f.marker; {
	case m == nil:
		return gate.New(gate.InstallPending, gate.Pass, node, "no install waits for its reboot")
	case m.Phase == markerInstalled && m.Target == f.target():
		return gate.New(gate.InstallPending, gate.Pass, node, "%s was installed at %s and waits for its reboot", m.Target, m.Time.UTC().Format(time.RFC3339))
	case m.Phase == markerInstalled:
		return gate.New(gate.InstallPending, gate.Refuse, node,
			"%s was installed at %s and waits for its reboot: another install would overwrite the running system's slot, and with it the way back",
			m.Target, m.Time.UTC().Format(time.RFC3339)).WithRemedy("reboot the node first")
	default:
		return gate.New(gate.InstallPending, gate.Refuse, node,
			"an install of %s began at %s and its end was not seen: another one could overwrite the running system's slot", m.Target, m.Time.UTC().Format(time.RFC3339)).
			WithRemedy("reboot the node and look which version comes up")
	}
}

func (r *run) gateBudgets(ctx context.Context) ([]gate.Verdict, error) {
	node := r.w.Target.Address

	if r.w.Nodes == 1 {
		r.o.SkipDrain = true

		return []gate.Verdict{gate.New(gate.NowhereToDrain, gate.Warn, node, "the cluster has one node: there is nowhere to drain to, so that cordon and drain are skipped")}, nil
	}

	blockers, err := r.kube.Blockers(ctx, r.res.K8sNodeName)
	if err != nil {
		return nil, err
	}

	for _, b := range blockers {
		if b.Never {
			return []gate.Verdict{gate.New(gate.BudgetNeverMet, gate.Refuse, node, "the disruption budget %s can never be met: %s", b.Budget, b.Message).
				WithRemedy("give its workload another replica, or loosen the budget")}, nil
		}
	}

	if len(blockers) > 0 {
		return []gate.Verdict{gate.New(gate.BudgetNeverMet, gate.Warn, node, "the disruption budget %s holds %s for now: %s", blockers[0].Budget, blockers[0].Pod, blockers[0].Message)}, nil
	}

	return []gate.Verdict{gate.New(gate.BudgetNeverMet, gate.Pass, node, "no disruption budget holds a pod")}, nil
}

func (r *run) pull(ctx context.Context) error {
	r.beforeChange()
	r.stage("pull", "pulling %s", r.o.Image)

	pulled, err := r.w.Change.PullImage(ctx, talos.NamespaceSystem, r.o.Image, func(p talos.PullProgress) {
		r.sink.Emit(progress.Event{
			Time: r.w.Now(), Node: r.w.Target.Name(), Stage: "pull", Message: "layer " + p.Layer, Current: p.Offset, Total: p.Total,
		})
	})
	if err != nil {
		return r.fail(PullFailed, "%w", err)
	}

	r.res.PulledImage = pulled

	return nil
}

// clear cordons and drains. The uncordon is registered first.
func (r *run) clear(ctx context.Context) error {
	if r.kube == nil || r.o.SkipDrain {
		return nil
	}

	name := r.res.K8sNodeName
	r.keep = r.undo.Push("cordon of "+name, func(ctx context.Context) error { return r.uncordon(ctx) })

	r.stage("cordon", "cordoning %s", name)

	ours, err := r.kube.Cordon(ctx, name, r.o.Reason)
	if err != nil {
		return r.fail(CordonFailed, "%w", err)
	}

	r.res.Cordoned = ours
	if !ours {
		r.keep()
		r.stage("cordon", "%s was cordoned by somebody else and stays so", name)
	}

	r.stage("drain", "draining %s, for at most %s", name, r.o.DrainTimeout)

	pods, err := r.kube.Drain(ctx, name, kube.DrainOptions{Timeout: r.o.DrainTimeout, Tell: func(m string) {
		r.sink.Emit(progress.Event{Time: r.w.Now(), Node: r.w.Target.Name(), Stage: "drain", Message: m})
	}})
	if err != nil {
		return r.fail(DrainFailed, "%w", err)
	}

	r.res.DrainedPods = pods

	return nil
}

// uncordon lifts our cordon; the library looks that it is ours.
func (r *run) uncordon(ctx context.Context) error {
	r.stage("uncordon", "uncordoning %s", r.res.K8sNodeName)

	if err := r.kube.Uncordon(ctx, r.res.K8sNodeName); err != nil {
		return err
	}

	r.res.Uncordoned = r.res.Cordoned

	return nil
}

func (r *run) mark(ctx context.Context, m string) error {
	if r.kube == nil {
		return nil
	}

	return r.kube.Annotate(ctx, r.res.K8sNodeName, MarkerAnnotation, m)
}

func (r *run) install(ctx context.Context, f facts) error {
	if f.version.API == talos.APILegacy {
		return nil // restart sends the one request that installs and reboots
	}

	m := marker{Image: r.res.PulledImage, Target: f.target(), BootID: f.boot.ID, Phase: markerInstalling, Time: r.w.Now().UTC()}
	if err := r.mark(ctx, m.String()); err != nil {
		return r.fail(InstallFailed, "cannot note the install on the node: %w", err)
	}

	r.stage("install", "installing %s", r.res.PulledImage)

	code, err := r.w.Change.Install(ctx, r.res.PulledImage, func(line string) {
		r.res.InstallerLines = append(r.res.InstallerLines, line)
		r.sink.Emit(progress.Event{Time: r.w.Now(), Node: r.w.Target.Name(), Stage: "install", Message: line})
	})

	switch {
	case err != nil && lost(err):
		// Whether the installer finished cannot be read back: nothing in Talos's API tells.
		r.res.Status = UnknownStatus
		r.res.Hint = "whether the install finished is not known: do not install again before the node has rebooted, or its way back is lost"

		return fmt.Errorf("cannot upgrade %s: the connection was lost during the install: %w", r.w.Target.Name(), err)
	case err != nil || code != 0:
		if err == nil {
			err = fmt.Errorf("the installer ended with exit code %d", code)
		}

		// A failed installer wrote nothing that boots; the marker goes so that another try is possible.
		if unmarkErr := r.mark(context.WithoutCancel(ctx), ""); unmarkErr != nil {
			err = errors.Join(err, unmarkErr)
		}

		return r.fail(InstallFailed, "%w", err)
	}

	r.res.InstallerLines = nil
	m.Phase = markerInstalled

	if err := r.mark(context.WithoutCancel(ctx), m.String()); err != nil {
		return r.fail(InstalledNoReboot, "installed, but it cannot be noted on the node: %w", err)
	}

	return nil
}

// lost says whether a call's answer was lost on the way rather than given.
func lost(err error) bool {
	return talos.Transient(err)
}

// restart reboots, or on the legacy API installs and reboots, then waits and verifies.
func (r *run) restart(ctx context.Context, f facts) error {
	if err := r.quorumAgain(ctx); err != nil {
		return err
	}

	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	asked := r.w.Now()
	r.res.RebootRequested = true

	var err error

	if f.version.API == talos.APILegacy {
		r.stage("install", "asking for the upgrade: the node installs and reboots by itself")
		err = r.w.Change.UpgradeLegacy(ctx, r.o.Image, r.o.RebootMode)
	} else {
		r.stage("reboot", "rebooting (%s)", r.o.RebootMode)
		err = r.w.Change.Reboot(ctx, r.o.RebootMode)
	}

	switch {
	case err != nil && lost(err):
		// The request may have been carried out: the state is read back, the request never sent again.
		r.res.AnswerLost = true
		r.stage("reboot", "the answer was lost (%v): reading the state back", err)
	case err != nil && f.version.API == talos.APILegacy:
		r.res.RebootRequested = false

		return r.fail(InstallFailed, "%w", err)
	case err != nil:
		r.res.RebootRequested = false
		r.res.Hint = "the new version is installed and becomes active with the next reboot"

		return r.fail(RebootFailed, "%w", err)
	}

	if !r.o.Wait {
		r.res.Status = RebootedNoWait

		return nil
	}

	if err = r.awaitBoot(ctx, f, asked); err != nil {
		return err
	}

	return r.verify(ctx, f)
}

// quorumAgain asks etcd once more: pull, drain and install took their time.
func (r *run) quorumAgain(ctx context.Context) error {
	if !r.w.ControlPlane {
		return nil
	}

	view, err := r.w.Etcd(ctx)
	if err != nil {
		return r.fail(InstalledNoReboot, "%w", err)
	}

	verdicts := view.Check(etcd.Restart, r.w.Target)
	if err = gate.Apply(verdicts, r.o.Overrides); err != nil {
		r.verdict(verdicts...)
		r.res.Hint = "the new version is installed; run the same command again when etcd is well"

		if r.res.API == talos.APILegacy {
			r.res.Hint = "nothing was installed; run the same command again when etcd is well"
		}

		return r.fail(InstalledNoReboot, "etcd changed meanwhile: %w", err)
	}

	return nil
}
