package talos

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Members are the nodes that discovery lists, and the control planes that only etcd lists: discovery may be disabled, cut
// off from its service, or without a node whose hostname another one has. They are read once and kept for the run. The
// list is empty when nobody lists a node. Roles: reader, operator, admin.
func (c *Cluster) Members(ctx context.Context) ([]Member, error) {
	c.mu.Lock()
	if c.members == nil {
		c.members = sync.OnceValues(func() (list []Member, err error) {
			list, c.virtual, err = c.discover(ctx)

			return list, err
		})
	}

	ask := c.members
	c.mu.Unlock()

	members, err := ask()
	if err != nil {
		c.mu.Lock()
		c.members = nil
		c.mu.Unlock()
	}

	return slices.Clone(members), err
}

// VirtualIPs are the addresses that move between nodes. Discovery has asked for them if a member has several addresses;
// otherwise a control plane is asked once, within limit. They are empty when none answers, which the gates of etcd report.
func (c *Cluster) VirtualIPs(ctx context.Context, limit time.Duration) []string {
	if _, err := c.Members(ctx); err != nil || c.virtual != nil {
		return c.virtual
	}

	c.mu.Lock()
	if c.vips == nil {
		c.vips = sync.OnceValue(func() []string {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()

			vips, _ := c.Endpoint().VirtualIPs(ctx)

			return vips
		})
	}

	ask := c.vips
	c.mu.Unlock()

	return ask()
}

// Relist reads the members again, for a wait that looks for a change among them. Roles: reader, operator, admin.
func (c *Cluster) Relist(ctx context.Context) ([]Member, error) {
	list, _, err := c.discover(ctx)

	return list, err
}

// ErrNoMembers is the error of a command that wants all nodes where none is listed.
func ErrNoMembers() error {
	return errs.New(errs.Failed, "neither discovery nor etcd lists a node of the cluster").WithHint("name the nodes with -n")
}

// etcdGrace is the least that etcd may take for its answer after discovery's: without a leader it gives none.
const etcdGrace = 300 * time.Millisecond

// discover lists the members, and the virtual IPs where a member has several addresses.
func (c *Cluster) discover(ctx context.Context) (list []Member, virtual []string, err error) {
	ctx, cancel := c.withTimeout(ctx, 0)
	defer cancel()

	asked, stop := context.WithCancel(ctx)
	defer stop()

	voters := make(chan []EtcdMember, 1)

	go func() {
		var list []EtcdMember

		_ = errs.Safely(func() (err error) { // discovery's list stands alone then
			list, err = c.Endpoint().EtcdMembers(asked, false)

			return err
		})

		voters <- list
	}()

	start := time.Now()

	list, err = c.Endpoint().Members(ctx)
	if err != nil {
		stop()
		<-voters

		return nil, nil, err
	}

	// The question ends before this function does, answered or not.
	patience := time.AfterFunc(max(etcdGrace, 2*time.Since(start)), stop)
	defer patience.Stop()

	etcd := <-voters

	virtual = c.settle(ctx, list, etcd)

	return withVoters(list, etcd), virtual, nil
}

// settle replaces the first address of each member that has several by its own. It returns the virtual IPs.
func (c *Cluster) settle(ctx context.Context, list []Member, etcd []EtcdMember) []string {
	if !slices.ContainsFunc(list, func(m Member) bool { return len(m.Addresses) > 1 }) {
		return nil
	}

	vips, err := c.Endpoint().VirtualIPs(ctx)
	if err == nil && vips == nil {
		vips = []string{}
	}

	announced := map[string]int{}

	for _, m := range list {
		for _, a := range m.Addresses {
			announced[a]++
		}
	}

	for i, m := range list {
		e := target.Evidence{Endpoints: c.Options.Endpoints, Virtual: vips, Moves: err == nil}

		for _, a := range m.Addresses {
			if announced[a] > 1 {
				e.Others = append(e.Others, a)
			}
		}

		for _, v := range etcd {
			if m.Target().Has(v.Address()) || v.MemberName == m.Hostname {
				e.Etcd = v.Address()
			}
		}

		list[i].Node, list[i].Sure = e.Own(m.Addresses)
	}

	lists.Sort(list, byAddress)

	return vips
}

func byAddress(a, b Member) int { return target.CompareAddresses(a.Node, b.Node) }

// withVoters adds the control planes that only etcd lists.
func withVoters(list []Member, etcd []EtcdMember) []Member {
	for _, v := range etcd {
		t := Target{Address: v.Address(), Hostname: v.MemberName}
		if t.Address == "" || slices.ContainsFunc(list, func(m Member) bool { return m.Is(t) }) {
			continue
		}

		list = append(list, Member{
			NodeRef: NodeRef{Node: t.Address, Hostname: t.Hostname}, Addresses: []string{t.Address}, Type: target.ControlPlane, Source: target.FromEtcd,
		})
	}

	lists.Sort(list, byAddress)

	return list
}

// Members reads the Member resources of the node.
func (n *Node) Members(ctx context.Context) ([]Member, error) {
	list, err := n.Resources(ctx, "cluster", "Members.cluster.talos.dev")
	if err != nil {
		return nil, err
	}

	out := make([]Member, 0, len(list))

	for _, r := range list {
		spec, err := Decode[struct {
			Addresses       []string `json:"addresses"`
			Hostname        string   `json:"hostname"`
			MachineType     string   `json:"machineType"`
			OperatingSystem string   `json:"operatingSystem"`
			NodeID          string   `json:"nodeId"`
		}](r)
		if err != nil {
			return nil, n.Fail("read the members", err)
		}

		if len(spec.Addresses) == 0 {
			continue
		}

		out = append(out, Member{
			NodeRef: NodeRef{Node: spec.Addresses[0], Hostname: spec.Hostname}, Addresses: spec.Addresses, Type: spec.MachineType,
			OperatingSystem: spec.OperatingSystem, TalosVersion: versionIn(spec.OperatingSystem), NodeID: spec.NodeID,
			Source: target.FromDiscovery, Sure: len(spec.Addresses) == 1,
		})
	}

	lists.Sort(out, byAddress)

	return out, nil
}

// versionIn extracts v1.13.9 from "Talos (v1.13.9)".
func versionIn(operatingSystem string) string {
	_, after, ok := strings.Cut(operatingSystem, "(")
	if !ok {
		return ""
	}

	return strings.TrimSuffix(after, ")")
}

// KubernetesName reads the node's Kubernetes node name, empty when the node is not a Kubernetes member: before it has
// joined, or with machine.kubelet.skipNodeRegistration.
func (n *Node) KubernetesName(ctx context.Context) (string, error) {
	r, err := n.Resource(ctx, "k8s", "Nodenames.kubernetes.talos.dev", "nodename")
	if conn.KindOf(err) == errs.KindNotFound {
		return "", nil
	}

	if err != nil {
		return "", err
	}

	spec, err := Decode[struct {
		Nodename             string `json:"nodename"`
		SkipNodeRegistration bool   `json:"skipNodeRegistration"`
	}](r)
	if err != nil || spec.SkipNodeRegistration {
		return "", n.Fail("read the Kubernetes node name", err)
	}

	return spec.Nodename, nil
}
