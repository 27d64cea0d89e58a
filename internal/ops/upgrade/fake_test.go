package upgrade

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

const (
	schematicA  = "c9078f9419961640c712a8bf2bb9174933dfcf1da383fd8ea2b7dc21493f8bac"
	oldImage    = "factory.talos.dev/metal-installer/" + schematicA + ":v1.13.8"
	newImage    = "factory.talos.dev/metal-installer/" + schematicA + ":v1.13.9"
	installTook = time.Second
	bootTook    = 2 * time.Second
)

var errAway = &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Retryable: true, Err: errors.New("connection refused")} //nolint:gochecknoglobals // a constant

// machine is a fake node: a small state machine with the faults that a test scripts.
type machine struct {
	mu sync.Mutex

	version   talos.Version
	status    talos.MachineStatus
	system    talos.System
	boots     int
	k8sName   string
	mounts    []talos.Mount
	config    talos.ConfigFacts
	time      talos.TimeStatus
	clockOff  float64 // Seconds.
	downUntil time.Time
	installed string // The version in the other slot, if it is the default.
	calls     []string

	fail      map[string]error              // The next such call fails without being carried out.
	loseReply map[string]error              // The next such call is carried out, and then fails.
	during    map[string]func()             // Runs in the middle of such a call.
	bootInto  func(installed string) string // What the next boot comes up with.
	never     bool                          // It does not come back.
	exitCode  int                           // Of the installer.
	afterBoot func(*machine)
	kube      *cluster
	forfeit   func()
	doubled   bool // A second install came before the reboot: it overwrote what ran.
}

func newMachine(version string) *machine {
	return &machine{
		version: talos.Version{Tag: version, API: release.UpgradeAPI(version), Platform: "metal"},
		status:  talos.MachineStatus{Stage: "running", Ready: true},
		system: talos.System{
			Schematic: schematicA, Kubelet: "v1.35.4", Extensions: []talos.Extension{{Name: "iscsi-tools", Version: "v0.1.6"}},
		},
		config: talos.ConfigFacts{InstallImage: oldImage, Authorities: []talos.Authority{{Name: "machine.ca", NotAfter: time.Now().AddDate(10, 0, 0)}}},
		time:   talos.TimeStatus{Synced: true},
		boots:  1, k8sName: "worker-1", mounts: []talos.Mount{{MountedOn: "/var", SizeBytes: 100 << 30, AvailableBytes: 50 << 30}},
		fail: map[string]error{}, loseReply: map[string]error{}, during: map[string]func(){},
	}
}

func (m *machine) bootID() string { return fmt.Sprintf("boot-%d", m.boots) }

// life is a process that can be killed: from then on nothing it asks for is carried out, undo included.
type life struct{ over atomic.Bool }

type lifeKey struct{}

// mortal gives a context of a process, and the kill -9 that ends it.
func mortal(ctx context.Context) (context.Context, func()) {
	l := &life{}
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, lifeKey{}, l))

	return ctx, func() {
		l.over.Store(true)
		cancel(errs.New(errs.Interrupted, "killed"))
	}
}

func dead(ctx context.Context) bool {
	l, ok := ctx.Value(lifeKey{}).(*life)

	return ok && l.over.Load()
}

// enter notes a call and says whether the node answers.
func (m *machine) enter(ctx context.Context, call string, change bool) error {
	if ctx.Err() != nil || dead(ctx) {
		return interrupted(ctx)
	}

	m.mu.Lock()
	defer m.mu.Unlock()

	if m.never && !m.downUntil.IsZero() || time.Now().Before(m.downUntil) {
		return errAway
	}

	if change {
		m.calls = append(m.calls, call)
	}

	if err := m.fail[call]; err != nil {
		delete(m.fail, call)

		return err
	}

	return nil
}

func interrupted(ctx context.Context) error {
	if ctx.Err() == nil {
		return errAway
	}

	return &errs.Error{Exit: errs.Interrupted, Kind: errs.KindInterrupted, Err: ctx.Err()}
}

