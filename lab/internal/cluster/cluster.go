package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/talosmate/talosmate/lab/internal/apid"
	"github.com/talosmate/talosmate/lab/internal/etcd"
	"github.com/talosmate/talosmate/lab/internal/faults"
	"github.com/talosmate/talosmate/lab/internal/images"
	"github.com/talosmate/talosmate/lab/internal/kubebed"
	"github.com/talosmate/talosmate/lab/internal/machine"
	"github.com/talosmate/talosmate/lab/internal/machined"
	"github.com/talosmate/talosmate/lab/internal/pki"
	"github.com/talosmate/talosmate/lab/internal/rbac"
	"github.com/talosmate/talosmate/lab/internal/recording"
)

// The recordings that nodes answer from: a healthy cluster, and from 1.14 on the resources of one with that release.
const (
	recordingVersion = "talos-v1.13.8"
	recording114     = "talos-v1.14.0-rc.1"
)

// Cluster is a running lab.
type Cluster struct {
	Options  Options
	Timeline *Timeline
	Requests *Requests
	Registry *images.Registry
	PKI      *pki.PKI

	foreign  *pki.PKI
	bare     func() (*pki.PKI, error) // the CA of machines without a configuration: no client has it
	subnet   *subnet
	configs  *configs
	members  []*Member
	kubelet  machine.Kubelet
	bed      *kubebed.Bed
	kubelets *kubebed.Kubelet
	stopGC   context.CancelFunc
	vip      *vip // nil without a virtual IP
	extra    map[string][]machine.Extra
	balancer *balancer // nil without a load balancer
}

// Member is one node with its network side.
type Member struct {
	*machine.Node

	API *apid.Server
}

// New makes a cluster and starts nothing.
func New(opts Options, log func(Note)) (*Cluster, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}

	if err := os.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, err
	}

	keys, err := pki.New()
	if err != nil {
		return nil, err
	}

	c := &Cluster{
		Options: opts, PKI: keys,
		Timeline: &Timeline{sink: log}, Requests: &Requests{}, Registry: images.NewRegistry(),
		bare: sync.OnceValues(pki.New),
	}

	total := opts.ControlPlanes + opts.Workers + opts.Maintenance

	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}

	if c.subnet, err = claimSubnet(opts.Subnet, filepath.Join(cache, "talosmate", "lab", "subnets"), total); err != nil {
		return nil, err
	}

	if err := c.addMembers(total); err != nil {
		c.subnet.release()

		return nil, err
	}

	return c, nil
}

// addMembers makes the nodes and what is in front of them.
func (c *Cluster) addMembers(total int) error {
	address, err := c.chooseVIP()
	if err != nil {
		return err
	}

	if address.IsValid() {
		c.vip = newVIP(c, address)
	}

	if c.extra, err = c.chooseExtra(); err != nil {
		return err
	}

	if c.configs, err = newConfigs(c); err != nil {
		return err
	}

	for i := range total {
		if err := c.addMember(i); err != nil {
			return err
		}
	}

	if c.Options.LoadBalancer {
		targets := make([]string, 0, c.Options.ControlPlanes)
		for _, m := range c.members[:c.Options.ControlPlanes] {
			targets = append(targets, m.Address.String())
		}

		c.balancer, err = startBalancer(c.subnet.host(loadBalancerHost), targets)
	}

	return err
}

// nodeName returns the name of the i-th node.
func (c *Cluster) nodeName(i int) string {
	switch {
	case i < c.Options.ControlPlanes:
		return fmt.Sprintf("cp-%d", i+1)
	case i < c.Options.ControlPlanes+c.Options.Workers:
		return fmt.Sprintf("worker-%d", i-c.Options.ControlPlanes+1)
	default:
		return fmt.Sprintf("new-%d", i-c.Options.ControlPlanes-c.Options.Workers+1)
	}
}

// nodeAddress returns the address of the i-th node: .2 for the first, 250 in each /24.
func (c *Cluster) nodeAddress(i int) netip.Addr { return c.subnet.host(i/250<<8 + i%250 + 2) }

func (c *Cluster) nodeType(i int) string {
	if i < c.Options.ControlPlanes {
		return machine.ControlPlane
	}

	return machine.Worker
}

func (c *Cluster) version(name string) string {
	if v := c.Options.Mixed[name]; v != "" {
		return v
	}

	return c.Options.TalosVersion
}

// schematic returns the schematic of the nodes with a version. From 1.14 on all installers come from an Image Factory.
func (c *Cluster) schematic(version string) string {
	if c.Options.Schematic == "" && machine.AtLeast(version, 14) {
		return images.EmptySchematic
	}

	return c.Options.Schematic
}

