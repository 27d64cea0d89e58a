package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/engine"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/talos"
)

// ApplyOptions are what the user decides about a cluster's upgrade besides the plan.
type ApplyOptions struct {
	Node        Options       // For each node; image, lock and the like are filled in.
	Pause       time.Duration // Between two nodes.
	Soak        time.Duration // How long the canary is watched.
	Gates       []UserGate    // Before each node.
	GateTimeout time.Duration // How long a gate is waited for.
	RollBack    bool          // Bring a failed node back to its version before.
	Window      *Window       // No node is started outside it.
	Snapshot    string        // The file for etcd's snapshot, empty for none.
	Journal     engine.Journal
}

// ApplyStatus is how a cluster's upgrade ended.
type ApplyStatus string

// The ends of a cluster's upgrade.
const (
	ApplyOK          ApplyStatus = "ok"              // Every node is done.
	ApplyPlanned     ApplyStatus = "planned"         // Dry run: nothing was done.
	ApplyNothing     ApplyStatus = "already_current" // There was nothing to do.
	ApplyRefused     ApplyStatus = "refused"         // A gate refused before anything was changed.
	ApplyFailed      ApplyStatus = "failed"          // It failed before a node was touched.
	ApplyHalted      ApplyStatus = "halted"          // A node or a gate failed; no further node was started.
	ApplyInterrupted ApplyStatus = "interrupted"     // The user interrupted it.
)

// ApplyResult is everything that was observed.
type ApplyResult struct {
	Status          ApplyStatus    `json:"status"`             // How it ended.
	DryRun          bool           `json:"dry_run"`            // Whether nothing was to be done.
	Cluster         string         `json:"cluster"`            // The talosconfig context.
	To              string         `json:"to"`                 // The version wanted.
	PlanHash        string         `json:"plan_hash"`          // The plan's hash.
	StartedAt       time.Time      `json:"started_at"`         // When it began.
	FinishedAt      time.Time      `json:"finished_at"`        // When it ended.
	ElapsedSeconds  float64        `json:"elapsed_seconds"`    // How long it took.
	Snapshot        *etcd.Snapshot `json:"snapshot,omitempty"` // The snapshot of etcd that was taken first.
	Locked          bool           `json:"locked"`             // Whether the cluster's lock was held.
	Nodes           []Result       `json:"nodes"`              // What was done, in the order in which it ended; several per node with hops; never null.
	Skipped         []string       `json:"skipped"`            // Nodes with nothing to do; never null.
	Remaining       []string       `json:"remaining"`          // Nodes that were not started; never null.
	Upgraded        int            `json:"upgraded"`           // How many nodes were brought to the target.
	Failed          int            `json:"failed"`             // How many failed.
	DrainedPods     int            `json:"drained_pods"`       // How many pods left their nodes.
	Retries         int            `json:"retries"`            // How many requests to Kubernetes were repeated.
	DowntimeSeconds float64        `json:"downtime_seconds"`   // The nodes' downtimes together.
	Gates           []gate.Verdict `json:"gates"`              // What the gates said of the cluster; never null.
	Checks          []Check        `json:"checks"`             // What was waited for between nodes; never null.
	OverriddenGates []string       `json:"overridden_gates"`   // The gates that were passed on purpose; never null.
	Report          string         `json:"report,omitempty"`   // The Markdown report, where one was written.
	Timeline        string         `json:"timeline,omitempty"` // Its picture.
	Hint            string         `json:"hint,omitempty"`     // What to do now.
	Error           string         `json:"error,omitempty"`    // What went wrong.
	Plan            Plan           `json:"plan"`               // What was to be done.
}

// apply is one run over the cluster.
type apply struct {
	fleet *Fleet
	plan  Plan
	o     ApplyOptions
	sink  progress.Sink
	undo  engine.Undo

	began    time.Time
	baseline []string     // What was wrong before the run.
	lost     <-chan error // Says when somebody else has the lock.
	changed  sync.Once

	mu    sync.Mutex
	state map[string]string
	res   ApplyResult
	fails []error
}

