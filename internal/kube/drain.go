package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/kubectl/pkg/drain"

	"github.com/talosmate/talosmate/internal/poll"
)

// CordonAnnotation marks a cordon as ours: who made it and why. Only a node that carries it is uncordoned.
const CordonAnnotation = "talosmate.dev/cordoned"

// Cordon makes a node unschedulable and marks the cordon as ours. reason states the purpose and the user, such as
// "talosmate upgrade by ann@host: to v1.13.9". ours is false when the node was already cordoned by somebody else, by
// another tool, or by talosmate for another purpose; then nothing is changed.
func (c *Client) Cordon(ctx context.Context, name, reason string) (ours bool, err error) {
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		n, err := c.API.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}

		if n.Spec.Unschedulable {
			ours = nodeOf(n).CordonedFor(reason)

			return nil
		}

		// The resource version keeps a concurrent cordon of somebody else from being taken for ours.
		ours = true

		return c.patchNode(ctx, name, map[string]any{
			"metadata": map[string]any{"resourceVersion": n.ResourceVersion, "annotations": map[string]any{CordonAnnotation: reason}},
			"spec":     map[string]any{"unschedulable": true},
		})
	})
	if err != nil {
		return false, fmt.Errorf("cannot cordon %s: %w", name, causeOf(err))
	}

	return ours, nil
}

// CordonedFor reports whether the node carries a cordon of talosmate's with the same purpose as reason, that is with
// the same first two words: one that an earlier run of the same command left.
func (n Node) CordonedFor(reason string) bool {
	left, marked := n.Annotations[CordonAnnotation]

	return marked && n.Unschedulable && purpose(left) == purpose(reason)
}

func purpose(reason string) string {
	words := strings.Fields(reason)

	return strings.Join(words[:min(2, len(words))], " ")
}

// Uncordon removes our own cordon and no other.
func (c *Client) Uncordon(ctx context.Context, name string) error {
	n, found, err := c.Node(ctx, name)
	if err != nil || !found {
		return err
	}

	if _, ours := n.Annotations[CordonAnnotation]; !ours {
		return nil
	}

	return c.patchNode(ctx, name, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{CordonAnnotation: nil}},
		"spec":     map[string]any{"unschedulable": nil},
	})
}

// Annotate sets or, with an empty value, removes an annotation of a node.
func (c *Client) Annotate(ctx context.Context, name, key, value string) error {
	var v any
	if value != "" {
		v = value
	}

	return c.patchNode(ctx, name, map[string]any{"metadata": map[string]any{"annotations": map[string]any{key: v}}})
}

func (c *Client) patchNode(ctx context.Context, name string, patch map[string]any) error {
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("cannot encode a patch: %w", err)
	}

	if _, err = c.API.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, body, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("cannot patch Kubernetes node %s: %w", name, causeOf(afterSending(err)))
	}

	return nil
}

// DrainOptions are the settings of a drain that the user chooses.
type DrainOptions struct {
	Timeout time.Duration // How long all evictions together may take; must be positive.
	Volumes VolumeWait    // The wait for the volumes afterwards.
	// Tell is called for every pod that is evicted, gone or held back, from several goroutines.
	Tell func(message string)
	// Again is called for every eviction that is retried, from several goroutines.
	Again func()
}

// drainAgain is the delay before a refused or unanswered eviction is retried.
const drainAgain = time.Second

// Drain evicts a node's pods with talosctl's policy: unmanaged pods too, emptyDir data is lost, DaemonSets stay, each
// pod has its own grace period. Then it waits for the volumes, an AttachedError where they stay. It returns how many pods
// left, even on error. An API server that is down is waited for within the timeout. kubectl's helper sleeps between refused evictions without checking its context, so Drain may
// return one delay late.
func (c *Client) Drain(ctx context.Context, name string, o DrainOptions) (int, error) {
	if o.Timeout <= 0 {
		return 0, errors.New("cannot drain without a timeout")
	}

	if o.Tell == nil {
		o.Tell = func(string) {}
	}

	if o.Again == nil {
		o.Again = func() {}
	}

	var (
		gone    atomic.Int64
		volumes *detaching
	)

	if o.Volumes.Wait {
		volumes = &detaching{c: c, node: name}
	}

	for deadline := time.Now().Add(o.Timeout); ; {
		before := c.unanswered.Load()

		err := c.drainOnce(ctx, name, o, time.Until(deadline), &gone, volumes)

		switch left := int(gone.Load()); {
		case err == nil && volumes == nil:
			return left, nil
		case err == nil:
			if err = volumes.wait(ctx, o); err != nil && ctx.Err() == nil {
				err = fmt.Errorf("cannot drain %s: %w", name, err)
			}

			return left, err
		case ctx.Err() != nil:
			return left, context.Cause(ctx)
		case c.unanswered.Load() == before || time.Until(deadline) < drainAgain:
			return left, fmt.Errorf("cannot drain %s: %w", name, err)
		}

		o.Tell(fmt.Sprintf("the Kubernetes API does not answer, retrying: %v", err))
		o.Again()

		if err = poll.Pause(ctx, drainAgain); err != nil {
			return int(gone.Load()), err
		}
	}
}

