package talos

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// whoLimit bounds how long a node may take to identify itself. It is half of what a node has for an answer at most, so that
// one that is silent has some left for the answer that was asked for.
const whoLimit = 5 * time.Second

func (c *Cluster) toSayWho(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := whoLimit
	if t := c.Options.Timeout; t > 0 {
		limit = min(limit, t/2)
	}

	return context.WithTimeout(ctx, limit)
}

// Identity reads the node's identity in discovery, which no other machine has. It is empty where the node has none.
// Roles: reader, operator, admin.
func (n *Node) Identity(ctx context.Context) (string, error) {
	spec, err := resourceSpec[struct {
		NodeID string `json:"nodeId"`
	}](ctx, n, "cluster", "Identities.cluster.talos.dev", "local")

	return spec.NodeID, err
}

// MachineType reads whether the node is a control plane or a worker, from the node itself. Roles: reader, operator, admin.
func (n *Node) MachineType(ctx context.Context) (string, error) {
	return resourceSpec[string](ctx, n, "config", "MachineTypes.config.talos.dev", "machine-type")
}

// SystemUUID reads the identity of the hardware in lower case, also of a machine in maintenance mode. It is empty where the
// firmware gives none, or the same to many machines. Roles: reader, operator, admin.
func (n *Node) SystemUUID(ctx context.Context) (string, error) {
	spec, err := resourceSpec[struct {
		UUID string `json:"uuid"`
	}](ctx, n, "hardware", "SystemInformations.hardware.talos.dev", "systeminformation")
	uuid := strings.ToLower(spec.UUID)

	if uuid == "" || strings.Trim(uuid, "0f-") == "" || uuid == sharedUUID {
		return "", err
	}

	return uuid, err
}

// sharedUUID is what firmware that was never set up reports on many boards.
const sharedUUID = "03000200-0400-0500-0006-000700080009"

// targetAt is the node at an address, which need not be one that a node announces: there are NAT and load balancers. The
// node there is asked who it is: a control plane that is not recognised would pass every gate that guards etcd, and an
// address that moves belongs to another node a moment later.
func (c *Cluster) targetAt(ctx context.Context, known target.Known, address string) Target {
	members, announced := known.Members, known.At(address)
	out := Target{Address: address, Sure: true}
	at := -1

	if len(announced) > 0 {
		at = announced[0]
	}

	// A node that was wiped and joined again is listed twice for a while, with the identity of before too.
	if at < 0 || members[at].Node != address || len(announced) > 1 {
		start := time.Now()

		ctx, cancel := c.toSayWho(ctx)
		defer cancel()

		// A node that does not answer stays unknown: it cannot be changed either.
		n := c.Node(out)

		id, err := n.Identity(ctx)
		if err == nil && id != "" {
			at = slices.IndexFunc(members, func(m Member) bool { return m.NodeID == id })
			out.ID = id
			out.Type, _ = n.MachineType(ctx)
		} else if slices.Contains(c.virtual, address) {
			at = -1 // the member that announced it need not have it any more
		}

		if err != nil {
			out.Silent = time.Since(start)
		}
	}

	if at >= 0 {
		silent := out.Silent
		out = members[at].Target()
		out.Silent = silent

		if !slices.Contains(c.virtual, address) {
			out.Address, out.Sure = address, true
		}
	}

	return out
}

// surely asks the targets that have several addresses, none of which is known to be their own, at all of them. The one
// that the kubelet uses is best, else one at which the node itself answers. A node that does not answer keeps its first.
func (c *Cluster) surely(ctx context.Context, targets []Target) []Target {
	type answer struct {
		from    string
		kubelet []string
	}

	outcomes := fanOut(targets, c.Options.Concurrency, func(t Target, out *Outcome[answer], leave func()) {
		if t.Sure || t.ID == "" || len(t.Addresses) < 2 {
			return
		}

		defer time.AfterFunc(patience, leave).Stop()

		ctx, cancel := c.toSayWho(ctx)
		defer cancel()

		first := make(chan answer, len(t.Addresses))

		for _, address := range t.Addresses {
			go func() {
				var a answer

				_ = errs.Safely(func() error { // a failure is not evidence
					n := c.Node(Target{Address: address})

					id, err := n.Identity(ctx)
					if err == nil && id == t.ID {
						a.from = address
						a.kubelet, err = n.KubeletAddresses(ctx)
					}

					return err
				})

				first <- a
			}()
		}

		for range t.Addresses {
			if out.Value = <-first; out.Value.from != "" {
				return
			}
		}
	})

	out := slices.Clone(targets)

	for i, o := range outcomes {
		if o.Value.from != "" {
			e := target.Evidence{Endpoints: c.Options.Endpoints, Virtual: c.virtual, Kubelet: append(o.Value.kubelet, o.Value.from)}
			out[i].Address, out[i].Sure = e.Own(out[i].Addresses)
		}
	}

	return out
}

// KubeletAddresses reads the node IPs that the kubelet uses. Roles: reader, operator, admin.
func (n *Node) KubeletAddresses(ctx context.Context) ([]string, error) {
	spec, err := resourceSpec[struct {
		Addresses []string `json:"addresses"`
	}](ctx, n, "k8s", "NodeIPs.kubernetes.talos.dev", "kubelet")

	return spec.Addresses, err
}

// confirm asks the machine at the other end of a connection whether it is the target, before a change. One that has no
// identity, or may not tell it, is taken at its word. The question has the time of any other read.
func confirm(ctx context.Context, c *conn.Conn) error {
	if c.ID == "" {
		return nil
	}

	id, err := (&Node{c}).Identity(ctx)
	if err != nil || id == "" || id == c.ID {
		return err
	}

	return c.Another(id)
}