func (c *Cluster) addMember(i int) error {
	name, address, kind := c.nodeName(i), c.nodeAddress(i), c.nodeType(i)
	configured := i < c.Options.ControlPlanes+c.Options.Workers

	var provider config.Provider

	if configured {
		var err error
		if provider, err = c.configs.of(name, kind, c.version(name)); err != nil {
			return fmt.Errorf("configuration of %s: %w", name, err)
		}
	}

	var member *etcd.Member

	// a node in maintenance mode may become a control plane, so it has a member that is not started
	if c.Options.Etcd && (kind == machine.ControlPlane || !configured) {
		var err error
		if member, err = c.newEtcd(name, address); err != nil {
			return err
		}
	}

	node := machine.New(machine.Config{
		Name: name, Address: address, Number: i + 1, Type: kind, Version: c.version(name), Schematic: c.schematic(c.version(name)),
		Times: machine.Times{
			Install: c.Options.Install, Shutdown: c.Options.Shutdown, Boot: c.Options.Boot, GCAge: c.Options.GCAge,
			Member: c.Options.Member, Learner: c.Options.Learner, Cordon: c.Options.Cordon, Teardown: c.Options.Teardown, Countdown: c.Options.Countdown,
		},
		Seed:      c.Options.Seed,
		Recording: recording.Open(recordingVersion+"/"+recordedAs(kind), c.Rewriter(i, kind)),
		Resources: func(version string) *recording.Set {
			recorded := recordingVersion
			if machine.AtLeast(version, 14) {
				recorded = recording114
			}

			return recording.Open(recorded+"/"+recordedAs(kind), c.Rewriter(i, kind))
		},
		Registry: c.Registry, Etcd: member, Cluster: c, Kubelet: kubeletProxy{c}, Config: provider, Kubernetes: kubernetesVersion,
		RegisterWithKubernetes: c.Options.Kubernetes == "real",
		Bootloader:             c.Options.Bootloader, Partitions: c.Options.Partitions, LVM: c.Options.LVM,
		PlatformConfig: c.Options.PlatformConfig,
		VIP:            c.virtualIP(), Extra: c.extra[name],
	})
	added := &Member{Node: node}

	if c.Options.Discovery == faults.DiscoveryAlone {
		f, err := faults.Parse(faults.Discovery + "=" + faults.DiscoveryAlone)
		if err != nil {
			return err
		}

		node.Faults.Arm(f)
	}

	added.API = apid.New(apid.Config{
		Listen:    func() string { return netip.AddrPortFrom(c.addressNow(added), constants.ApidPort).String() },
		Also:      alsoListens(c.extra[name]),
		Addresses: func() []string { return c.addressesOf(added) },
		Forwards:  node.IsControlPlane,
		Keys: func() (*pki.Node, error) {
			if node.Maintenance() {
				bare, err := c.bare()
				if err != nil {
					return nil, err
				}

				return bare.NodeCertificates(name, net.IP(c.addressNow(added).AsSlice()))
			}

			// a node that was configured for another cluster uses that cluster's CA
			keys, err := pki.FromConfig(node.Config())
			if err != nil {
				return nil, err
			}

			if keys == nil {
				keys = c.PKI
			}

			return keys.NodeCertificates(name, c.certifiedAddresses(node)...)
		},

		Machined: func() *grpc.Server { return machined.New(node, c.PKI).NewServer() },
		Dial:     c.dial,
		Faults:   node.Faults,
		Random:   node.Random,
		Count: func(method string, executed bool) {
			c.Requests.add(name, method[1:], executed, rbac.Mutates(method))
		},
	})
	node.SetAPI(added.API)
	c.members = append(c.members, added)

	return nil
}

func recordedAs(kind string) string {
	if kind == machine.ControlPlane {
		return "cp-1"
	}

	return "worker-1"
}

// Rewriter maps the recorded cluster to this one. The recorded node becomes the i-th node, and the two swap their
// places.
func (c *Cluster) Rewriter(i int, kind string) recording.Rewriter {
	self := 0
	if kind != machine.ControlPlane {
		self = 3
	}

	target := func(recorded int) int {
		switch recorded {
		case self:
			return i
		case i:
			return self
		default:
			return recorded
		}
	}

	return recording.NewRewriter(
		func(octet int) string {
			if octet >= 2 && octet <= 6 {
				return c.nodeAddress(target(octet - 2)).String()
			}

			return c.subnet.host(octet).String()
		},
		func(number int) string { return c.nodeName(target(number - 1)) },
	)
}

func (c *Cluster) newEtcd(name string, address netip.Addr) (*etcd.Member, error) {
	pair, err := c.PKI.EtcdCertificate(name, net.IP(address.AsSlice()), net.IPv4(127, 0, 0, 1))
	if err != nil {
		return nil, err
	}

	return etcd.NewMember(etcd.Config{
		Name: name, Host: address.String(), ClientPort: constants.EtcdClientPort, PeerPort: constants.EtcdPeerPort,
		Dir: filepath.Join(c.Options.Dir, "etcd", name), CA: c.PKI.Bundle.Certs.Etcd.Crt, Cert: pair.Crt, Key: pair.Key,
		QuotaBytes: c.Options.EtcdQuotaBytes,
		Log:        etcdLog{c, name},
		Ended: func(reason string) {
			if m := c.Member(name); m != nil {
				m.EtcdEnded(reason)
			}
		},
	})
}

