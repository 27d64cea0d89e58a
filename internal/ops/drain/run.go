package drain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// Scheduler is what cordon, drain and uncordon ask of Kubernetes; *kube.Client is one.
type Scheduler interface {
	Kube
	Node(ctx context.Context, name string) (kube.Node, bool, error)
	SetSchedulable(ctx context.Context, name string, schedulable bool) (changed bool, err error)
	Drain(ctx context.Context, name string, o kube.DrainOptions) (int, error)
}

// Change is what was done to one Kubernetes node.
type Change struct {
	talos.NodeRef

	K8sNodeName     string         `json:"k8s_node_name"`              // The Kubernetes node.
	K8sCredentials  string         `json:"k8s_credentials"`            // Which Kubernetes credentials were used.
	Status          runbook.Status `json:"status"`                     // planned, cordoned, uncordoned, drained, unchanged, refused, interrupted, unknown or failed.
	Unschedulable   bool           `json:"unschedulable"`              // Whether the node is cordoned now.
	Changed         bool           `json:"changed"`                    // Whether this run changed that.
	DrainedPods     int            `json:"drained_pods"`               // How many pods left.
	AttachedVolumes []kube.Volume  `json:"attached_volumes,omitempty"` // The volumes that stayed attached, where that ended the drain.
	Blockers        []kube.Blocker `json:"blockers"`                   // Disruption budgets that held a pod before; never null.
	Gates           []gate.Verdict `json:"gates"`                      // What the gates said; never null.
	ElapsedSeconds  float64        `json:"elapsed_seconds"`            // How long it took.

	asked, ours bool // Kubernetes was asked to cordon or uncordon it; a cordon that is there is that request's.
}

// Options are what the user decides.
type Options struct {
	Schedulable bool // Uncordon.
	Evict       bool // Drain after the cordon.
	Timeout     time.Duration
	Volumes     kube.VolumeWait
	Overrides   gate.Overrides
	DryRun      bool
	Nodes       int // How many members the cluster has.
}

// Schedule cordons, drains or uncordons a node by the user's will. An interrupted drain lifts the cordon that
// it made; one that fails leaves it, as kubectl's does, so that the pods that left do not come back.
func Schedule(ctx context.Context, k Scheduler, target talos.Target, name string, o Options, sink progress.Sink) (Change, error) {
	started := time.Now()
	res := Change{K8sNodeName: name, Blockers: []kube.Blocker{}, Gates: []gate.Verdict{}, Status: runbook.Failed}
	res.SetNode(target)

	err := schedule(ctx, k, &res, o, sink)
	res.ElapsedSeconds = time.Since(started).Seconds()

	if err != nil && errs.ByUser(ctx) {
		res.Status = runbook.Interrupted
		err = &errs.Error{
			Exit: errs.Interrupted, Node: res.Node, Hostname: res.Hostname, Hint: res.leftovers(o), Err: fmt.Errorf("cannot %s %s: %w", o.verb(), name, err),
		}
	}

	return res, err
}

func (o Options) verb() string {
	switch {
	case o.Evict:
		return "drain"
	case o.Schedulable:
		return "uncordon"
	default:
		return "cordon"
	}
}

// Unreachable is the refusal of what cannot do without Kubernetes; there is no override for it.
func Unreachable(node string, cause error) error {
	const remedy = "name a kubeconfig with --kubeconfig"

	err := gate.New(gate.KubernetesAway, gate.Refuse, node, "the Kubernetes API cannot be reached: %v", cause).WithRemedy(remedy).Refusal()
	err.Hint = remedy

	return err
}

func schedule(ctx context.Context, k Scheduler, res *Change, o Options, sink progress.Sink) error {
	before, found, err := k.Node(ctx, res.K8sNodeName)

	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		res.Status = runbook.Refused

		return Unreachable(res.Node, err)
	}

	if !found {
		return errs.New(errs.Failed, "kubernetes has no node %q", res.K8sNodeName).WithKind(errs.KindNotFound)
	}

	res.Unschedulable = before.Unschedulable

	if o.Evict {
		if err = res.gates(ctx, k, o); err != nil {
			return err
		}
	}

	if o.DryRun {
		res.Status = runbook.Planned

		return nil
	}

	if !o.Evict {
		return res.set(ctx, k, o.Schedulable)
	}

	return res.drain(ctx, k, o, sink)
}

