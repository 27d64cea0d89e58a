package talos

import (
	"context"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
)

// NodeRef names the node a row is about. Every row embeds it.
type NodeRef struct {
	Node     string `json:"node"`               // The address that was asked.
	Hostname string `json:"hostname,omitempty"` // The Talos hostname, where known.
}

// SetNode fills in the reference.
func (r *NodeRef) SetNode(t Target) { r.Node, r.Hostname = t.Address, t.Hostname }

// NodeName is the hostname where known, else the address.
func (r NodeRef) NodeName() string {
	if r.Hostname != "" {
		return r.Hostname
	}

	return r.Node
}

// Ref returns the target's reference.
func (r NodeRef) Ref() NodeRef { return r }

// Machine types, as Talos names them.
const (
	ControlPlane = "controlplane"
	Worker       = "worker"
)

// Target is a node that a command reads or changes.
type Target struct {
	Address   string   // The address to ask.
	Hostname  string   // The Talos hostname, if known.
	Type      string   // controlplane, worker, or empty when unknown.
	Addresses []string // All known addresses.
	AnyOf     []string // Endpoints of which any may answer for itself; Address is set afterwards.
}

// Name is the hostname if known, else the address.
func (t Target) Name() string {
	if t.Hostname != "" {
		return t.Hostname
	}

	return t.Address
}

// Selection is the user's choice of nodes.
type Selection struct {
	Nodes         []string // Addresses, Talos hostnames or Kubernetes node names.
	ControlPlanes bool
	Workers       bool
	All           bool
}

// Explicit reports whether the user chose any nodes.
func (s Selection) Explicit() bool {
	return len(s.Nodes) > 0 || s.ControlPlanes || s.Workers || s.All
}

// Default selects the nodes of a read for which the user chose none.
type Default int

// The defaults.
const (
	DefaultNone          Default = iota // None: the user has to choose.
	DefaultMembers                      // The context's nodes, else every discovered member.
	DefaultControlPlanes                // The control planes among the context's nodes, else every discovered one.
	DefaultEndpoint                     // The context's nodes, else one endpoint that answers.
)

// Sources of a selection, as the document names them.
const (
	SourceFlags     = "flags"
	SourceContext   = "context"
	SourceMembers   = "members"
	SourceEndpoints = "endpoints"
)

// Targets are resolved nodes with the source of the selection.
type Targets struct {
	Source string
	Nodes  []Target
}

// Addresses lists the targets' addresses.
func (t Targets) Addresses() []string {
	out := make([]string, len(t.Nodes))
	for i, n := range t.Nodes {
		out[i] = n.Address
		if len(n.AnyOf) > 0 {
			return n.AnyOf
		}
	}

	return out
}

// Targets resolves a selection. Discovery is read only when it is needed: for names, for sets, or for the hostnames in
// the output. Targets are sorted by address and unique.
func (c *Cluster) Targets(ctx context.Context, s Selection, d Default) (Targets, error) {
	if c.Options.Insecure {
		if len(s.Nodes) == 0 {
			return Targets{}, errs.Usagef("--insecure needs the node's address with -n")
		}

		out := Targets{Source: SourceFlags}
		for _, n := range s.Nodes {
			out.Nodes = append(out.Nodes, Target{Address: strings.Trim(n, "[]")})
		}

		out.Nodes = sortTargets(out.Nodes)

		return out, nil
	}

	if !s.Explicit() && c.Context != nil && len(c.Context.Nodes) > 0 && d != DefaultNone {
		out, err := c.resolveNames(ctx, c.contextNodes(ctx))
		out.Source = SourceContext

		if d == DefaultControlPlanes {
			out.Nodes = slices.DeleteFunc(out.Nodes, func(t Target) bool { return t.Type == Worker })
		}

		return out, err
	}

	if len(s.Nodes) > 0 {
		return c.resolveNames(ctx, s.Nodes)
	}

	if !s.Explicit() {
		switch d {
		case DefaultNone:
			return Targets{}, errs.Usagef("no nodes chosen: this command never picks nodes automatically").
				WithHint("name them with -n ADDRESS or HOSTNAME, or choose --controlplanes, --workers or --all-nodes")
		case DefaultEndpoint:
			return Targets{Source: SourceEndpoints, Nodes: []Target{{Address: hostOf(firstOr(c.Options.Endpoints, "")), AnyOf: c.Options.Endpoints}}}, nil
		case DefaultControlPlanes:
			s.ControlPlanes = true
		case DefaultMembers:
			s.All = true
		}
	}

	return c.resolveSets(ctx, s)
}

func (c *Cluster) resolveSets(ctx context.Context, s Selection) (Targets, error) {
	out := Targets{Source: SourceMembers}

	members, err := c.Members(ctx)
	if err != nil {
		return c.withoutDiscovery(ctx, s, err)
	}

	for _, m := range members {
		if s.All || (s.ControlPlanes && m.Type == ControlPlane) || (s.Workers && m.Type == Worker) {
			out.Nodes = append(out.Nodes, m.Target())
		}
	}

	out.Nodes = sortTargets(out.Nodes)

	return out, nil
}

