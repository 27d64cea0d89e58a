package talos

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Targets resolves a selection. Discovery is read only when it is needed: for names, for sets, or for the hostnames in
// the output. Targets are sorted by address and unique.
func (c *Cluster) Targets(ctx context.Context, s target.Selection, d target.Default) (target.Set, error) {
	if c.Options.Insecure {
		if len(s.Nodes) == 0 {
			return target.Set{}, errs.Usagef("--insecure needs the node's address with -n")
		}

		out := target.Set{Source: target.SourceFlags}
		for _, n := range s.Nodes {
			out.Nodes = append(out.Nodes, Target{Address: strings.Trim(n, "[]")})
		}

		out.Nodes = target.Sort(out.Nodes)

		return out, nil
	}

	if !s.Explicit() && c.Context != nil && len(c.Context.Nodes) > 0 && d != target.DefaultNone {
		members, _ := c.Members(ctx) // resolveNames asks again, for the error

		out, err := c.resolveNames(ctx, target.Known(members, c.Context.Nodes))
		out.Source = target.SourceContext

		if d == target.DefaultControlPlanes {
			out.Nodes = slices.DeleteFunc(out.Nodes, func(t Target) bool { return t.Type == target.Worker })
		}

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
		case target.DefaultMembers:
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

	return target.Set{Source: target.SourceMembers, Nodes: s.Among(members)}, nil
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
		if addr := m.address(); addr != "" {
			out.Nodes = append(out.Nodes, Target{Address: addr, Hostname: m.MemberName, Type: target.ControlPlane})
		}
	}

	out.Nodes = target.Sort(out.Nodes)

	return out, nil
}

// resolveNames turns addresses and names into targets. An address works without discovery; a name must be in it.
func (c *Cluster) resolveNames(ctx context.Context, names []string) (target.Set, error) {
	members, discoveryErr := c.Members(ctx)
	out := target.Set{Source: target.SourceFlags}

	for _, name := range names {
		if address, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
			out.Nodes = append(out.Nodes, c.targetAt(ctx, members, address.Unmap().String()))

			continue
		}

		if discoveryErr != nil {
			return target.Set{}, discoveryErr
		}

		t, err := c.targetByName(ctx, members, name)
		if err != nil {
			return target.Set{}, err
		}

		out.Nodes = append(out.Nodes, t)
	}

	out.Nodes = target.EachOnce(out.Nodes)

	return out, nil
}

// whoLimit bounds how long a node at an unknown address may take to identify itself.
const whoLimit = 5 * time.Second

// targetAt is the node at an address. Nodes can have addresses that they do not announce, behind NAT or a load
// balancer. The node there is asked which member it is: a control plane that is not recognised would pass every gate
// that guards etcd.
func (c *Cluster) targetAt(ctx context.Context, members []Member, address string) Target {
	out := Target{Address: address}

	m := target.ByAddress(members, address)
	if m == nil && len(members) > 0 {
		ctx, cancel := context.WithTimeout(ctx, whoLimit)
		defer cancel()

		// A node that does not answer stays unknown: it cannot be changed either.
		if id, err := c.Node(out).identity(ctx); err == nil && id != "" {
			if i := slices.IndexFunc(members, func(m Member) bool { return m.NodeID == id }); i >= 0 {
				m = &members[i]
			}
		}
	}

	if m != nil {
		out = m.Target()
		out.Address = address
	}

	return out
}

// identity reads the node's discovery identity. Roles: reader, operator, admin.
func (n *Node) identity(ctx context.Context) (string, error) {
	spec, err := resourceSpec[struct {
		NodeID string `json:"nodeId"`
	}](ctx, n, "cluster", "Identities.cluster.talos.dev", "local")

	return spec.NodeID, err
}

func (c *Cluster) targetByName(ctx context.Context, members []Member, name string) (Target, error) {
	m, err := c.memberByName(ctx, members, name)
	if err == nil {
		return m.Target(), nil
	}

	if c.Elsewhere != nil {
		if t, found, otherErr := c.Elsewhere(ctx, name); found || otherErr != nil {
			return t, otherErr
		}
	}

	return Target{}, err
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
