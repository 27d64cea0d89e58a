// Package kubelet simulates the kubelets of a cluster of machines that do not exist. It registers their nodes, renews
// their leases and runs through the lifecycle of their pods, and lets a caller switch a machine off, reboot it and make
// it unready. Everything else in the cluster, from the scheduler to the eviction API, is real.
package kubelet

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// Config configures a Manager. Client and Log are required.
type Config struct {
	// Client should have no timeout of its own, which would cut the watch, and
	// enough queries per second for all nodes.
	Client kubernetes.Interface
	Clock  clock.WithTicker
	Timing Timing
	Log    *slog.Logger
	// KubeletVersion is for machines that do not name theirs.
	KubeletVersion string
}

// Manager simulates all the kubelets of one cluster. It works from Start to Stop.
type Manager struct {
	cfg  Config
	pods *store

	// session makes the context of a session, which ends with the Manager.
	session func() (context.Context, context.CancelFunc)
	stop    context.CancelFunc
	watcher sync.WaitGroup

	mu    sync.Mutex
	nodes map[string]*node
	count int
}

// Start begins to follow the cluster's pods. The Manager works until Stop, or until the context ends.
func Start(ctx context.Context, cfg Config) *Manager {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Timing == (Timing{}) {
		cfg.Timing = DefaultTiming()
	}
	ctx, stop := context.WithCancel(ctx)
	m := &Manager{
		cfg:     cfg,
		session: func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) },
		stop:    stop,
		nodes:   map[string]*node{},
	}
	m.pods = newStore(cfg.Client, cfg.Clock, cfg.Timing.Retry, m.wake)
	m.watcher.Add(1)
	go func() {
		defer m.watcher.Done()
		m.pods.run(ctx)
	}()
	return m
}

// Stop ends all kubelets as a power cut does, and returns when they have ended.
func (m *Manager) Stop() {
	m.stop()
	m.watcher.Wait()
	for _, n := range m.all() {
		n.power.Lock()
		if n.session != nil {
			n.stop()
		}
		n.power.Unlock()
	}
}

// Add adds a machine, which is powered on unless the spec says otherwise.
func (m *Manager) Add(spec Spec) (State, error) {
	if err := spec.Validate(); err != nil {
		return State{}, err
	}
	fill(&spec.KubeletVersion, m.cfg.KubeletVersion)
	fill(&spec.KubeletVersion, "v0.0.0")
	fill(&spec.TalosVersion, "v0.0.0")
	fill(&spec.KernelVersion, "6.18.0-talos")
	fill(&spec.BootID, string(uuid.NewUUID()))

	m.mu.Lock()
	if m.nodes[spec.Name] != nil {
		m.mu.Unlock()
		return State{}, fmt.Errorf("%w: %s", ErrNodeExists, spec.Name)
	}
	n := &node{
		client: m.cfg.Client, clock: m.cfg.Clock, timing: m.cfg.Timing, pods: m.pods,
		log: m.cfg.Log.With("node", spec.Name), index: m.count,
		context: m.session, spec: spec, ready: true,
		wake: make(chan struct{}, 1), beat: make(chan struct{}, 1),
		memories: map[types.UID]memory{},
	}
	m.count++
	m.nodes[spec.Name] = n
	m.mu.Unlock()

	if on := !spec.Off; on {
		n.change(Change{Up: &on, BootID: &spec.BootID})
	}
	return n.state(), nil
}

// Change changes a machine. When it returns after a power off, nothing more is written for the node.
func (m *Manager) Change(name string, c Change) (State, error) {
	n, err := m.node(name)
	if err != nil {
		return State{}, err
	}
	n.change(c)
	return n.state(), nil
}

// Remove removes a machine for good. Unless keepObjects is set, its Node object and the pods on it are deleted too;
// otherwise the cluster has to detect the loss, as when a machine dies.
func (m *Manager) Remove(ctx context.Context, name string, keepObjects bool) error {
	n, err := m.node(name)
	if err != nil {
		return err
	}
	off := false
	n.change(Change{Up: &off})
	m.mu.Lock()
	delete(m.nodes, name)
	m.mu.Unlock()
	if keepObjects {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err = m.cfg.Client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove node %s: %w", name, err)
	}
	pods, _ := m.pods.on(name)
	for _, p := range pods {
		// No kubelet is left to stop them: without this they would stay for the minute that the pod garbage collector
		// takes.
		err := m.cfg.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, *metav1.NewDeleteOptions(0))
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("remove node %s: pod %s/%s: %w", name, p.Namespace, p.Name, err)
		}
	}
	return nil
}

// Node returns a machine's state.
func (m *Manager) Node(name string) (State, error) {
	n, err := m.node(name)
	if err != nil {
		return State{}, err
	}
	return n.state(), nil
}

// Nodes returns all machines by name.
func (m *Manager) Nodes() []State {
	states := []State{}
	for _, n := range m.all() {
		states = append(states, n.state())
	}
	slices.SortFunc(states, func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	return states
}

func (m *Manager) node(name string) (*node, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[name]
	if n == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknownNode, name)
	}
	return n, nil
}

func (m *Manager) all() []*node {
	m.mu.Lock()
	defer m.mu.Unlock()
	nodes := make([]*node, 0, len(m.nodes))
	for _, n := range m.nodes {
		nodes = append(nodes, n)
	}
	return nodes
}

// wake notifies a node that its pods changed.
func (m *Manager) wake(name string) {
	m.mu.Lock()
	n := m.nodes[name]
	m.mu.Unlock()
	if n != nil {
		poke(n.wake)
	}
}

func fill(s *string, otherwise string) {
	if *s == "" {
		*s = otherwise
	}
}