// Apply runs a plan. The result holds everything that was observed, whatever the end.
func Apply(ctx context.Context, f *Fleet, p Plan, o ApplyOptions, sink progress.Sink) (ApplyResult, error) {
	a := &apply{fleet: f, plan: p, o: o, sink: journalSink{sink, o.Journal}, began: f.Now(), state: map[string]string{}}
	a.res = ApplyResult{
		DryRun: o.Node.DryRun, Cluster: p.Cluster, To: p.To, PlanHash: p.Hash, StartedAt: a.began.UTC(), Plan: p,
		Nodes: []Result{}, Skipped: []string{}, Remaining: []string{}, Gates: append([]gate.Verdict{}, p.Gates...), Checks: []Check{}, OverriddenGates: []string{},
	}

	for _, n := range p.Nodes {
		a.state[n.Node] = stateWaiting
	}

	err := a.steps(ctx)

	if undoErr := a.undo.Run(ctx, undoTimeout); undoErr != nil {
		err = errors.Join(err, undoErr)
	}

	return a.finish(ctx, err)
}

func (a *apply) tell(node, stage, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	a.sink.Emit(progress.Event{Time: a.fleet.Now(), Node: node, Stage: stage, Message: message})
}

// steps is the runbook.
func (a *apply) steps(ctx context.Context) error {
	switch {
	case a.plan.Refused:
		a.res.Status = ApplyRefused

		return a.plan.settle(a.o.Node.Overrides)
	case a.o.Node.DryRun:
		a.res.Status = ApplyPlanned

		return nil
	case len(a.plan.Nodes) == 0:
		a.res.Status = ApplyFailed

		return errs.New(errs.Failed, "cannot apply a plan without nodes")
	case a.plan.Work == 0:
		a.res.Status = ApplyNothing

		return nil
	}

	if err := a.mayStart(); err != nil {
		a.res.Status = ApplyRefused

		return err
	}

	if err := a.lock(ctx); err != nil {
		a.res.Status = ApplyRefused

		return err
	}

	var err error

	if a.fleet.Health != nil {
		if a.baseline, err = a.fleet.Health(ctx, nil); err != nil {
			a.res.Status = ApplyFailed

			return err
		}
	}

	if err = a.snapshot(ctx); err != nil {
		a.res.Status = ApplyFailed

		return err
	}

	if err = a.prePull(ctx); err != nil {
		a.res.Status = ApplyFailed

		return err
	}

	return a.everyHop(ctx)
}

// mayStart holds the time against the window.
func (a *apply) mayStart() error {
	v := gate.New(gate.OutsideWindow, gate.Pass, "", "the window %s is open", a.o.Window)

	switch {
	case a.o.Window == nil:
		return nil
	case !a.o.Window.Open(a.fleet.Now()):
		v = gate.New(gate.OutsideWindow, gate.Refuse, "", "it is %s, and the window is %s", a.fleet.Now().Format("Mon 15:04"), a.o.Window).
			WithRemedy("run it again in the window; what is done is skipped")
	}

	verdicts := []gate.Verdict{v}
	err := gate.Apply(verdicts, a.o.Node.Overrides)
	a.verdict(verdicts...)

	return err
}

func (a *apply) verdict(v ...gate.Verdict) {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.res.Gates = append(a.res.Gates, v...)
}

// lock takes the cluster's lock. When it is lost no further node is started; those under way end as they would.
func (a *apply) lock(ctx context.Context) error {
	locker := a.fleet.Lock
	if !slices.ContainsFunc(a.plan.Nodes, func(n NodePlan) bool { return n.K8sNodeName != "" }) {
		locker = nil
	}

	held, v := takeLock(ctx, locker)
	verdicts := []gate.Verdict{v}
	err := gate.Apply(verdicts, a.o.Node.Overrides)
	a.res.Gates = slices.DeleteFunc(a.res.Gates, func(g gate.Verdict) bool { return g.Gate == gate.LockHeld })
	a.verdict(verdicts...)

	if err != nil {
		return err
	}

	if held == nil {
		a.tell("", "lock", "%s", v.Message)

		return nil
	}

	a.res.Locked, a.lost = true, held.Lost()
	a.undo.Push("the cluster's lock", held.Release)

	return nil
}