// middle runs what a test wants to happen in the middle of a call, and takes its time.
func (m *machine) middle(ctx context.Context, call string, took time.Duration) error {
	if f := m.during[call]; f != nil {
		delete(m.during, call)
		f()
	}

	if poll.Pause(ctx, took) != nil {
		return interrupted(ctx)
	}

	m.mu.Lock()
	defer m.mu.Unlock()

	if err := m.loseReply[call]; err != nil {
		delete(m.loseReply, call)

		return err
	}

	return nil
}

func (m *machine) Version(ctx context.Context) (talos.Version, error) {
	return read(ctx, m, "version", func() talos.Version { return m.version })
}

func read[T any](ctx context.Context, m *machine, call string, get func() T) (T, error) {
	var zero T

	if err := m.enter(ctx, call, false); err != nil {
		return zero, err
	}

	m.mu.Lock()
	defer m.mu.Unlock()

	return get(), nil
}

func (m *machine) Boot(ctx context.Context) (talos.Boot, error) {
	return read(ctx, m, "boot", func() talos.Boot { return talos.Boot{ID: m.bootID(), Proof: "boot_id"} })
}

func (m *machine) MachineStatus(ctx context.Context) (talos.MachineStatus, error) {
	return read(ctx, m, "status", func() talos.MachineStatus { return m.status })
}

func (m *machine) System(ctx context.Context) (talos.System, error) {
	return read(ctx, m, "system", func() talos.System { return m.system })
}

func (m *machine) ConfigFacts(ctx context.Context) (talos.ConfigFacts, error) {
	return read(ctx, m, "config", func() talos.ConfigFacts { return m.config })
}

func (m *machine) TimeStatus(ctx context.Context) (talos.TimeStatus, bool, error) {
	status, err := read(ctx, m, "time", func() talos.TimeStatus { return m.time })

	return status, true, err
}

func (m *machine) Clock(ctx context.Context, _ string) (talos.Clock, error) {
	return read(ctx, m, "clock", func() talos.Clock { return talos.Clock{Server: "ntp", OffsetSeconds: m.clockOff} })
}

func (m *machine) KubernetesName(ctx context.Context) (string, error) {
	return read(ctx, m, "name", func() string { return m.k8sName })
}

func (m *machine) Mounts(ctx context.Context) ([]talos.Mount, error) {
	return read(ctx, m, "mounts", func() []talos.Mount { return m.mounts })
}

func (m *machine) EtcdStatus(ctx context.Context) (talos.EtcdStatus, error) {
	return read(ctx, m, "etcd", func() talos.EtcdStatus { return talos.EtcdStatus{} })
}

func (m *machine) PullImage(ctx context.Context, _, ref string, _ func(talos.PullProgress)) (string, error) {
	if err := m.enter(ctx, "pull", true); err != nil {
		return "", err
	}

	return ref + "@sha256:1111", m.middle(ctx, "pull", 100*time.Millisecond)
}

func (m *machine) Install(ctx context.Context, image string, line func(string)) (int, error) {
	if err := m.enter(ctx, "install", true); err != nil {
		return 0, err
	}

	line("running Talos installer")

	if err := m.middle(ctx, "install", installTook); err != nil {
		return 0, err
	}

	m.mu.Lock()
	defer m.mu.Unlock()

	if m.exitCode == 0 {
		m.doubled = m.doubled || m.installed != ""
		m.installed = tagOf(image)
	}

	return m.exitCode, nil
}

func tagOf(image string) string {
	at := len(image)
	for i := range image {
		if image[i] == '@' {
			at = i

			break
		}
	}

	return image[at-len("v1.13.9") : at]
}

func (m *machine) UpgradeLegacy(ctx context.Context, image, _ string) error {
	if err := m.enter(ctx, "legacy", true); err != nil {
		return err
	}

	m.mu.Lock()
	m.installed = tagOf(image)
	m.mu.Unlock()
	m.goDown()

	return m.middle(ctx, "legacy", 0)
}

