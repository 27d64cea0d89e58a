package rollout

import (
	"context"
	"errors"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// Round is work on the nodes of a cluster in the order of an upgrade, which is not an upgrade.
type Round struct {
	Nodes   []NodePlan // The node, its role and its Kubernetes name count.
	Workers int        // How many workers at once.
	Canary  string     // The node that is first; empty for none.
	Do      func(context.Context, NodePlan) error
}

// RunRound goes over the nodes once: the lock, the canary, the control planes one at a time with etcd's leader last, the
// workers side by side; between them the cluster must be as healthy as before. After a failure no further node is started.
// Of the result the status (ok, halted, failed, refused or interrupted), the lock, gates, checks, hint and the nodes that were
// not started are filled in.
func RunRound(ctx context.Context, c *Cluster, r Round, o ApplyOptions, sink progress.Sink) (ApplyResult, error) {
	p := Plan{Cluster: c.Name, Request: Request{Canary: r.Canary}, Workers: r.Workers, Nodes: r.Nodes, Work: len(r.Nodes)}
	a := newApply(c, p, o, sink)
	a.do, a.res = r.Do, ApplyResult{Remaining: []string{}, Gates: []gate.Verdict{}, Checks: []Check{}}

	err := a.undo.Around(ctx, runbook.UndoWithin, func() error { return a.round(ctx) })

	for _, n := range p.Nodes {
		switch a.state[n.Node] {
		case stateDone:
			a.res.Upgraded++
		case stateWaiting:
			a.res.Remaining = append(a.res.Remaining, n.NodeName())
		}
	}

	if a.res.Status = a.ends(ctx, err); a.res.Status == runbook.Interrupted {
		err = errors.Join(context.Cause(ctx), err)
	}

	return a.res, a.typed(err)
}

// round is the run.
func (a *apply) round(ctx context.Context) error {
	err := a.mayStart()
	if err == nil {
		err = a.lock(ctx)
	}

	if err != nil {
		a.res.Status = runbook.Refused

		return err
	}

	if a.cluster.Health != nil {
		if a.baseline, err = a.cluster.Health(ctx, nil); err != nil {
			a.res.Status = runbook.Failed

			return err
		}
	}

	if err = a.pass(ctx, func(NodePlan) (Hop, bool) { return Hop{}, true }, true); err != nil {
		return err
	}

	return a.healthy(ctx, NodePlan{NodeRef: talos.NodeRef{Hostname: "the end"}})
}

// one does the work of a round on a node.
func (a *apply) one(ctx context.Context, n NodePlan) error {
	err := a.do(ctx, n)
	if err == nil {
		a.set(n.Node, stateDone)

		return nil
	}

	a.set(n.Node, stateFailed)

	a.mu.Lock()
	defer a.mu.Unlock()

	a.fails = append(a.fails, err)

	return err
}