func (c *Client) drainOnce(ctx context.Context, name string, o DrainOptions, timeout time.Duration, gone *atomic.Int64, volumes *detaching) error {
	helper := &drain.Helper{
		Ctx: ctx, Client: c.API, Force: true, DeleteEmptyDirData: true, IgnoreAllDaemonSets: true, GracePeriodSeconds: -1,
		Timeout: timeout, EvictErrorRetryDelay: drainAgain, Out: io.Discard,
		ErrOut: &lineWriter{emit: func(line string) {
			o.Tell(line)
			o.Again()
		}},
		OnPodDeletionOrEvictionFinished: func(pod *corev1.Pod, _ bool, err error) {
			if err == nil {
				gone.Add(1)
				o.Tell(fmt.Sprintf("evicted %s/%s", pod.Namespace, pod.Name))
			}
		},
	}

	list, problems := helper.GetPodsForDeletion(name)
	if err := errors.Join(problems...); err != nil {
		return err
	}

	// Before the first eviction: what may not be read, could not be waited for afterwards.
	if volumes != nil {
		if _, err := volumes.look(ctx, list.Pods()); err != nil {
			return err
		}
	}

	return helper.DeleteOrEvictPods(list.Pods())
}

// Blocker is a disruption budget that holds a pod on a node.
type Blocker struct {
	Budget  string `json:"budget"`  // The PodDisruptionBudget, NAMESPACE/NAME.
	Pod     string `json:"pod"`     // The pod it holds, NAMESPACE/NAME.
	Never   bool   `json:"never"`   // Whether it can never be met: it allows no disruption however many pods run.
	Message string `json:"message"` // Why, in one sentence.
}

// Blockers lists the budgets that would refuse an eviction from the node right now.
func (c *Client) Blockers(ctx context.Context, name string) ([]Blocker, error) {
	pods, err := c.API.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + name})
	if err != nil {
		return nil, fmt.Errorf("cannot list the pods of %s: %w", name, causeOf(err))
	}

	budgets, err := c.API.PolicyV1().PodDisruptionBudgets("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot list disruption budgets: %w", causeOf(err))
	}

	out := []Blocker{}

	for i := range budgets.Items {
		b := &budgets.Items[i]

		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || b.Status.DisruptionsAllowed > 0 {
			continue
		}

		for j := range pods.Items {
			p := &pods.Items[j]
			if p.Spec.NodeName == name && p.Namespace == b.Namespace && selector.Matches(labels.Set(p.Labels)) && evictable(p) {
				out = append(out, blockerOf(b, p))
			}
		}
	}

	return out, nil
}

func evictable(p *corev1.Pod) bool {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || p.DeletionTimestamp != nil {
		return false
	}

	owner := metav1.GetControllerOf(p)

	return (owner == nil || owner.Kind != "DaemonSet") && p.Annotations[corev1.MirrorPodAnnotationKey] == ""
}

func blockerOf(b *policyv1.PodDisruptionBudget, p *corev1.Pod) Blocker {
	out := Blocker{Budget: b.Namespace + "/" + b.Name, Pod: p.Namespace + "/" + p.Name}
	out.Never = b.Status.ExpectedPods > 0 && b.Status.DesiredHealthy >= b.Status.ExpectedPods
	out.Message = fmt.Sprintf("%d of %d pods are healthy and %d must be", b.Status.CurrentHealthy, b.Status.ExpectedPods, b.Status.DesiredHealthy)

	return out
}

// lineWriter passes whole lines to a function.
type lineWriter struct {
	emit func(string)
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.emit(trimLine(string(p)))

	return len(p), nil
}

func trimLine(s string) string {
	for len(s) > 0 && (s[len(s)-1] == '\n' || s[len(s)-1] == '\r') {
		s = s[:len(s)-1]
	}

	return s
}
