package talos

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Targets resolves a selection. Discovery is read only when it is needed: for names, for sets, or for the hostnames in
// the output. Targets are sorted by address and unique. A node that was named and is not allowed is an error; of a set
// those that are allowed remain.
func (c *Cluster) Targets(ctx context.Context, s target.Selection, d target.Default) (target.Set, error) {
	out, err := c.targets(ctx, s, d)
	if err != nil || len(c.Options.Allowed) == 0 {
		return out, err
	}

	var inside []Target

	for _, t := range out.Nodes {
		refusal := c.Permit(t)

		switch {
		case refusal == nil, len(t.AnyOf) > 0:
			inside = append(inside, t)
		case len(s.Nodes) > 0:
			return target.Set{}, refusal
		default:
			err = refusal
			out.Outside = append(out.Outside, t)
		}
	}

	if out.Nodes = inside; len(inside) > 0 {
		err = nil
	}

	return out, err
}

// Begun is a selection of which only the addresses are known yet, while discovery is asked who the nodes are.
type Begun struct {
	Nodes []Target // By their addresses alone. Whole waits for the rest.

	resolved chan struct{}
	set      target.Set
	err      error
}

// Wait returns the resolved selection.
func (b *Begun) Wait() (target.Set, error) {
	<-b.resolved

	return b.set, b.err
}

// Begin starts to resolve a selection of nodes that are all named by their addresses, so that a read can ask them while discovery
// answers. It returns nil for any other selection, and where a node may be asked only if it is known. A change never asks a node
// before it is resolved.
func (c *Cluster) Begin(ctx context.Context, s target.Selection, d target.Default) *Begun {
	names := s.Nodes
	if !s.Explicit() && c.Context != nil && d.OfContext() {
		names = c.Context.Nodes
	}

	if len(names) == 0 || c.Options.Insecure || len(c.Options.Allowed) > 0 {
		return nil
	}

	b := &Begun{resolved: make(chan struct{})}

	for _, name := range names {
		address := target.Host(name)
		if _, err := netip.ParseAddr(address); err != nil {
			return nil
		}

		b.Nodes = append(b.Nodes, Target{Address: address, Later: func() Target { return b.at(address) }})
	}

	b.Nodes = target.Sort(b.Nodes)

	go func() {
		defer close(b.resolved)

		b.err = errs.Safely(func() (err error) {
			b.set, err = c.Targets(ctx, s, d)

			return err
		})
	}()

	return b
}

// at is the resolved node at an address.
func (b *Begun) at(address string) Target {
	set, _ := b.Wait() //nolint:errcheck // whoever asks the nodes waits for the error too

	for _, t := range set.Nodes {
		if t.Address == address {
			return t
		}
	}

	return Target{Address: address}
}

// Join gives the outcomes of nodes that were asked by their addresses to the resolved nodes. Of a machine that was asked at several
// addresses one outcome remains. A node whose address is not the one that was named, as with a virtual IP, is asked with fn.
func Join[T any](ctx context.Context, c *Cluster, nodes []Target, outcomes []Outcome[T], fn func(context.Context, *Node) (T, error)) []Outcome[T] {
	at := make(map[string]Outcome[T], len(outcomes))
	for _, o := range outcomes {
		at[o.Target.Address] = o
	}

	moved := Each(ctx, c, lists.Filter(nodes, func(t Target) bool { _, asked := at[t.Address]; return !asked }), fn)
	for _, o := range moved {
		at[o.Target.Address] = o
	}

	return lists.Map(nodes, func(t Target) Outcome[T] {
		out := at[t.Address]
		out.Target = t

		return out
	})
}

func (c *Cluster) targets(ctx context.Context, s target.Selection, d target.Default) (target.Set, error) {
	if c.Options.Insecure {
		if len(s.Nodes) == 0 {
			return target.Set{}, errs.Usagef("--insecure needs the node's address with -n")
		}

		out := target.Set{Source: target.SourceFlags}
		for _, n := range s.Nodes {
			out.Nodes = append(out.Nodes, Target{Address: target.Host(n)})
		}

		out.Nodes = target.Sort(out.Nodes)

		return out, nil
	}

	if !s.Explicit() && c.Context != nil && len(c.Context.Nodes) > 0 && d.OfContext() {
		out, err := c.resolveNames(ctx, c.Context.Nodes)
		out.Source = target.SourceContext

		return out, err
	}

	if len(s.Nodes) > 0 {
		return c.resolveNames(ctx, s.Nodes)
	}

	if !s.Explicit() {
		switch d {
		case target.DefaultNone:
			return target.Set{}, errs.Usagef("no nodes chosen: this command never picks nodes automatically").
				WithHint("name them with -n ADDRESS or HOSTNAME, or choose --controlplanes, --workers or --all-nodes")
		case target.DefaultEndpoint:
			one, _, _ := strings.Cut(strings.Join(c.Options.Endpoints, ","), ",")

			return target.Set{Source: target.SourceEndpoints, Nodes: []Target{{Address: target.Host(one), AnyOf: c.Options.Endpoints}}}, nil
		case target.DefaultControlPlanes:
			s.ControlPlanes = true
		case target.DefaultMembers, target.DefaultCluster:
			s.All = true
		}
	}

	return c.resolveSets(ctx, s)
}