// lockGone says why the lock is not ours any more.
func (a *apply) lockGone() error {
	select {
	case err := <-a.lost:
		return fmt.Errorf("%w: %w", errHalted, err)
	default:
		return nil
	}
}

func (a *apply) beginChange() {
	a.changed.Do(func() {
		if a.o.Node.BeforeChange != nil {
			a.o.Node.BeforeChange()
		}
	})
}

// snapshot saves etcd before anything is touched.
func (a *apply) snapshot(ctx context.Context) error {
	if a.o.Snapshot == "" || a.fleet.Snapshot == nil {
		return nil
	}

	a.tell("", "snapshot", "etcd into %s", a.o.Snapshot)

	snap, err := a.fleet.Snapshot(ctx, a.o.Snapshot)
	if err != nil {
		return fmt.Errorf("cannot take a snapshot of etcd first: %w", err)
	}

	a.res.Snapshot = &snap

	return nil
}

// prePull fetches the first hop's image on all nodes before the first is disturbed.
func (a *apply) prePull(ctx context.Context) error {
	var (
		targets []talos.Target
		refs    []string
	)

	for _, n := range a.plan.Nodes {
		if n.Action == ActUpgrade && len(n.Hops) > 0 && !a.o.Node.RebootOnly {
			targets = append(targets, talos.Target{Address: n.Node, Hostname: n.Hostname})
			refs = append(refs, n.Hops[0].Image)
		}
	}

	failed := make([]error, len(targets))

	sideBySide(targets, func(i int, t talos.Target) {
		a.beginChange()
		failed[i] = a.pull(ctx, t, refs[i])
	})

	if err := nodeErrors(ctx, targets, failed); err != nil {
		a.res.Hint = "no node was disturbed"

		return fmt.Errorf("cannot pull the image on every node: %w", err)
	}

	return nil
}

func (a *apply) pull(ctx context.Context, t talos.Target, ref string) error {
	a.tell(t.Name(), "pull", "pulling %s", ref)

	_, err := a.fleet.World(a.whole(t)).Change.PullImage(ctx, talos.NamespaceSystem, ref, func(p talos.PullProgress) {
		a.sink.Emit(progress.Event{
			Time: a.fleet.Now(), Node: t.Name(), Stage: "pull", Message: "layer " + p.Layer, Current: p.Offset, Total: p.Total,
		})
	})
	if err == nil {
		a.tell(t.Name(), "pull", "pulled; waiting for its turn")
	}

	return err
}

// whole is the target with all that discovery knows of it.
func (a *apply) whole(t talos.Target) talos.Target {
	if m, err := a.fleet.member(t.Address); err == nil {
		return m.Target()
	}

	return t
}

// everyHop goes over the cluster once a hop: everything first to the version in between, then on.
func (a *apply) everyHop(ctx context.Context) error {
	most := 1
	for _, n := range a.plan.Nodes {
		most = max(most, len(n.Hops))
	}

	for hop := range most {
		// A node with fewer hops joins at the end, so that all arrive together.
		due := func(n NodePlan) bool { return len(n.Hops) > 0 && len(n.Hops)-most+hop >= 0 }

		err := a.pass(ctx, func(n NodePlan) (Hop, bool) {
			switch {
			case n.Action == ActSkip:
				return Hop{}, false
			case len(n.Hops) == 0: // something is left to be released
				return Hop{Image: n.Image}, hop == most-1
			case !due(n):
				return Hop{}, false
			}

			return n.Hops[len(n.Hops)-most+hop], true
		}, hop == most-1)
		if err != nil {
			return err
		}
	}

	return a.healthy(ctx, NodePlan{NodeRef: talos.NodeRef{Hostname: "the end"}})
}