func (c *Change) gates(ctx context.Context, k Scheduler, o Options) error {
	var err error

	if c.Blockers, err = k.Blockers(ctx, c.K8sNodeName); err != nil {
		return err
	}

	if c.Gates, _, err = Gates(ctx, k, c.K8sNodeName, c.Node, o.Nodes); err != nil {
		return err
	}

	for i, v := range c.Gates {
		// Here the drain is what was asked for: on the only node it is refused, not skipped.
		if v.Gate == gate.NowhereToDrain {
			c.Gates[i] = gate.New(gate.NowhereToDrain, gate.Refuse, c.Node, "the cluster has one node: there is nowhere to drain to")
		}
	}

	if err = gate.Apply(c.Gates, o.Overrides); err != nil {
		c.Status = runbook.Refused
	}

	return err
}

func (c *Change) set(ctx context.Context, k Scheduler, schedulable bool) error {
	var changed bool

	sent := runbook.Request{Limit: runbook.AnswerWithin, Send: func(ctx context.Context) (err error) {
		changed, err = k.SetSchedulable(ctx, c.K8sNodeName, schedulable)

		return err
	}}.Once(ctx)

	c.asked = sent.Answer != runbook.NotSent

	switch {
	case sent.Answer == runbook.Lost && ctx.Err() == nil:
		if err := c.readBack(ctx, k, schedulable, sent); err != nil {
			return err
		}

		changed = true
	case sent.Err != nil:
		return sent.Err
	}

	c.Changed, c.Unschedulable = changed, !schedulable

	switch {
	case !changed:
		c.Status = runbook.Unchanged
	case schedulable:
		c.Status = runbook.Uncordoned
	default:
		c.Status = runbook.Cordoned
	}

	return nil
}

// readBack waits until the node shows a request whose answer was lost.
func (c *Change) readBack(ctx context.Context, k Scheduler, schedulable bool, sent runbook.Sent) error {
	err := sent.ReadBack(ctx, c.K8sNodeName+" to show it", runbook.ShownWithin, "see `kubectl get node "+c.K8sNodeName+"` before you try again",
		func(ctx context.Context) (bool, string, error) {
			n, found, err := k.Node(ctx, c.K8sNodeName)
			if err != nil || !found {
				return false, "the API server does not answer", nil //nolint:nilerr // asked again until the deadline
			}

			return n.Unschedulable != schedulable, "it is as it was", nil
		})
	if err != nil && ctx.Err() == nil {
		c.Status = runbook.Unknown
	}

	return err
}

// leftovers says what an interruption leaves.
func (c *Change) leftovers(o Options) string {
	switch {
	case !c.asked:
		return c.K8sNodeName + " was left as it was"
	case !o.Evict:
		return fmt.Sprintf("Kubernetes was asked to %s %s, and had not answered: see `kubectl get node %s`", o.verb(), c.K8sNodeName, c.K8sNodeName)
	}

	cordon := "lifted"
	if c.Unschedulable {
		cordon = "left as it was found"
		if c.ours {
			cordon = "not lifted (`talosmate node uncordon` does)"
		}
	}

	return fmt.Sprintf("the cordon of %s was %s; %d pods had left and stay where they are", c.K8sNodeName, cordon, c.DrainedPods)
}

func (c *Change) drain(ctx context.Context, k Scheduler, o Options, sink progress.Sink) error {
	var undo runbook.Undo

	keep := undo.Push("cordon of "+c.K8sNodeName, func(ctx context.Context) error {
		_, err := k.SetSchedulable(ctx, c.K8sNodeName, true)
		if err == nil {
			c.Unschedulable, c.Changed = false, false
		}

		return err
	})

	// An interruption may fall between the request and its answer: a cordon that comes of it is ours.
	c.asked, c.ours = true, !c.Unschedulable

	changed, err := k.SetSchedulable(ctx, c.K8sNodeName, false)
	if err == nil {
		c.Changed, c.Unschedulable, c.ours = changed, true, changed

		c.DrainedPods, err = k.Drain(ctx, c.K8sNodeName, kube.DrainOptions{Timeout: o.Timeout, Volumes: o.Volumes, Tell: func(m string) {
			sink.Emit(progress.Event{Time: time.Now(), Node: c.NodeName(), Stage: "drain", Message: m})
		}})
		c.AttachedVolumes = kube.StillAttached(err)
	}

	if ctx.Err() == nil || !c.ours {
		keep()
	} else {
		c.Unschedulable = true // until the undo has shown that it is not
	}

	if undoErr := undo.Run(ctx, time.Minute); undoErr != nil {
		err = errors.Join(err, undoErr)
	}

	if err != nil {
		if ctx.Err() == nil {
			return &errs.Error{Exit: errs.Failed, Err: err, Hint: errs.CommandLine("node", "uncordon", "-n", c.NodeName())}
		}

		return err
	}

	c.Status = runbook.Drained

	return nil
}
