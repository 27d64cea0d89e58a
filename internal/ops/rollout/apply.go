package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
)

// ApplyOptions are what the user decides about a cluster's upgrade in addition to the plan.
type ApplyOptions struct {
	Node        upgrade.Options // For each node; image, lock and similar are filled in.
	Pause       time.Duration   // Between two nodes.
	Soak        time.Duration   // How long the canary is watched.
	Gates       []UserGate      // Before each node.
	GateTimeout time.Duration   // How long a gate is waited for.
	RollBack    bool            // Bring a failed node back to its version before.
	Hooks       Hooks           // Around each node, and at the end.
	ColdBoot    string          // Which nodes are rebooted through their firmware after their upgrade: none, canary or each.
	Window      *Window         // No node is started outside it.
	Snapshot    string          // The file for etcd's snapshot, empty for none.
	Journal     runbook.Journal
}

// ApplyResult is everything that was observed.
type ApplyResult struct {
	Status          runbook.Status   `json:"status"`             // How it ended.
	DryRun          bool             `json:"dry_run"`            // Whether nothing was to be done.
	Cluster         string           `json:"cluster"`            // The talosconfig context.
	To              string           `json:"to"`                 // The version wanted.
	PlanHash        string           `json:"plan_hash"`          // The plan's hash.
	StartedAt       time.Time        `json:"started_at"`         // When it began.
	FinishedAt      time.Time        `json:"finished_at"`        // When it ended.
	ElapsedSeconds  float64          `json:"elapsed_seconds"`    // How long it took.
	Snapshot        *etcd.Snapshot   `json:"snapshot,omitempty"` // The snapshot of etcd that was taken first.
	Locked          bool             `json:"locked"`             // Whether the cluster's lock was held.
	Nodes           []upgrade.Result `json:"nodes"`              // What was done, in the order in which it ended; several per node with hops; never null.
	Skipped         []string         `json:"skipped"`            // Nodes with nothing to do; never null.
	Remaining       []string         `json:"remaining"`          // Nodes that were not started; never null.
	Upgraded        int              `json:"upgraded"`           // How many nodes were brought to the target.
	Failed          int              `json:"failed"`             // How many failed.
	DrainedPods     int              `json:"drained_pods"`       // How many pods left their nodes.
	Retries         int              `json:"retries"`            // How many requests to Kubernetes were repeated.
	DowntimeSeconds float64          `json:"downtime_seconds"`   // The nodes' downtimes together.
	Gates           []gate.Verdict   `json:"gates"`              // What the gates said of the cluster; never null.
	Checks          []Check          `json:"checks"`             // What was waited for between nodes; never null.
	OverriddenGates []string         `json:"overridden_gates"`   // The gates that were passed on purpose; never null.
	Report          string           `json:"report,omitempty"`   // The Markdown report, where one was written.
	Timeline        string           `json:"timeline,omitempty"` // Its picture.
	Hint            string           `json:"hint,omitempty"`     // What to do now.
	Error           string           `json:"error,omitempty"`    // What went wrong.
	Plan            Plan             `json:"plan"`               // What was to be done.
}

// apply is one run over the cluster.
type apply struct {
	cluster *Cluster
	plan    Plan
	o       ApplyOptions
	sink    progress.Sink
	undo    runbook.Undo

	began    time.Time
	do       func(context.Context, NodePlan) error // The work of a round that is not an upgrade.
	begun    bool                                  // The run holds the lock, or needs none.
	baseline []string                              // What was wrong before the run.
	lost     <-chan error                          // Says when somebody else has the lock.
	changed  sync.Once

	mu    sync.Mutex
	state map[string]string
	res   ApplyResult
	fails []error
}

func newApply(c *Cluster, p Plan, o ApplyOptions, sink progress.Sink) *apply {
	a := &apply{cluster: c, plan: p, o: o, sink: sink, began: c.Now(), state: map[string]string{}}

	for _, n := range p.Nodes {
		a.state[n.Node] = stateWaiting
	}

	return a
}