// pass goes over the cluster once: canary, control planes one at a time with the leader last, workers side
// by side.
func (a *apply) pass(ctx context.Context, hopOf func(NodePlan) (Hop, bool), last bool) error {
	var canary, controlPlanes, workers []NodePlan

	for _, n := range a.plan.Nodes {
		if _, due := hopOf(n); !due {
			continue
		}

		switch {
		case a.isCanary(n):
			canary = append(canary, n)
		case n.Role == talos.ControlPlane:
			controlPlanes = append(controlPlanes, n)
		default:
			workers = append(workers, n)
		}
	}

	one := func(n NodePlan) error {
		hop, _ := hopOf(n)

		return a.node(ctx, n, hop, last)
	}

	for _, n := range canary {
		if err := a.turn(ctx, n, one); err != nil {
			return err
		}

		if err := a.soak(ctx, n); err != nil {
			return err
		}
	}

	for len(controlPlanes) > 0 {
		at := a.nextControlPlane(ctx, controlPlanes)
		n := controlPlanes[at]
		controlPlanes = slices.Delete(controlPlanes, at, at+1)

		if err := a.turn(ctx, n, one); err != nil {
			return err
		}
	}

	return a.workers(ctx, workers, one)
}

func (a *apply) isCanary(n NodePlan) bool {
	c := a.plan.Request.Canary

	return c != "" && (c == n.Node || c == n.Hostname)
}

// turn starts a node when everything allows it, and waits for it.
func (a *apply) turn(ctx context.Context, n NodePlan, one func(NodePlan) error) error {
	if err := a.ready(ctx, n); err != nil {
		return err
	}

	a.set(n.Node, stateRunning)

	return one(n)
}

// ready waits for everything that must hold before a node is started.
func (a *apply) ready(ctx context.Context, n NodePlan) error {
	if err := a.between(ctx, n); err != nil {
		return err
	}

	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	if err := a.lockGone(); err != nil {
		return err
	}

	if !a.o.Window.Open(a.fleet.Now()) && !a.o.Node.Overrides.Has(gate.OutsideWindow) {
		a.res.Hint = "run it again in the next window; what is done is skipped"

		return fmt.Errorf("%w: the window %s has closed", errHalted, a.o.Window)
	}

	return nil
}

func (a *apply) soak(ctx context.Context, n NodePlan) error {
	if a.o.Soak <= 0 || a.fleet.Health == nil {
		return nil
	}

	return a.check(ctx, "soak", n, fmt.Sprintf("the canary is watched for %s", a.o.Soak), func(ctx context.Context) error {
		end := a.fleet.Now().Add(a.o.Soak)

		for a.fleet.Now().Before(end) {
			problems, err := a.problems(ctx)
			if err != nil || len(problems) > 0 {
				// One bad look may be the canary settling; a second one counts.
				if err = engine.Pause(ctx, 5*healthPoll); err != nil {
					return err
				}

				if problems, err = a.problems(ctx); err != nil || len(problems) > 0 {
					return errors.Join(fmt.Errorf("the canary soured the cluster: %v", problems), err)
				}
			}

			if err := engine.Pause(ctx, min(5*healthPoll, max(end.Sub(a.fleet.Now()), time.Millisecond))); err != nil {
				return err
			}
		}

		return nil
	})
}

// nextControlPlane picks the first whose member does not lead now.
func (a *apply) nextControlPlane(ctx context.Context, left []NodePlan) int {
	leader, err := a.fleet.leader(ctx)
	if err != nil || leader == "" {
		return 0 // the node's own gates look at etcd again
	}

	at := slices.IndexFunc(left, func(n NodePlan) bool { return n.Node != leader })

	return max(at, 0)
}

