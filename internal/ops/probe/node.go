package probe

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// API is the Talos API of one node, as far as operations use it; *talos.Node implements it.
type API interface {
	Version(ctx context.Context) (talos.Version, error)
	Boot(ctx context.Context, proof string) (talos.Boot, error)
	MachineStatus(ctx context.Context) (talos.MachineStatus, error)
	System(ctx context.Context) (talos.System, error)
	SystemUUID(ctx context.Context) (string, error)
	KubernetesName(ctx context.Context) (string, error)
	SequenceErrors(ctx context.Context, opened func(), fn func(text string)) error
	TimeStatus(ctx context.Context) (status talos.TimeStatus, known bool, err error)
	Clock(ctx context.Context, server string) (talos.Clock, error)
	Mounts(ctx context.Context) ([]talos.Mount, error)
	Memory(ctx context.Context) (talos.Memory, error)
	Separate(ctx context.Context) ([]string, error)
	KernelArguments(ctx context.Context) ([]string, error)
	Services(ctx context.Context) ([]talos.Service, error)
	ResourceKinds(ctx context.Context) ([]talos.ResourceKind, error)
	Resource(ctx context.Context, namespace, typ, id string) (talos.Resource, error)
	Resources(ctx context.Context, namespace, typ string, labels ...string) ([]talos.Resource, error)
	Interfaces(ctx context.Context, linkLocal bool) ([]talos.Interface, error)

	ConfigFacts(ctx context.Context) (talos.ConfigFacts, error)
	MachineConfig(ctx context.Context) ([]byte, error)
	PersistedConfig(ctx context.Context) (text []byte, known bool, err error)
	ApplyConfig(ctx context.Context, text []byte, mode string, tryTimeout time.Duration, dryRun bool) (talos.Applied, error)

	PullImage(ctx context.Context, namespace, ref string, progress func(talos.PullProgress)) (string, error)
	Install(ctx context.Context, image string, line func(string)) (int, error)
	InstallerRuns(ctx context.Context) (bool, error)
	InstallerEnded(ctx context.Context, after time.Time) (code int, found bool, err error)
	UpgradeLegacy(ctx context.Context, image, rebootMode string) error
	Reboot(ctx context.Context, mode string) error
	Shutdown(ctx context.Context, force bool) error
	Rollback(ctx context.Context) error
	Reset(ctx context.Context, r talos.Reset) error
	EtcdForfeitLeadership(ctx context.Context) (string, error)
}

// Kube is the Kubernetes API, as far as operations on nodes use it; *kube.Client implements it.
type Kube interface {
	Node(ctx context.Context, name string) (kube.Node, bool, error)
	Nodes(ctx context.Context) ([]kube.Node, error)
	Blockers(ctx context.Context, name string) ([]kube.Blocker, error)
	Cordon(ctx context.Context, name, reason string) (ours bool, err error)
	Uncordon(ctx context.Context, name string) error
	Drain(ctx context.Context, name string, o kube.DrainOptions) (int, error)
	Annotate(ctx context.Context, name, key, value string) error
	DeleteNode(ctx context.Context, name string) error
}

// Connect connects to Kubernetes. source names the credentials that were used.
type Connect func(context.Context) (k Kube, source string, err error)

// Membership takes a member out of etcd. begin is called before the first request.
type Membership func(ctx context.Context, v etcd.View, m etcd.Member, begin func(), sink progress.Sink) (etcd.MembershipChange, error)

