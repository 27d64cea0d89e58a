package disruption

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/drain"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/runbook"
)

// How long a small request to Kubernetes is repeated: the API server may be on a node that is down.
const (
	RetryEvery  = time.Second
	RetryFor    = 45 * time.Second
	ConnectFor  = 20 * time.Second // The first time, before anything was changed.
	ConnectOnce = 20 * time.Second // One attempt to connect.
)

// ErrNoNode is the error of a node that Kubernetes does not know.
var ErrNoNode = errors.New("kubernetes knows no node")

// Connect connects to Kubernetes and reads the node there. An API server that does not answer is asked again while
// patience lasts. A node that Kubernetes does not know is ErrNoNode.
func (r *Run) Connect(ctx context.Context, patience time.Duration) (node kube.Node, source string, err error) {
	if patience <= 0 {
		return r.connect(ctx)
	}

	told := false

	pollErr := poll.Until(ctx, "Kubernetes", RetryEvery, patience, func(context.Context) (bool, string, error) {
		switch node, source, err = r.connect(ctx); {
		case err == nil:
			return true, "", nil
		case kube.Definite(err), errors.Is(err, kube.ErrNoCredentials), errors.Is(err, ErrNoNode), errs.ExitCode(err) == errs.Usage:
			return false, "", err
		case !told:
			told = true

			r.Stage("preflight", "the Kubernetes API cannot be reached (%v): asking again for at most %s", err, patience)
		}

		return false, err.Error(), nil
	})
	if ctx.Err() != nil {
		return node, source, pollErr
	}

	return node, source, err
}

func (r *Run) connect(ctx context.Context) (kube.Node, string, error) {
	ctx, cancel := context.WithTimeout(ctx, ConnectOnce)
	defer cancel()

	k, source, err := r.Node.Kube(ctx)
	if err != nil {
		return kube.Node{}, "", err
	}

	node, found, err := k.Node(ctx, r.K8sName)
	if err != nil {
		return kube.Node{}, "", err
	}

	r.Kube = k

	if !found {
		return kube.Node{}, source, fmt.Errorf("%w %q", ErrNoNode, r.K8sName)
	}

	return node, source, nil
}

// Unreachable is the verdict on a Kubernetes member whose API cannot be reached.
func (r *Run) Unreachable(err error) gate.Verdict {
	return gate.New(gate.KubernetesAway, gate.Refuse, r.Target.Address, "%s is a Kubernetes member and its API cannot be reached: %v", r.Target.Name(), err).
		WithRemedy("name a kubeconfig with --kubeconfig, or continue without cordon and drain: --drain=false")
}

// GateDrain checks the disruption budgets. On a cluster of one node cordon and drain are skipped.
func (r *Run) GateDrain(ctx context.Context) ([]gate.Verdict, error) {
	nodes, err := r.Kube.Nodes(ctx)
	if err != nil {
		return nil, err
	}

	verdicts, possible, err := drain.Gates(ctx, r.Kube, r.K8sName, r.Target.Address, len(nodes))
	r.Options.Drain = r.Options.Drain && possible

	if v := probe.GateDiscovery(r.Node.Members, nodes, r.Target.Address); v.Notable() {
		verdicts = append(verdicts, v)
	}

	return verdicts, err
}

// Clear cordons and drains the node, where that was asked for. The uncordon is pushed on the undo stack first.
func (r *Run) Clear(ctx context.Context) error {
	if r.Kube == nil || !r.Options.Drain {
		return nil
	}

	r.BeforeChange()
	r.keep = r.Undo.Push("cordon of "+r.K8sName, r.Uncordon)
	r.Stage("cordon", "cordoning %s", r.K8sName)

	var ours bool

	if err := r.Retry(ctx, "cordon", func(ctx context.Context) (err error) {
		ours, err = r.Kube.Cordon(ctx, r.K8sName, r.Options.Reason)

		return err
	}); err != nil {
		return r.Fail(runbook.CordonFailed, "%w", err)
	}

	if r.Obs.Cordoned = ours; !ours {
		r.KeepCordon()
		r.Stage("cordon", "%s was already cordoned by somebody else and stays cordoned", r.K8sName)
	}

	return r.drain(ctx)
}

func (r *Run) drain(ctx context.Context) (err error) {
	r.Stage("drain", "draining %s, for at most %s", r.K8sName, r.Options.DrainTimeout)

	var again atomic.Int64

	r.Obs.DrainedPods, err = r.Kube.Drain(ctx, r.K8sName, kube.DrainOptions{
		Timeout: r.Options.DrainTimeout, Volumes: r.Options.Volumes, Again: func() { again.Add(1) }, Tell: func(m string) { r.Tell("drain", m) },
	})
	r.Retries += int(again.Load())

	if err != nil {
		r.Obs.AttachedVolumes = kube.StillAttached(err)

		return r.Fail(runbook.DrainFailed, "%w", err)
	}

	return nil
}

// Uncordon lifts this run's cordon. A cordon of somebody else stays.
func (r *Run) Uncordon(ctx context.Context) error {
	r.Stage("uncordon", "uncordoning %s", r.K8sName)

	if err := r.Retry(ctx, "uncordon", func(ctx context.Context) error { return r.Kube.Uncordon(ctx, r.K8sName) }); err != nil {
		return err
	}

	r.Obs.Uncordoned = r.Obs.Cordoned

	return nil
}

// KeepCordon leaves the cordon on the node.
func (r *Run) KeepCordon() {
	if r.keep != nil {
		r.keep()
		r.kept = true
	}
}

// Again forgets the cordon of a first disruption that has ended, so that a second one can begin.
func (r *Run) Again() { r.keep, r.kept, r.Obs.Cordoned = nil, false, false }

// Retry repeats a request to Kubernetes while its API does not answer.
func (r *Run) Retry(ctx context.Context, what string, try func(context.Context) error) error {
	var last error

	err := poll.Until(ctx, what+" "+r.K8sName, RetryEvery, RetryFor, func(ctx context.Context) (bool, string, error) {
		switch last = try(ctx); {
		case last == nil:
			return true, "", nil
		case kube.Definite(last):
			return false, "", last
		}

		r.Retries++

		return false, last.Error(), nil
	})
	if err != nil && last != nil && ctx.Err() == nil {
		return last
	}

	return err
}