func (c *Cluster) resolveSets(ctx context.Context, s target.Selection) (target.Set, error) {
	members, err := c.Members(ctx)
	if err != nil {
		return c.withoutDiscovery(ctx, s, err)
	}

	if len(members) == 0 {
		return target.Set{}, ErrNoMembers()
	}

	return target.Set{Source: target.SourceMembers, Nodes: target.Sort(c.surely(ctx, s.Among(members)))}, nil
}

// withoutDiscovery serves a certificate that may not read members (os:etcd:backup): it uses etcd's list of control
// planes. Any other failure of discovery is the command's failure.
func (c *Cluster) withoutDiscovery(ctx context.Context, s target.Selection, cause error) (target.Set, error) {
	if conn.KindOf(cause) != errs.KindPermissionDenied || s.Workers {
		return target.Set{}, cause
	}

	list, err := c.Endpoint().EtcdMembers(ctx, false)
	if err != nil {
		return target.Set{}, cause
	}

	out := target.Set{Source: target.SourceEndpoints}

	for _, m := range list {
		if addr := m.Address(); addr != "" {
			out.Nodes = append(out.Nodes, Target{Address: addr, Hostname: m.MemberName, Type: target.ControlPlane})
		}
	}

	out.Nodes = target.Sort(out.Nodes)

	return out, nil
}

// resolveNames turns addresses and names into targets. An address, and a name that DNS knows, works without discovery.
func (c *Cluster) resolveNames(ctx context.Context, names []string) (target.Set, error) {
	members, discoveryErr := c.Members(ctx)
	known := target.NewKnown(members)
	hosts := lists.Map(names, func(name string) Target { return Target{Address: target.Host(name)} })

	// A node that does not say who it is takes time: the others do not wait for it.
	outcomes := fanOut(hosts, c.Options.Concurrency, func(t Target, out *Outcome[Target], leave func()) {
		if _, err := netip.ParseAddr(t.Address); err == nil {
			defer time.AfterFunc(patience, leave).Stop()

			out.Value = c.targetAt(ctx, known, t.Address)
		}
	})

	var nodes []Target

	for _, o := range outcomes {
		t := o.Value

		if t.Address == "" {
			var err error

			t, err = c.targetByName(ctx, known, o.Target.Address)
			if err != nil && discoveryErr != nil {
				err = discoveryErr
			}

			if err != nil {
				return target.Set{}, err
			}
		}

		nodes = append(nodes, t)
	}

	return target.Set{Source: target.SourceFlags, Nodes: target.EachOnce(c.surely(ctx, nodes))}, nil
}

func (c *Cluster) targetByName(ctx context.Context, known target.Known, name string) (Target, error) {
	m, err := c.memberByName(ctx, known.Members, name)
	if err == nil {
		return m.Target(), nil
	}

	if c.Elsewhere != nil {
		if t, found, otherErr := c.Elsewhere(ctx, name); found || otherErr != nil {
			return t, otherErr
		}
	}

	if t, found := c.targetInDNS(ctx, known, name); found {
		return t, nil
	}

	return Target{}, err
}

// targetInDNS finds a node by a name with a domain: by the addresses that DNS has for it, as apid does with the names of
// a talosconfig (Talos, internal/app/apid/pkg/backend/apid.go), else by its first label.
func (c *Cluster) targetInDNS(ctx context.Context, known target.Known, name string) (Target, bool) {
	short, domain, _ := strings.Cut(name, ".")
	if domain == "" {
		return Target{}, false
	}

	ctx, cancel := c.toSayWho(ctx)
	defer cancel()

	addresses, _ := net.DefaultResolver.LookupHost(ctx, name) // a name that DNS does not know may be a member's

	for _, a := range addresses {
		if t := c.targetAt(ctx, known, target.Host(a)); t.ID != "" {
			return t, true
		}
	}

	if found := target.ByName(known.Members, short); len(found) == 1 && len(addresses) == 0 {
		return found[0].Target(), true
	}

	return Target{}, false
}

func (c *Cluster) memberByName(ctx context.Context, members []Member, name string) (*Member, error) {
	found := target.ByName(members, name)
	if len(found) == 0 {
		found = c.membersByKubernetesName(ctx, members, name)
	}

	switch len(found) {
	case 1:
		return &found[0], nil
	case 0:
		return nil, errs.Usagef("there is no node %q", name).WithHint("known nodes: %s", target.Names(members))
	default:
		return nil, errs.Usagef("%q is ambiguous: %s", name, target.Names(found)).WithHint("name the node by its address")
	}
}

// membersByKubernetesName asks every member for its Kubernetes node name, which need not be its hostname.
func (c *Cluster) membersByKubernetesName(ctx context.Context, members []Member, name string) []Member {
	targets := make([]Target, len(members))
	for i, m := range members {
		targets[i] = m.Target()
	}

	var found []Member

	for i, o := range Each(ctx, c, targets, func(ctx context.Context, n *Node) (string, error) { return n.KubernetesName(ctx) }) {
		if o.Err == nil && o.Value == name {
			found = append(found, members[i])
		}
	}

	return found
}