// withoutDiscovery serves a certificate that may not read members (os:etcd:backup): it uses etcd's list of control
// planes. Any other failure of discovery is the command's failure.
func (c *Cluster) withoutDiscovery(ctx context.Context, s Selection, cause error) (Targets, error) {
	if KindOf(cause) != errs.KindPermissionDenied || s.Workers {
		return Targets{}, cause
	}

	list, err := c.Endpoint().EtcdMembers(ctx, false)
	if err != nil {
		return Targets{}, cause
	}

	out := Targets{Source: SourceEndpoints}

	for _, m := range list {
		if addr := m.address(); addr != "" {
			out.Nodes = append(out.Nodes, Target{Address: addr, Hostname: m.MemberName, Type: ControlPlane})
		}
	}

	out.Nodes = sortTargets(out.Nodes)

	return out, nil
}

// resolveNames turns addresses and names into targets. An address works without discovery; a name must be in it.
func (c *Cluster) resolveNames(ctx context.Context, names []string) (Targets, error) {
	members, discoveryErr := c.Members(ctx)
	out := Targets{Source: SourceFlags}

	for _, name := range names {
		if address, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
			out.Nodes = append(out.Nodes, c.targetAt(ctx, members, address.Unmap().String()))

			continue
		}

		if discoveryErr != nil {
			return Targets{}, discoveryErr
		}

		t, err := c.targetByName(ctx, members, name)
		if err != nil {
			return Targets{}, err
		}

		out.Nodes = append(out.Nodes, t)
	}

	out.Nodes = eachOnce(out.Nodes)

	return out, nil
}

// contextNodes are the context's nodes. A name with a domain that no member has matches the member with its first
// label: the cluster is not in question here, unlike with a name on the command line.
func (c *Cluster) contextNodes(ctx context.Context) []string {
	members, err := c.Members(ctx)
	out := slices.Clone(c.Context.Nodes)

	for i, name := range out {
		short, domain, _ := strings.Cut(name, ".")
		if _, addrErr := netip.ParseAddr(name); err != nil || domain == "" || addrErr == nil {
			continue
		}

		if !slices.ContainsFunc(members, func(m Member) bool { return m.Hostname == name }) &&
			slices.ContainsFunc(members, func(m Member) bool { return m.Hostname == short }) {
			out[i] = short
		}
	}

	return out
}

// whoLimit bounds how long a node at an unknown address may take to identify itself.
const whoLimit = 5 * time.Second

// targetAt is the node at an address. Nodes can have addresses that they do not announce, behind NAT or a load
// balancer. The node there is asked which member it is: a control plane that is not recognised would pass every gate
// that guards etcd.
func (c *Cluster) targetAt(ctx context.Context, members []Member, address string) Target {
	out := Target{Address: address}

	m := memberByAddress(members, address)
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

// eachOnce sorts targets and keeps the first of those that are one node under several of its addresses: it must not be
// changed twice.
func eachOnce(all []Target) []Target {
	var out []Target

	for _, t := range all {
		if !slices.ContainsFunc(out, t.same) {
			out = append(out, t)
		}
	}

	return sortTargets(out)
}

// same reports whether two targets are known to be one node.
func (t Target) same(o Target) bool {
	return slices.ContainsFunc(append([]string{t.Address}, t.Addresses...), func(a string) bool {
		return a == o.Address || slices.Contains(o.Addresses, a)
	})
}

func (c *Cluster) targetByName(ctx context.Context, members []Member, name string) (Target, error) {
	m, err := c.memberByName(ctx, members, name)
	if err == nil {
		return m.Target(), nil
	}

	if c.Options.Elsewhere != nil {
		if t, found, otherErr := c.Options.Elsewhere(ctx, name); found || otherErr != nil {
			return t, otherErr
		}
	}

	return Target{}, err
}

func (c *Cluster) memberByName(ctx context.Context, members []Member, name string) (*Member, error) {
	var found []Member

	for _, m := range members {
		short, _, _ := strings.Cut(m.Hostname, ".")
		if m.Hostname == name || short == name {
			found = append(found, m)
		}
	}

	if len(found) == 0 {
		found = c.membersByKubernetesName(ctx, members, name)
	}

	switch len(found) {
	case 1:
		return &found[0], nil
	case 0:
		return nil, errs.Usagef("there is no node %q", name).WithHint("known nodes: %s", memberNames(members))
	default:
		return nil, errs.Usagef("%q is ambiguous: %s", name, memberNames(found)).WithHint("name the node by its address")
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

func memberByAddress(members []Member, addr string) *Member {
	for i, m := range members {
		if slices.ContainsFunc(m.Addresses, func(a string) bool { return CompareAddresses(a, addr) == 0 }) {
			return &members[i]
		}
	}

	return nil
}

func memberNames(members []Member) string {
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.Hostname + " (" + m.Target().Address + ")"
	}

	sort.Strings(names)

	return strings.Join(names, ", ")
}

// sortTargets orders by address, numerically, and drops duplicates.
func sortTargets(all []Target) []Target {
	slices.SortStableFunc(all, func(a, b Target) int { return CompareAddresses(a.Address, b.Address) })

	return slices.CompactFunc(all, func(a, b Target) bool { return a.Address == b.Address })
}

// CompareAddresses orders addresses by number and other names by text.
func CompareAddresses(a, b string) int {
	x, xerr := netip.ParseAddr(a)
	y, yerr := netip.ParseAddr(b)

	if xerr == nil && yerr == nil {
		return x.Compare(y)
	}

	return strings.Compare(a, b)
}

func firstOr(list []string, otherwise string) string {
	if len(list) == 0 {
		return otherwise
	}

	return list[0]
}