// Node is one node with its surroundings: the ways to its API, and what of etcd and Kubernetes concerns it.
type Node struct {
	Target talos.Target

	Read   API                                      // Through the endpoints.
	Change API                                      // The same, but never through the node itself if that can be avoided.
	Fresh  func() (API, Close)                      // The node itself over a new connection.
	Alive  func(context.Context, talos.Target) bool // Whether another node answers.
	Bare   func() (API, Close)                      // The node in maintenance mode, over a new connection without a client certificate.

	Etcd  func(context.Context) (etcd.View, error) // etcd on all control planes.
	Leave Membership                               // The node's member leaves while it is healthy; otherwise the others remove it.
	Expel Membership                               // The others remove a member, whatever its state.
	Kube  Connect

	ControlPlane bool           // Whether the node is a control plane.
	Members      []talos.Member // The cluster's members as discovery lists them.
	Endpoints    []string       // The endpoints that calls go through.
	VirtualIPs   []string       // Addresses that move between nodes.
	Expires      time.Time      // When the client certificate expires; zero for unknown.

	Locks runbook.Locks // Optional: keep two runs on this machine from changing the node at the same time.
	Notes Notes         // Optional: keep the marker of an install where no Kubernetes node can carry it.
	Now   func() time.Time
}

// Close closes a connection.
type Close = func() error

// Notes keep a short text for each node on this machine.
type Notes interface {
	Get(node string) string // Empty when there is none, or it cannot be read.
	Set(node, text string) error
}

// Prober returns a prober of the node.
func (n *Node) Prober() Prober {
	return Prober{Name: n.Target.Name(), Via: n.Change, Fresh: n.Fresh, Now: n.Now}
}

// InMaintenance reads the machine status of a node in maintenance mode.
func (n *Node) InMaintenance(ctx context.Context) (talos.MachineStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()

	bare, closeBare := n.Bare()
	defer func() { _ = closeBare() }() // the connection served its one question

	return bare.MachineStatus(ctx)
}

const (
	// etcdSettle is how long the rest of etcd may take to show that a member left.
	etcdSettle = 30 * time.Second
	// etcdLeave is longer than the five minutes for which a node repeats etcd's refusal of an unhealthy cluster.
	etcdLeave = 6 * time.Minute
)

// Nodes returns how to get the nodes of a cluster with these members.
func Nodes(ctx context.Context, c *talos.Cluster, members []talos.Member, k Connect) func(talos.Target) *Node {
	var vips []string
	if len(members) > 0 {
		vips = c.VirtualIPs(ctx, Limit)
	}

	access := etcd.Through(c)

	env := func(begin func(), sink progress.Sink) etcd.Env {
		return etcd.Env{Access: access, Now: time.Now, Progress: sink, Begin: begin, Settle: etcdSettle, Deadline: etcdLeave}
	}
	expel := func(ctx context.Context, v etcd.View, m etcd.Member, begin func(), sink progress.Sink) (etcd.MembershipChange, error) {
		return env(begin, sink).Remove(ctx, v, v.PlanRemove(m), nil)
	}

	var expires time.Time
	if c.Context != nil {
		expires = c.Context.NotAfter
	}

	return func(t talos.Target) *Node {
		return &Node{
			Target: t, Read: c.Node(t), Change: c.ChangingNode(t), Etcd: access.Look, Kube: k, Expel: expel,
			Fresh: func() (API, Close) { return c.Fresh(t) },
			Alive: func(ctx context.Context, t talos.Target) bool { return Alive(ctx, c, t) },
			Bare:  func() (API, Close) { return c.Bare(t, c.Options.Fingerprint) },
			Leave: func(ctx context.Context, v etcd.View, m etcd.Member, begin func(), sink progress.Sink) (etcd.MembershipChange, error) {
				if m.Healthy {
					return env(begin, sink).Leave(ctx, v.PlanLeave(m), t)
				}

				return expel(ctx, v, m, begin, sink)
			},
			ControlPlane: t.Type == target.ControlPlane || target.IsControlPlane(members, t), Members: members, Endpoints: c.Endpoints(), VirtualIPs: vips,
			Expires: expires, Now: time.Now,
		}
	}
}

// Alive reports whether a node's Talos API answers, by either way; a refusal is an answer.
func Alive(ctx context.Context, c *talos.Cluster, t talos.Target) bool {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()

	_, err := c.Node(t).Version(ctx)

	return err == nil || (conn.KindOf(err) != "" && !conn.Transient(err))
}