// Apply runs a plan. The result holds everything that was observed, also on error.
func Apply(ctx context.Context, c *Cluster, p Plan, o ApplyOptions, sink progress.Sink) (ApplyResult, error) {
	a := newApply(c, p, o, o.Journal.Sink(sink))
	a.res = ApplyResult{
		DryRun: o.Node.DryRun, Cluster: p.Cluster, To: p.To, PlanHash: p.Hash, StartedAt: a.began.UTC(), Plan: p,
		Nodes: []upgrade.Result{}, Skipped: []string{}, Remaining: []string{}, Gates: append([]gate.Verdict{}, p.Gates...), Checks: []Check{}, OverriddenGates: []string{},
	}

	err := a.undo.Around(ctx, runbook.UndoWithin, func() error {
		err := errs.Safely(func() error { return a.steps(ctx) })

		return errors.Join(err, a.atEnd(ctx, err)) // of which at most one is not nil
	})

	return a.finish(ctx, err)
}

func (a *apply) tell(node, stage, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	a.sink.Emit(progress.Event{Time: a.cluster.Now(), Node: node, Stage: stage, Message: message})
}

// steps is the run: the lock, what must be known first, and then hop after hop.
func (a *apply) steps(ctx context.Context) error {
	switch {
	case a.plan.Refused:
		a.res.Status = runbook.Refused

		return a.plan.settle(a.o.Node.Overrides)
	case a.o.Node.DryRun:
		a.res.Status, a.res.Hint = runbook.Planned, a.coldBootHint(a.unproved(ctx))

		return nil
	case len(a.plan.unreadable()) > 0:
		a.res.Status = runbook.Refused

		return errs.New(errs.Refused, "cannot upgrade %s: this certificate may not read the machine configuration, which names the image",
			strings.Join(a.plan.unreadable(), ", ")).WithHint("use a certificate of role os:admin")
	case len(a.plan.Nodes) == 0:
		a.res.Status = runbook.Failed

		return errs.New(errs.Failed, "cannot apply a plan without nodes")
	case a.plan.Work == 0 && len(a.unproved(ctx)) == 0:
		a.res.Status, a.res.Hint = runbook.AlreadyCurrent, a.coldBootHint(nil)

		// The run that did the work may have been killed before its end.
		if a.o.Hooks.OnEnd == "" {
			return nil
		}

		return a.lock(ctx)
	}

	if err := a.mayStart(); err != nil {
		a.res.Status = runbook.Refused

		return err
	}

	if err := a.lock(ctx); err != nil {
		return err
	}

	var err error

	if a.cluster.Health != nil {
		if a.baseline, err = a.cluster.Health(ctx, nil); err != nil {
			a.res.Status = runbook.Failed

			return err
		}
	}

	if err = a.snapshot(ctx); err != nil {
		return err
	}

	if err = a.prePull(ctx); err != nil {
		a.res.Status = runbook.Failed

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
	case !a.o.Window.Open(a.cluster.Now()):
		v = gate.New(gate.OutsideWindow, gate.Refuse, "", "it is %s, and the window is %s", a.cluster.Now().Format("Mon 15:04"), a.o.Window).
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
	locker := a.cluster.Lock
	if !slices.ContainsFunc(a.plan.Nodes, func(n NodePlan) bool { return n.K8sNodeName != "" }) {
		locker = nil
	}

	held, v := clusterlock.Take(ctx, locker, a.cluster.Holder.Command)
	verdicts := []gate.Verdict{v}
	err := gate.Apply(verdicts, a.o.Node.Overrides)
	a.res.Gates = slices.DeleteFunc(a.res.Gates, func(g gate.Verdict) bool { return g.Gate == gate.LockHeld })
	a.verdict(verdicts...)

	if err != nil {
		a.res.Status = runbook.Refused

		return err
	}

	a.begun = true

	if v.Verdict == gate.Warn || held == nil {
		a.tell("", "lock", "%s", v.Message)
	}

	if held == nil {
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