func (m *machine) Reboot(ctx context.Context, _ string) error {
	if err := m.enter(ctx, "reboot", true); err != nil {
		return err
	}

	m.goDown()

	return m.middle(ctx, "reboot", 0)
}

func (m *machine) goDown() {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.boots++
	m.downUntil = time.Now().Add(bootTook)
	into := m.installed

	if m.bootInto != nil {
		into = m.bootInto(m.installed)
	}

	if into != "" {
		m.version.Tag, m.version.API = into, release.UpgradeAPI(into)
	}

	m.installed = ""

	if m.afterBoot != nil {
		m.afterBoot(m)
	}

	if m.kube != nil {
		m.kube.rebooted(m.k8sName, m.bootID(), m.downUntil)
	}
}

func (m *machine) count(call string) int {
	m.mu.Lock()
	defer m.mu.Unlock()

	n := 0

	for _, c := range m.calls {
		if c == call {
			n++
		}
	}

	return n
}

// cluster is a fake Kubernetes.
type cluster struct {
	mu       sync.Mutex
	nodes    map[string]*kubeNode
	blockers []kube.Blocker
	fail     map[string]error
	during   map[string]func()
	acts     []string
	drain    time.Duration
	gone     error // Connecting fails.
}

type kubeNode struct {
	kube.Node

	readyAt time.Time
}

func newCluster(names ...string) *cluster {
	c := &cluster{nodes: map[string]*kubeNode{}, fail: map[string]error{}, during: map[string]func(){}, drain: time.Second}
	for _, n := range names {
		c.nodes[n] = &kubeNode{Node: kube.Node{Name: n, Ready: true, BootID: "boot-1", Annotations: map[string]string{}}}
	}

	return c
}

func (c *cluster) rebooted(name, bootID string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if n := c.nodes[name]; n != nil {
		n.BootID, n.readyAt = bootID, at.Add(time.Second)
	}
}