// workers starts up to the wanted number side by side. After a failure no further one is started, and those
// under way are waited for.
func (a *apply) workers(ctx context.Context, nodes []NodePlan, one func(NodePlan) error) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		all  []error
		stop bool
	)

	slots := make(chan struct{}, max(1, a.plan.Workers))

	for _, n := range nodes {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}

		mu.Lock()
		halted := stop
		mu.Unlock()

		if halted || ctx.Err() != nil {
			break
		}

		if err := a.ready(ctx, n); err != nil {
			mu.Lock()
			all = append(all, err)
			mu.Unlock()

			break
		}

		a.set(n.Node, stateRunning)
		wg.Go(func() {
			err := one(n)

			mu.Lock()
			if err != nil {
				all, stop = append(all, err), true
			}
			mu.Unlock()
			<-slots
		})
	}

	wg.Wait()

	if len(all) == 0 && ctx.Err() != nil {
		return context.Cause(ctx)
	}

	return errors.Join(all...)
}

func (a *apply) set(node, state string) {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.state[node] = state
}

func (a *apply) started() int {
	a.mu.Lock()
	defer a.mu.Unlock()

	n := 0

	for _, s := range a.state {
		if s != stateWaiting {
			n++
		}
	}

	return n
}

// node brings one node one hop further.
func (a *apply) node(ctx context.Context, n NodePlan, hop Hop, last bool) error {
	t := a.whole(talos.Target{Address: n.Node, Hostname: n.Hostname})
	w := a.fleet.World(t)

	o := a.o.Node
	o.Image, o.LockHeld, o.SkipDrain, o.RebootOnly = hop.Image, true, a.plan.Request.SkipDrain, a.plan.Request.RebootOnly
	o.AutoReboot, o.BeforeChange = !a.plan.Request.InstallOnly, a.beginChange

	if n.Action == ActReboot || n.Action == ActSettle {
		o.RebootOnly = false
	}

	if w.ControlPlane && o.AutoReboot {
		if err := a.giveUpLeadership(ctx, w, n); err != nil {
			a.set(n.Node, stateFailed)
			a.note(Result{NodeRef: n.NodeRef, Status: PreflightFailed, Error: err.Error()}, err)

			return err
		}
	}

	res, err := Run(ctx, w, o, a.sink)

	if err != nil && a.o.RollBack && res.canRollBack() && ctx.Err() == nil {
		res = rollBack(ctx, w, o, res, a.sink)

		if res.Rollback.OK {
			err = &errs.Error{Exit: errs.RolledBack, Node: t.Address, Hostname: t.Hostname, Hint: res.Hint, Err: err}
		}
	}

	state := stateDone
	if err != nil {
		state = stateFailed
	} else if !last {
		state = stateWaiting
	}

	a.set(n.Node, state)
	a.note(res, err)

	return err
}

func (a *apply) note(res Result, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()

	if res.Gates == nil {
		res.Gates, res.Stages, res.ExtensionsBefore, res.ExtensionsAfter = []gate.Verdict{}, []Stage{}, []string{}, []string{}
	}

	a.res.Nodes = append(a.res.Nodes, res)
	a.res.DrainedPods += res.DrainedPods
	a.res.Retries += res.Retries
	a.res.DowntimeSeconds = seconds(time.Duration((a.res.DowntimeSeconds + res.DowntimeSeconds) * float64(time.Second)))

	if err != nil {
		a.fails = append(a.fails, err)
	}

	for _, g := range res.OverriddenGates {
		if !slices.Contains(a.res.OverriddenGates, g) {
			a.res.OverriddenGates = append(a.res.OverriddenGates, g)
		}
	}
}

// leadershipTimeout is how long etcd may take to elect another leader.
const leadershipTimeout = 15 * time.Second

// giveUpLeadership hands the etcd leadership on before the leader goes away, so that nobody waits for an
// election. A single member has nobody to hand it to.
func (a *apply) giveUpLeadership(ctx context.Context, w *World, n NodePlan) error {
	view, err := a.fleet.Etcd(ctx)
	if err != nil || leaderOf(view) != n.Node || len(view.Members) < 2 {
		return nil //nolint:nilerr // the node's own gates look at etcd and refuse
	}

	return a.check(ctx, "leadership", n, "etcd's leader hands it on", func(ctx context.Context) error {
		if _, err := w.Change.EtcdForfeitLeadership(ctx); err != nil {
			// An election takes its place: slower, and as safe.
			a.tell(w.Target.Name(), "leadership", "%v: going on, etcd elects another leader", err)

			return nil
		}

		err := engine.Poll(ctx, "another etcd leader", healthPoll/4, leadershipTimeout, func(ctx context.Context) (bool, string, error) {
			leader, err := a.fleet.leader(ctx)
			if err != nil {
				return false, err.Error(), nil
			}

			return leader != "" && leader != n.Node, "the leader is " + leader, nil
		})
		if errors.Is(err, engine.ErrDeadline) {
			a.tell(w.Target.Name(), "leadership", "%v: going on, etcd elects another leader", err)

			return nil
		}

		return err
	})
}

