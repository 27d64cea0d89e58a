package talos

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/talos/config"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Target is a node that a command reads or changes.
type Target = target.Target

// NodeRef names the node a row is about.
type NodeRef = target.NodeRef

// Member is a node in the cluster's discovery.
type Member = target.Member

// Cluster is one talosconfig context with its connections and what is known of its nodes.
type Cluster struct {
	*conn.Pool

	// Elsewhere finds a node by name that is not in discovery because it is dead. It may be nil.
	Elsewhere func(ctx context.Context, name string) (t Target, found bool, err error)

	mu      sync.Mutex
	members func() ([]Member, error)
	kinds   func() ([]ResourceKind, error) // Of an endpoint.
	virtual []string                       // Addresses that move between nodes; nil when discovery needed them not, or could not read them.
	vips    func() []string
}

// NewCluster prepares access to a context: see conn.NewPool.
func NewCluster(tc *config.Context, source string, o conn.Options) (*Cluster, error) {
	pool, err := conn.NewPool(tc, source, o)
	if err != nil {
		return nil, err
	}

	pool.Confirm = confirm

	return &Cluster{Pool: pool}, nil
}

// Node gives access to a node, through the endpoints unless the options say otherwise.
func (c *Cluster) Node(t Target) *Node { return &Node{c.To(t)} }

// Endpoint gives access to any endpoint that answers, for requests that every one of them can answer.
func (c *Cluster) Endpoint() *Node {
	return c.Node(Target{Address: strings.Join(c.Options.Endpoints, ","), AnyOf: c.Options.Endpoints})
}

// DirectNode dials the node itself.
func (c *Cluster) DirectNode(t Target) *Node { return &Node{c.Straight(t)} }

// ChangingNode gives access for a change: see conn.Pool.ToChange.
func (c *Cluster) ChangingNode(t Target) *Node { return &Node{c.ToChange(t)} }

// Fresh dials the node itself over a connection of its own: see conn.Pool.Fresh.
func (c *Cluster) Fresh(t Target) (*Node, func() error) {
	fresh, done := c.Pool.Fresh(t)

	return &Node{fresh}, done
}

// Bare is Fresh for a node in maintenance mode: see conn.Pool.Bare.
func (c *Cluster) Bare(t Target, fingerprint string) (*Node, func() error) {
	fresh, done := c.Pool.Bare(t, fingerprint)

	return &Node{fresh}, done
}

// withTimeout bounds a read of one node, of which some time may have passed.
func (c *Cluster) withTimeout(ctx context.Context, passed time.Duration) (context.Context, context.CancelFunc) {
	if c.Options.Timeout <= 0 {
		return context.WithCancel(ctx)
	}

	return context.WithTimeout(ctx, max(c.Options.Timeout-passed, 0))
}