func (c *cluster) enter(ctx context.Context, act string) error {
	if f := c.during[act]; f != nil {
		delete(c.during, act)
		f()
	}

	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	if dead(ctx) {
		return errAway
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	c.acts = append(c.acts, act)

	return c.fail[act]
}

func (c *cluster) Node(ctx context.Context, name string) (kube.Node, bool, error) {
	if ctx.Err() != nil {
		return kube.Node{}, false, context.Cause(ctx)
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	n := c.nodes[name]
	if n == nil {
		return kube.Node{}, false, nil
	}

	out := n.Node
	out.Ready = n.Ready && !time.Now().Before(n.readyAt)
	out.Annotations = maps.Clone(n.Annotations)

	return out, true, nil
}

func (c *cluster) Nodes(ctx context.Context) ([]kube.Node, error) {
	var out []kube.Node

	for _, name := range slices.Sorted(maps.Keys(c.nodes)) {
		n, _, err := c.Node(ctx, name)
		if err != nil {
			return nil, err
		}

		out = append(out, n)
	}

	return out, nil
}

func (c *cluster) Blockers(context.Context, string) ([]kube.Blocker, error) { return c.blockers, nil }

func (c *cluster) Cordon(ctx context.Context, name, reason string) (bool, error) {
	if err := c.enter(ctx, "cordon"); err != nil {
		return false, err
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	n := c.nodes[name]
	if n.Unschedulable {
		return n.CordonedFor(reason), nil
	}

	n.Unschedulable, n.Annotations[kube.CordonAnnotation] = true, reason

	return true, nil
}

func (c *cluster) Uncordon(ctx context.Context, name string) error {
	if err := c.enter(ctx, "uncordon"); err != nil {
		return err
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	n := c.nodes[name]
	if _, ours := n.Annotations[kube.CordonAnnotation]; ours {
		n.Unschedulable = false
		delete(n.Annotations, kube.CordonAnnotation)
	}

	return nil
}

func (c *cluster) Drain(ctx context.Context, _ string, _ kube.DrainOptions) (int, error) {
	if err := c.enter(ctx, "drain"); err != nil {
		return 0, err
	}

	return 3, poll.Pause(ctx, c.drain)
}

func (c *cluster) Annotate(ctx context.Context, name, key, value string) error {
	if err := c.enter(ctx, "annotate"); err != nil {
		return err
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	if value == "" {
		delete(c.nodes[name].Annotations, key)
	} else {
		c.nodes[name].Annotations[key] = value
	}

	return nil
}

// bed is one node's world.
type bed struct {
	node  *machine
	kube  *cluster
	world *World
	view  etcd.View
}

func newBed(version string) *bed {
	b := &bed{node: newMachine(version), kube: newCluster("worker-1", "worker-2")}
	b.node.kube = b.kube
	b.world = &World{
		Target: talos.Target{Address: "10.0.0.11", Hostname: "worker-1"}, Read: b.node, Change: b.node,
		Fresh:     func() (Node, func() error) { return b.node, func() error { return nil } },
		Etcd:      func(context.Context) (etcd.View, error) { return b.view, nil },
		Endpoints: []string{"10.0.0.1", "10.0.0.2"}, Nodes: 5, Now: time.Now,
		Kube: func(context.Context) (Kube, string, error) {
			if b.kube.gone != nil {
				return nil, "", b.kube.gone
			}

			return b.kube, "test", nil
		},
	}

	return b
}

// controlPlane makes the node one of three etcd members.
func (b *bed) controlPlane() *bed {
	b.world.ControlPlane = true
	b.view = etcd.View{Known: true, Members: []etcd.Member{
		{ID: "1", Name: "worker-1", Node: "10.0.0.11", Healthy: true}, {ID: "2", Name: "cp-2", Healthy: true}, {ID: "3", Name: "cp-3", Healthy: true},
	}}

	return b
}

func options() Options {
	return Options{
		Image: newImage, AutoReboot: true, Wait: true, DrainTimeout: time.Minute, RebootMode: talos.RebootDefault,
		RebootTimeout: 5 * time.Minute, ReadyTimeout: time.Minute, Reason: "talosmate upgrade by test",
	}
}

func (b *bed) run(ctx context.Context, o Options) (Result, error) {
	return Run(ctx, b.world, o, progress.Discard{})
}

func (b *bed) marker(phase, target string) {
	m := marker{Image: newImage, Target: target, BootID: b.node.bootID(), Phase: phase, Time: time.Now()}
	b.kube.nodes["worker-1"].Annotations[MarkerAnnotation] = m.String()
}

func (b *bed) k8s() *kubeNode { return b.kube.nodes["worker-1"] }

// released says that nothing of ours is left on the Kubernetes node.
func (b *bed) released(t *testing.T) {
	t.Helper()

	if n := b.k8s(); n.Unschedulable || n.Annotations[kube.CordonAnnotation] != "" {
		t.Errorf("the node is still cordoned: %v", n.Annotations)
	}
}

func (b *bed) unmarked(t *testing.T) {
	t.Helper()

	if text := b.k8s().Annotations[MarkerAnnotation]; text != "" {
		t.Errorf("the marker is still there: %s", text)
	}
}

func (m *machine) Rollback(ctx context.Context) error {
	if err := m.enter(ctx, "rollback", true); err != nil {
		return err
	}

	m.mu.Lock()
	m.installed, m.bootInto, m.afterBoot = "v1.13.8", nil, nil
	m.system = newMachine("v1.13.8").system
	m.status = talos.MachineStatus{Stage: "running", Ready: true}
	m.mu.Unlock()
	m.goDown()

	return nil
}

func (m *machine) EtcdForfeitLeadership(ctx context.Context) (string, error) {
	if err := m.enter(ctx, "forfeit", true); err != nil {
		return "", err
	}

	if m.forfeit != nil {
		m.forfeit()
	}

	return "cp-2", nil
}