// etcdLog writes a member's log into its node's log.
type etcdLog struct {
	cluster *Cluster
	name    string
}

func (l etcdLog) Write(p []byte) (int, error) {
	if m := l.cluster.Member(l.name); m != nil {
		return m.LogWriter("etcd").Write(p)
	}

	return len(p), nil
}

// virtualIP is the zero value for none.
func (c *Cluster) virtualIP() netip.Addr {
	if c.vip == nil {
		return netip.Addr{}
	}

	return c.vip.address
}

// certifiedAddresses lists the addresses in the certificate of a node's apid. Talos signs a new one when a control
// plane receives the virtual IP; the lab signs it for all of them. The load balancer's address is one of
// machine.certSANs.
func (c *Cluster) certifiedAddresses(n *machine.Node) []net.IP {
	out := []net.IP{n.Address.AsSlice(), net.IPv4(127, 0, 0, 1)}

	for _, e := range n.Extra() {
		out = append(out, e.Address.AsSlice())
	}

	if !n.IsControlPlane() {
		return out
	}

	if c.vip != nil {
		out = append(out, c.vip.address.AsSlice())
	}

	if c.Options.LoadBalancer {
		out = append(out, c.subnet.host(loadBalancerHost).AsSlice())
	}

	return out
}

// dial returns where a node listens, and what it does with a connection of another node's apid.
func (c *Cluster) dial(target string) (string, apid.Answer) {
	if m := c.Member(target); m != nil {
		return netip.AddrPortFrom(m.Address, constants.ApidPort).String(), c.answer(m)
	}

	if address, err := netip.ParseAddr(target); err == nil {
		return c.dialAddress(address)
	}

	return "", apid.Dead
}

// answer returns what a node does with a connection. It refuses them for the time of --apid-lag after a reboot.
func (c *Cluster) answer(m *Member) apid.Answer {
	switch {
	case !m.Powered(), m.CutOff():
		return apid.Dead
	case c.Options.APIDLag > 0 && m.Rebooted() && m.UpFor() < c.Options.APIDLag:
		return apid.Refuses
	default:
		return apid.Accepts
	}
}

// dialAddress is dial for an address that is not the own address of a node.
func (c *Cluster) dialAddress(address netip.Addr) (string, apid.Answer) {
	listens := netip.AddrPortFrom(address, constants.ApidPort).String()

	if c.vip != nil && address == c.vip.address {
		if holder := c.vip.held(); holder != nil {
			return listens, c.answer(holder)
		}

		return listens, apid.Dead
	}

	if c.balancer != nil && address == c.subnet.host(loadBalancerHost) {
		return listens, apid.Accepts
	}

	for _, m := range c.members {
		for _, e := range m.Extra() {
			if e.Address == address && e.Reachable {
				return listens, c.answer(m)
			}
		}
	}

	return "", apid.Dead
}

// Start boots every node and waits until they are ready.
func (c *Cluster) Start(ctx context.Context) error {
	var initial []string

	if c.Options.Etcd && !c.Options.Unbootstrapped {
		for _, m := range c.members[:c.Options.ControlPlanes] {
			initial = append(initial, m.Etcd.Initial())
		}

		for _, m := range c.members[:c.Options.ControlPlanes] {
			m.SetInitialEtcd(initial)
		}
	}

	group := errgroup.Group{}
	group.SetLimit(32)

	for _, m := range c.members {
		group.Go(func() error {
			m.Boot()

			if !m.Up() {
				return fmt.Errorf("node %s did not come up", m.Name)
			}

			if len(c.members) >= manyNodes {
				return nil
			}

			return m.Prepare()
		})
	}

	if err := group.Wait(); err != nil {
		return err
	}

	if len(initial) > 0 {
		ready, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()

		for _, m := range c.members[:c.Options.ControlPlanes] {
			if err := m.Etcd.Ready(ready); err != nil {
				return err
			}
		}
	}

	if err := c.awaitKubernetes(ctx); err != nil {
		return err
	}

	gc, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stopGC = stop

	if c.vip != nil {
		if err := c.awaitVIP(ctx); err != nil {
			stop()

			return err
		}

		go c.vip.run(gc)
	}

	go c.collectImages(gc)
	go c.watchLeader(gc)

	return nil
}

// vipPoll is the interval at which the start of the lab checks for a control plane that can hold the virtual IP.
const vipPoll = 10 * time.Millisecond

