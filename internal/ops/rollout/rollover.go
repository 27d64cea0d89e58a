package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// everyHop goes over the cluster once a hop: everything first to the version in between, then on.
func (a *apply) everyHop(ctx context.Context) error {
	if err := a.proveEarlier(ctx); err != nil {
		return err
	}

	most := 1
	for _, n := range a.plan.Nodes {
		most = max(most, len(n.Hops))
	}

	for hop := range most {
		// A node with fewer hops joins at the end, so that all arrive together.
		due := func(n NodePlan) bool { return len(n.Hops) > 0 && len(n.Hops)-most+hop >= 0 }

		err := a.pass(ctx, func(n NodePlan) (Hop, bool) {
			switch {
			case !n.works():
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
		case n.Role == target.ControlPlane:
			controlPlanes = append(controlPlanes, n)
		default:
			workers = append(workers, n)
		}
	}

	one := func(n NodePlan) error {
		if a.do != nil {
			return a.one(ctx, n)
		}

		hop, _ := hopOf(n)

		return a.around(ctx, n, hop, func() (runbook.Status, error) { return a.node(ctx, n, hop, last) })
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

	if !a.windowOpen() && !a.o.Node.Overrides.Has(gate.OutsideWindow) {
		a.res.Hint = "run it again in the next window; what is done is skipped"

		return fmt.Errorf("%w: the window %s has closed", errHalted, a.o.Window)
	}

	return nil
}

// windowOpen reports whether the window is open by the clock, and by the clock that the run began with and that nobody has
// set since: a clock that is set back does not make a window longer.
func (a *apply) windowOpen() bool {
	now := a.cluster.Now()

	return a.o.Window.Open(now) && a.o.Window.Open(a.began.Add(now.Sub(a.began)))
}

func (a *apply) soak(ctx context.Context, n NodePlan) error {
	if a.o.Soak <= 0 || a.cluster.Health == nil {
		return nil
	}

	return a.check(ctx, "soak", n, fmt.Sprintf("the canary is watched for %s", a.o.Soak), func(ctx context.Context) error {
		end := a.cluster.Now().Add(a.o.Soak)

		for a.cluster.Now().Before(end) {
			problems, err := a.problems(ctx)
			if err != nil || len(problems) > 0 {
				// One bad look may be the canary settling; a second one counts.
				if err = poll.Pause(ctx, 5*healthPoll); err != nil {
					return err
				}

				if problems, err = a.problems(ctx); err != nil || len(problems) > 0 {
					return errors.Join(fmt.Errorf("the cluster became unhealthy after the canary: %v", problems), err)
				}
			}

			if err := poll.Pause(ctx, min(5*healthPoll, max(end.Sub(a.cluster.Now()), time.Millisecond))); err != nil {
				return err
			}
		}

		return nil
	})
}

// nextControlPlane picks the first whose member does not lead now.
func (a *apply) nextControlPlane(ctx context.Context, left []NodePlan) int {
	leader, err := a.cluster.leader(ctx)
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
		wg   errs.Group
		mu   sync.Mutex
		all  []error
		stop bool
	)

	// A slot is taken before it is decided whether one more starts, which the worker that freed it may have changed.
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
			err := errs.Safely(func() error { return one(n) })

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
func (a *apply) node(ctx context.Context, n NodePlan, hop Hop, last bool) (runbook.Status, error) {
	t := a.cluster.Target(n.NodeRef)
	node := a.cluster.Node(t)

	o := a.o.Node
	o.Image, o.LockHeld, o.Drain, o.BeforeChange = hop.Image, true, !a.plan.Request.SkipDrain, a.beginChange
	o.InstallOnly, o.RebootOnly = a.plan.Request.InstallOnly, a.plan.Request.RebootOnly

	if n.Action == upgrade.ActReboot || n.Action == upgrade.ActSettle {
		o.RebootOnly = false
	}

	if node.ControlPlane && !o.InstallOnly {
		if err := a.giveUpLeadership(ctx, node, n); err != nil {
			a.set(n.Node, stateFailed)
			a.note(upgrade.Result{NodeRef: n.NodeRef, Status: runbook.PreflightFailed, Record: runbook.Record{Error: err.Error()}}, err)

			return runbook.PreflightFailed, err
		}
	}

	res, err := upgrade.Run(ctx, node, o, a.sink)

	if err != nil && a.o.RollBack && res.CanRollBack() && ctx.Err() == nil {
		res = upgrade.RollBack(ctx, node, o, res, a.sink)

		if res.Rollback.OK {
			err = &errs.Error{Exit: errs.RolledBack, Node: t.Address, Hostname: t.Hostname, Hint: res.Hint, Err: err}
		}
	}

	if err == nil && last && a.proves(n) {
		err = a.coldBoot(ctx, node, n, n.To, &res)
	}

	state := stateDone
	if err != nil {
		state = stateFailed
	} else if !last {
		state = stateWaiting
	}

	a.set(n.Node, state)
	a.note(res, err)

	return res.Status, err
}

func (a *apply) note(res upgrade.Result, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()

	if res.Gates == nil {
		res.Record, res.ExtensionsBefore, res.ExtensionsAfter = runbook.Record{Gates: []gate.Verdict{}, Stages: []runbook.Stage{}, Error: res.Error}, []string{}, []string{}
	}

	a.res.Nodes = append(a.res.Nodes, res)
	a.res.DrainedPods += res.DrainedPods
	a.res.Retries += res.Retries
	a.res.DowntimeSeconds = runbook.Seconds(time.Duration((a.res.DowntimeSeconds + res.DowntimeSeconds) * float64(time.Second)))

	if err != nil {
		a.fails = append(a.fails, err)
	}
}