// finish settles the result.
func (a *apply) finish(ctx context.Context, err error) (ApplyResult, error) {
	now := a.fleet.Now()
	a.res.FinishedAt, a.res.ElapsedSeconds = now.UTC(), seconds(now.Sub(a.began))

	ended := map[string]bool{}
	for _, r := range a.res.Nodes {
		ended[r.Node] = true
	}

	for _, n := range a.plan.Nodes {
		name := talos.Target{Address: n.Node, Hostname: n.Hostname}.Name()

		switch state := a.state[n.Node]; {
		case n.Action == ActSkip:
			a.res.Skipped = append(a.res.Skipped, name)
		case state == stateDone:
			a.res.Upgraded++
		case state == stateFailed:
			a.res.Failed++
		default:
			a.res.Remaining = append(a.res.Remaining, name)
		}
	}

	switch {
	case a.res.Status == ApplyRefused, a.res.Status == ApplyPlanned, a.res.Status == ApplyNothing:
	case ctx.Err() != nil:
		a.res.Status = ApplyInterrupted
		a.res.Hint = "run the same command again: what is done is skipped, and what is half done is finished"
	case a.res.Status == ApplyFailed:
	case err != nil:
		a.res.Status = ApplyHalted

		if a.res.Hint == "" {
			a.res.Hint = "see to the node that failed, then run the same command again: what is done is skipped"
		}
	default:
		a.res.Status = ApplyOK
	}

	err = a.typed(err)
	if err != nil {
		a.res.Error = err.Error()
	}

	a.sink.Emit(progress.Event{Time: now, Stage: string(a.res.Status), Message: a.summary(), Done: true, Failed: err != nil})

	return a.res, err
}

func (a *apply) summary() string {
	return fmt.Sprintf("%d upgraded, %d failed, %d skipped, %d remaining, %.0f s", a.res.Upgraded, a.res.Failed, len(a.res.Skipped),
		len(a.res.Remaining), a.res.ElapsedSeconds)
}

// typed gives the run's error its exit code: the nodes' own, or partial where some came through.
func (a *apply) typed(err error) error {
	if err == nil || a.res.Status == ApplyRefused || a.res.Status == ApplyInterrupted {
		return err
	}

	if len(a.fails) == 0 {
		if a.res.Status == ApplyHalted && a.res.Upgraded > 0 {
			return &errs.Error{Exit: errs.Partial, Kind: errs.KindFailed, Hint: a.res.Hint, Err: err}
		}

		if errors.Is(err, errHalted) {
			return &errs.Error{Exit: errs.Refused, Kind: errs.KindRefused, Hint: a.res.Hint, Err: err}
		}

		return err
	}

	nodes := &errs.Nodes{Succeeded: a.res.Upgraded}

	for _, e := range a.fails {
		var typed *errs.Error
		if !errors.As(e, &typed) {
			typed = &errs.Error{Exit: errs.ExitCode(e), Err: e}
		}

		nodes.Errors = append(nodes.Errors, typed)
	}

	return nodes
}

// journalSink writes down what is told; counters alone are not news.
type journalSink struct {
	progress.Sink

	journal engine.Journal
}

// Emit implements progress.Sink.
func (s journalSink) Emit(e progress.Event) {
	if e.Total == 0 && e.Current == 0 {
		s.journal.Note(e.Time, e.Node, e.Stage, e.Message)
	}

	s.Sink.Emit(e)
}
