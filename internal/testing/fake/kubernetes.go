package fake

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
)

// Kubernetes is a fake Kubernetes API.
type Kubernetes struct {
	probe.Kube // What is not simulated panics.

	Mu         sync.Mutex
	Members    map[string]*KubernetesNode
	Budgets    []kube.Blocker
	Fail       map[string]error
	During     map[string]func()
	Calls      []string
	DrainTakes time.Duration
	Gone       error // Connecting fails.
}

// KubernetesNode is a node as the fake API serves it.
type KubernetesNode struct {
	kube.Node

	ReadyAt time.Time
}

// NewKubernetes returns a cluster with these nodes, all Ready.
func NewKubernetes(names ...string) *Kubernetes {
	c := &Kubernetes{Members: map[string]*KubernetesNode{}, Fail: map[string]error{}, During: map[string]func(){}, DrainTakes: time.Second}
	for _, n := range names {
		c.Members[n] = &KubernetesNode{Node: kube.Node{Name: n, Ready: true, BootID: "boot-1", Annotations: map[string]string{}}}
	}

	return c
}

func (c *Kubernetes) rebooted(name, bootID string, at time.Time) {
	c.Mu.Lock()
	defer c.Mu.Unlock()

	if n := c.Members[name]; n != nil {
		n.BootID, n.ReadyAt = bootID, at.Add(time.Second)
	}
}

func (c *Kubernetes) enter(ctx context.Context, act string) error {
	c.Mu.Lock()
	f := c.During[act]
	delete(c.During, act)
	c.Mu.Unlock()

	if f != nil {
		f()
	}

	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	if dead(ctx) {
		return ErrDown
	}

	c.Mu.Lock()
	defer c.Mu.Unlock()

	c.Calls = append(c.Calls, act)

	return c.Fail[act]
}

// Node implements probe.Kube.
func (c *Kubernetes) Node(ctx context.Context, name string) (kube.Node, bool, error) {
	if ctx.Err() != nil {
		return kube.Node{}, false, context.Cause(ctx)
	}

	c.Mu.Lock()
	defer c.Mu.Unlock()

	n := c.Members[name]
	if n == nil {
		return kube.Node{}, false, nil
	}

	out := n.Node
	out.Ready = n.Ready && !time.Now().Before(n.ReadyAt)
	out.Annotations = maps.Clone(n.Annotations)

	return out, true, nil
}

// Nodes implements probe.Kube.
func (c *Kubernetes) Nodes(ctx context.Context) ([]kube.Node, error) {
	var out []kube.Node

	c.Mu.Lock()
	err, names := c.Fail["nodes"], slices.Sorted(maps.Keys(c.Members))
	c.Mu.Unlock()

	if err != nil {
		return nil, err
	}

	for _, name := range names {
		n, _, err := c.Node(ctx, name)
		if err != nil {
			return nil, err
		}

		out = append(out, n)
	}

	return out, nil
}

// Blockers implements probe.Kube.
func (c *Kubernetes) Blockers(context.Context, string) ([]kube.Blocker, error) { return c.Budgets, nil }

// Cordon implements probe.Kube.
func (c *Kubernetes) Cordon(ctx context.Context, name, reason string) (bool, error) {
	if err := c.enter(ctx, "cordon"); err != nil {
		return false, err
	}

	c.Mu.Lock()
	defer c.Mu.Unlock()

	n := c.Members[name]
	if n.Unschedulable {
		return n.CordonedFor(reason), nil
	}

	n.Unschedulable, n.Annotations[kube.CordonAnnotation] = true, reason

	return true, nil
}

// Uncordon implements probe.Kube.
func (c *Kubernetes) Uncordon(ctx context.Context, name string) error {
	if err := c.enter(ctx, "uncordon"); err != nil {
		return err
	}

	c.Mu.Lock()
	defer c.Mu.Unlock()

	n := c.Members[name]
	if _, ours := n.Annotations[kube.CordonAnnotation]; ours {
		n.Unschedulable = false
		delete(n.Annotations, kube.CordonAnnotation)
	}

	return nil
}

// Drain implements probe.Kube.
func (c *Kubernetes) Drain(ctx context.Context, _ string, _ kube.DrainOptions) (int, error) {
	if err := c.enter(ctx, "drain"); err != nil {
		return 0, err
	}

	if err := poll.Pause(ctx, c.DrainTakes); err != nil {
		return 0, err
	}

	return 3, nil
}

// Annotate implements probe.Kube.
func (c *Kubernetes) Annotate(ctx context.Context, name, key, value string) error {
	if err := c.enter(ctx, "annotate"); err != nil {
		return err
	}

	c.Mu.Lock()
	defer c.Mu.Unlock()

	if value == "" {
		delete(c.Members[name].Annotations, key)
	} else {
		c.Members[name].Annotations[key] = value
	}

	return nil
}

// DeleteNode implements probe.Kube.
func (c *Kubernetes) DeleteNode(ctx context.Context, name string) error {
	if err := c.enter(ctx, "delete"); err != nil {
		return err
	}

	c.Mu.Lock()
	defer c.Mu.Unlock()

	delete(c.Members, name)

	return nil
}

// Has reports whether the node is there.
func (c *Kubernetes) Has(name string) bool {
	c.Mu.Lock()
	defer c.Mu.Unlock()

	return c.Members[name] != nil
}

// Cordoned reports whether a node is there and cordoned.
func (c *Kubernetes) Cordoned(name string) bool {
	c.Mu.Lock()
	defer c.Mu.Unlock()

	return c.Members[name] != nil && c.Members[name].Unschedulable
}