// awaitVIP gives the virtual IP to the first control plane that can hold it. Control planes that wait for a bootstrap
// cannot yet.
func (c *Cluster) awaitVIP(ctx context.Context) error {
	ticker := time.NewTicker(vipPoll)
	defer ticker.Stop()

	for {
		if c.vip.settle(false); c.VIPHolder() != "" || c.Options.Unbootstrapped {
			return nil
		}

		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.New("no control plane can hold the virtual IP")
		}
	}
}

// collectImages runs Talos's image garbage collection on every node, at an interval that follows from its age setting.
func (c *Cluster) collectImages(ctx context.Context) {
	every := min(max(c.Options.GCAge/4, 100*time.Millisecond), 15*time.Minute)

	ticker := time.NewTicker(every)
	defer ticker.Stop()

	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for _, m := range c.members {
				if m.Up() {
					m.CollectImages(now)
				}
			}
		}
	}
}

// leaderPoll is the interval at which the timeline checks for a new etcd leader.
const leaderPoll = 50 * time.Millisecond

// watchLeader writes changes of etcd's leader into the timeline.
func (c *Cluster) watchLeader(ctx context.Context) {
	ticker := time.NewTicker(leaderPoll)
	defer ticker.Stop()

	last := ""

	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}

		for _, m := range c.members {
			if m.Etcd == nil {
				continue
			}

			if leader, self, err := m.Etcd.Leader(); err == nil && leader == self && leader != 0 && m.Name != last {
				last = m.Name
				c.Note(m.Name, "etcd-leader", fmt.Sprintf("%016x", self))
			}
		}
	}
}

// Stop stops the whole cluster.
func (c *Cluster) Stop() {
	if c.stopGC != nil {
		c.stopGC()
	}

	var wg sync.WaitGroup

	for _, m := range c.members {
		wg.Go(func() { m.PowerOff("lab stops") })
	}

	wg.Wait()

	if c.balancer != nil {
		c.balancer.close()
	}

	c.stopKubernetes()
	c.subnet.release()
}

// Members lists the nodes in the order in which they were made.
func (c *Cluster) Members() []*Member { return c.members }

// Member finds a node by name or address.
func (c *Cluster) Member(name string) *Member {
	i := slices.IndexFunc(c.members, func(m *Member) bool { return m.Name == name || m.Address.String() == name })
	if i < 0 {
		return nil
	}

	return c.members[i]
}

// ErrNoNode is returned for a node that does not exist.
var ErrNoNode = errors.New("no such node")

// Find is Member with an error.
func (c *Cluster) Find(name string) (*Member, error) {
	if m := c.Member(name); m != nil {
		return m, nil
	}

	return nil, fmt.Errorf("%w: %q", ErrNoNode, name)
}

// Endpoints lists what the talosconfig names: by default the control planes' addresses.
func (c *Cluster) Endpoints() []string {
	switch c.Options.Endpoints {
	case EndpointLoadBalancer:
		return []string{c.subnet.host(loadBalancerHost).String()}
	case EndpointVIP:
		return []string{c.vip.address.String()}
	}

	var out []string
	for _, m := range c.members[:c.Options.ControlPlanes] {
		out = append(out, m.Address.String())
	}

	return out
}

// Name implements machine.Cluster.
func (c *Cluster) Name() string { return c.Options.Name }

// ID implements machine.Cluster.
func (c *Cluster) ID() string { return c.PKI.Bundle.Cluster.ID }

// Note implements machine.Cluster.
func (c *Cluster) Note(node, event, detail string) {
	c.Timeline.add(Note{Time: time.Now().UTC(), Node: node, Event: event, Detail: detail})
}

// Peers implements machine.Cluster: every configured node, even while it is down.
func (c *Cluster) Peers() []machine.Peer {
	var out []machine.Peer

	for _, m := range c.members {
		if m.Maintenance() {
			continue
		}

		out = append(out, machine.Peer{
			Name: m.Hostname(), Address: m.Address, Addresses: m.Addresses(), Type: m.Type(), Version: m.Version(), NodeID: m.Identity(),
			ControlPlane: m.IsControlPlane(), Node: m.Node,
		})
	}

	return out
}

// Changed implements machine.Cluster.
func (c *Cluster) Changed(node *machine.Node) {
	if node != nil {
		c.ServicesChanged(node)
	}

	var watching []*Member

	for _, m := range c.members {
		if m.Watched() {
			watching = append(watching, m)
		}
	}

	if len(watching) == 0 {
		return
	}

	peers := c.Peers()
	for _, m := range watching {
		m.PeersChanged(peers)
	}
}

// MadeByStateMachine reports whether a resource comes from a node's state, not from the recordings.
func (c *Cluster) MadeByStateMachine(typ, id string) bool { return machine.MakesResource(typ, id) }
