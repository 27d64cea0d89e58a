// Package machine is the state machine of one simulated Talos node: slots, boots, services, images, disks,
// configuration and everything else that the answers of the API depend on. It does not depend on gRPC.
package machine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"github.com/talosmate/talosmate/lab/internal/cosi"
	"github.com/talosmate/talosmate/lab/internal/etcd"
	"github.com/talosmate/talosmate/lab/internal/faults"
	"github.com/talosmate/talosmate/lab/internal/images"
	"github.com/talosmate/talosmate/lab/internal/recording"
)

// The kinds of node.
const (
	ControlPlane = "controlplane"
	Worker       = "worker"
)

// ErrLocked is returned while another sequence runs.
var ErrLocked = errors.New("another sequence is in progress")

// Extension is one system extension of an installed Talos.
type Extension struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	Author      string `json:"author,omitempty"`
	Description string `json:"description,omitempty"`
	ExtraInfo   string `json:"extra_info,omitempty"`
}

// Slot is one of the two places in which Talos is installed.
type Slot struct {
	Version    string      `json:"version"`
	Image      string      `json:"image"`
	Schematic  string      `json:"schematic,omitempty"`
	Platform   string      `json:"platform"`
	SecureBoot bool        `json:"secure_boot"`
	Extensions []Extension `json:"extensions"`
	// Torn is set for a slot whose installer was killed: it is half written and does not boot.
	Torn bool `json:"torn,omitempty"`
}

// Empty reports whether nothing was installed in the slot.
func (s Slot) Empty() bool { return s.Version == "" }

// Times are the durations of a node's operations.
type Times struct {
	Install  time.Duration
	Shutdown time.Duration
	Boot     time.Duration
	// Member is how long a reset waits for the node's own etcd member to be healthy.
	Member time.Duration
	// Learner is how long a joining etcd member stays a learner.
	Learner time.Duration
	// Cordon is how long a shutdown waits for the node to be cordoned, Teardown how long a sequence waits for volumes
	// that something holds, and Countdown how long a node waits before it reboots because of a failed sequence.
	Cordon    time.Duration
	Teardown  time.Duration
	Countdown time.Duration
	// GCAge is how long an unreferenced image in the system store is kept.
	GCAge time.Duration
}

// Peer is another node as discovery shows it.
type Peer struct {
	// Name is the hostname.
	Name    string
	Address netip.Addr
	// Addresses are all that it announces, in Talos's order; Address is the node's own.
	Addresses    []netip.Addr
	Type         string
	Version      string
	NodeID       string
	ControlPlane bool
	// Node is the simulated node itself.
	Node *Node
}

// Cluster is what a node can read of the other nodes.
type Cluster interface {
	// Name is the cluster's name.
	Name() string
	// ID is the cluster's discovery ID.
	ID() string
	// Peers lists the nodes in discovery.
	Peers() []Peer
	// Changed notifies the other nodes of a changed peer.
	Changed(node *Node)
	// ServicesChanged is called when the kubelet or etcd of a node starts, stops or changes its health. It does not block.
	ServicesChanged(node *Node)
	// KubeletStopped is called when a sequence has stopped a node's kubelet. It returns once the virtual IP has left the
	// node.
	KubeletStopped(node *Node)
	// Note adds a line to the lab's timeline.
	Note(node, event, detail string)
}

// API is the node's network side: the apid that listens on its address.
type API interface {
	Up(maintenance bool) error
	// Down ends it: gracefully, with pending answers still sent, or immediately.
	Down(inOrder bool)
	// Hang holds all data of its connections, or lets it pass again.
	Hang(on bool)
}

// Kubelet is the node's Kubernetes side; nil if the lab runs no Kubernetes.
type Kubelet interface {
	// Start makes the Kubernetes node report again, with the boot ID and versions of this boot.
	Start(node *Node)
	// Stop ends its heartbeats.
	Stop(node *Node)
	// Cordon and Uncordon work for machined; Cordon returns false when the node was already cordoned.
	Cordon(ctx context.Context, node *Node) (bool, error)
	Uncordon(ctx context.Context, node *Node) error
	// Drain evicts the pods.
	Drain(ctx context.Context, node *Node) error
	// RunAPIServer starts the API server that the node rendered. It does not wait.
	RunAPIServer(node *Node, s APIServer)
	// Status reads the node from Kubernetes.
	Status(ctx context.Context, node *Node) (NodeStatus, bool)
}

// NodeStatus is the Kubernetes node as Talos mirrors it in a resource.
type NodeStatus struct {
	Ready         bool
	Unschedulable bool
	Labels        map[string]string
	Annotations   map[string]string
}

// Config configures a node.
type Config struct {
	Name      string
	Address   netip.Addr
	Number    int // 1 for the first node
	Type      string
	Version   string
	Schematic string
	Times     Times
	Seed      int64
	Recording *recording.Set
	// Resources are the recorded resources of a Talos version.
	Resources  func(version string) *recording.Set
	Registry   *images.Registry
	Etcd       *etcd.Member
	Cluster    Cluster
	Kubelet    Kubelet
	Config     config.Provider // nil for a node in maintenance mode
	Kubernetes string          // version of the kubelet
	// RegisterWithKubernetes is false for a kubelet that does not join a cluster.
	RegisterWithKubernetes bool
	// PlatformConfig is set for a platform that gives the node its first configuration at any time.
	PlatformConfig bool
	// Bootloader is grub or systemd-boot; empty for the one that fits the image.
	Bootloader string
	// Partitions are volumes with partitions of their own, for Talos 1.14 and later.
	Partitions []string
	// LVM is set for a node with LVM devices and a RAID array, from Talos 1.14 on.
	LVM bool
	// VIP is the virtual IP of the control planes; the zero value for none.
	VIP netip.Addr
	// Extra are addresses in addition to Address.
	Extra []Extra
}

// Node is one simulated node.
type Node struct {
	Name      string
	Address   netip.Addr
	Number    int
	Recording *recording.Set
	Registry  *images.Registry
	Etcd      *etcd.Member
	Faults    *faults.Set
	Images    *images.Store
	Times     Times
	Kube      string

	cluster Cluster
	kubelet Kubelet
	api     API

	installLock sync.Mutex

	mu         sync.Mutex
	random     *rand.Rand
	nodeType   string
	powered    bool
	up         bool
	ended      chan struct{} // closed when the boot ends
	generation int           // counts boots, so that timers of an earlier boot can be ignored
	sequence   string
	stage      runtime.MachineStage
	unmet      []runtime.UnmetCondition
	bootID     string
	bootTime   time.Time
	upTime     time.Time // since when the API listens
	history    History

	slots       [2]Slot
	defaultSlot int
	runningSlot int
	// kexec is set while a boot came up past the firmware, and selected is the entry that systemd-boot started last.
	kexec      bool
	selected   string
	installing bool // an installer runs
	confirmed  bool // this boot was ready, so an upgrade before it is not reverted
	fresh      bool // the default slot was installed and never booted
	staged     *stagedUpgrade

	config    config.Provider // the active configuration
	persisted config.Provider // the configuration of the next boot
	first     config.Provider // the configuration that a platform gives
	platform  bool            // the platform gives it
	try       *time.Timer
	cut       bool // the configuration in force cuts the node off its network

	services   map[string]*Service
	failing    map[string]string
	stopped    map[string]bool
	events     *Events
	logs       map[string]*Log
	containers []Container
	files      *FileTree
	meta       map[uint8]string

	diskSize   int64
	diskBase   int64
	identity   string
	k8sReady   bool
	kubeStatus *NodeStatus // the last state of the node in Kubernetes in this boot
	kubernetes bool        // the node registers with Kubernetes
	// kubernetesRuns reports whether the lab runs a Kubernetes to register with.
	kubernetesRuns  bool
	hostname        string
	bootloader      string
	partitionLabels []string // volumes with partitions of their own
	withLayers      bool     // LVM devices and a RAID array
	layersGone      map[string]bool
	vip             netip.Addr
	extra           []Extra
	vipHeld         bool
	vipSeen         bool // the virtual IP was here in this boot
	iso             Slot // what a machine without an installed Talos boots
	bootstrapping   bool
	adminKubeconfig []byte
	etcdWanted      bool // the member belongs to a cluster and starts at boot
	initialEtcd     []string
	learner         bool // The etcd member does not vote yet.
	memberSkew      bool
	loggedBefore    map[string]bool
	kmsg            []string
	kmsgMore        chan struct{}

	state *cosi.State
	// seeds are the recorded resources of the Talos that was booted.
	seeds     *cosi.Seeds
	seedsOf   string
	resources func(version string) *recording.Set

	rendered       map[string]rendering // The static pods of the control plane as they were rendered last.
	apiServerDown  bool                 // The API server does not come up with the configuration in force.
	proxyLoses     bool                 // kube-proxy is rendered without its first object with the configuration in force.
	apiServerExits bool                 // The real API server exits with it.
}

// History is the history of a node, for tests.
type History struct {
	Boots    []time.Time     `json:"boots"`
	Reboots  []time.Time     `json:"reboots"`
	Installs []InstallRecord `json:"installs"`
}

// InstallRecord is one run of an installer.
type InstallRecord struct {
	Time      time.Time `json:"time"`
	Image     string    `json:"image"`
	Version   string    `json:"version"`
	Slot      string    `json:"slot"`
	ExitCode  int       `json:"exit_code"`
	OverRuns  bool      `json:"overwrote_running_slot"`
	Lifecycle bool      `json:"lifecycle"`
	// Torn is set if the node went down while the installer ran.
	Torn bool `json:"torn,omitempty"`
}

type stagedUpgrade struct {
	manifest images.Manifest
	image    string
}

// New makes a node that is powered off.
func New(cfg Config) *Node {
	n := &Node{
		Name: cfg.Name, Address: cfg.Address, Number: cfg.Number,
		Recording: cfg.Recording, Registry: cfg.Registry, Etcd: cfg.Etcd, Times: cfg.Times, Kube: cfg.Kubernetes,
		Images:  images.NewStore(),
		cluster: cfg.Cluster, kubelet: cfg.Kubelet, resources: cfg.Resources,
		nodeType:       cfg.Type,
		random:         rand.New(rand.NewPCG(uint64(cfg.Seed), uint64(cfg.Number))),
		config:         cfg.Config,
		persisted:      cfg.Config,
		first:          cfg.Config,
		platform:       cfg.PlatformConfig,
		rendered:       map[string]rendering{},
		services:       map[string]*Service{},
		failing:        map[string]string{},
		stopped:        map[string]bool{},
		events:         NewEvents(),
		ended:          make(chan struct{}),
		kmsgMore:       make(chan struct{}),
		logs:           map[string]*Log{},
		meta:           map[uint8]string{},
		diskSize:       100 << 30,
		diskBase:       2 << 30,
		kubernetes:     cfg.RegisterWithKubernetes,
		kubernetesRuns: cfg.RegisterWithKubernetes,
		hostname:       cfg.Name,
		iso:            Slot{Version: cfg.Version, Platform: "metal", Schematic: cfg.Schematic},
		etcdWanted:     cfg.Etcd != nil,
		bootloader:     cfg.Bootloader,
		withLayers:     cfg.LVM,
		layersGone:     map[string]bool{},
		vip:            cfg.VIP,
		extra:          cfg.Extra,
	}

	if AtLeast(cfg.Version, 14) {
		n.partitionLabels = cfg.Partitions // the partitions are made once, at the installation
	}

	n.Faults = faults.NewSet(func(event, detail string) {
		n.note(event, detail)
		n.discoveryFault(event, detail)
	})
	n.identity = n.nodeIdentity()

	if cfg.Config != nil {
		n.preinstall(cfg.Version, cfg.Schematic)
	}

	n.files = newFileTree(n)
	n.initLogs()

	return n
}

// InstallerImage returns the installer of a version: the Image Factory's for a schematic, else Talos's own.
func InstallerImage(version, schematic string) string {
	if schematic == "" {
		return "ghcr.io/siderolabs/installer:" + version
	}

	return "factory.talos.dev/metal-installer/" + schematic + ":" + version
}

// preinstall installs the first Talos into slot A, with its images.
func (n *Node) preinstall(version, schematic string) {
	image := InstallerImage(version, schematic)

	n.slots[0] = Slot{Version: version, Image: image, Schematic: schematic, Platform: "metal", Extensions: extensionsOf(schematic)}

	now := time.Now().Add(-time.Hour)

	for _, name := range []string{image, "ghcr.io/siderolabs/kubelet:" + n.Kube} {
		n.preload(images.System, name, now)
	}

	if n.nodeType == ControlPlane {
		n.preload(images.System, n.etcdImage(), now)
		n.preload(images.CRI, "registry.k8s.io/kube-apiserver:"+n.Kube, now)
		n.preload(images.CRI, "registry.k8s.io/kube-controller-manager:"+n.Kube, now)
		n.preload(images.CRI, "registry.k8s.io/kube-scheduler:"+n.Kube, now)
	}

	n.preload(images.CRI, "registry.k8s.io/pause:3.10", now)
	n.preload(images.CRI, "registry.k8s.io/kube-proxy:"+n.Kube, now)
	n.preload(images.CRI, "ghcr.io/siderolabs/flannel:v0.27.4", now)
}

func (n *Node) preload(ns images.Namespace, name string, at time.Time) {
	ref, err := images.ParseReference(name)
	if err != nil {
		return
	}

	m := images.Describe(ref)
	n.Registry.Publish(m)

	var labels map[string]string
	if ns == images.CRI {
		labels = map[string]string{"io.cri-containerd.image": "managed"}

		if ref.Path() == "pause" {
			labels[images.PinnedLabel] = "pinned"
		}
	}

	n.Images.Pull(ns, m, at, labels)
}

// extensionsOf lists the extensions of an image with a schematic: the schematic's extensions, and the virtual one that
// names it. The content of a schematic that the lab does not know is made up.
func extensionsOf(id string) []Extension {
	if id == "" {
		return nil
	}

	schematic, known := images.FindSchematic(id)
	text := schematic.YAML()

	if !known {
		schematic, _ = images.NewSchematic("iscsi-tools", "util-linux-tools") // both are known
		text = ""
	}

	out := make([]Extension, 0, len(schematic.Extensions)+1)
	for _, e := range schematic.Extensions {
		out = append(out, Extension{Name: e.Name, Version: e.Version, Author: e.Author, Description: e.Description})
	}

	return append(out, Extension{
		Name: "schematic", Version: id, Author: "Image Factory", ExtraInfo: text,
		Description: "Virtual extension which specifies the schematic of the image built with Image Factory.",
	})
}

// SetAPI sets the node's network side.
func (n *Node) SetAPI(api API) { n.api = api }

func (n *Node) note(event, detail string) { n.cluster.Note(n.Name, event, detail) }

// Type is controlplane or worker.
func (n *Node) Type() string {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.nodeType
}

// IsControlPlane reports whether the node is a control plane.
func (n *Node) IsControlPlane() bool { return n.Type() == ControlPlane }

// Running is the Talos that the node booted, from its slot or from an installation medium.
func (n *Node) Running() Slot {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.running()
}

func (n *Node) running() Slot {
	if slot := n.slots[n.runningSlot]; !slot.Empty() {
		return slot
	}

	return n.iso
}

// Version is the running Talos version.
func (n *Node) Version() string { return n.Running().Version }

// Maintenance reports whether the node has no configuration yet.
func (n *Node) Maintenance() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.config == nil
}

// Config is the active machine configuration; nil in maintenance mode.
func (n *Node) Config() config.Provider {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.config
}

// Up reports whether the node's API listens.
func (n *Node) Up() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.up
}

// UpFor is how long the node's API has listened in this boot; zero while it does not.
func (n *Node) UpFor() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()

	if !n.up {
		return 0
	}

	return time.Since(n.upTime)
}

// Rebooted reports whether this is not the node's first boot.
func (n *Node) Rebooted() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return len(n.history.Boots) > 1
}

// Powered reports whether the node has power.
func (n *Node) Powered() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.powered
}

// BootID is the kernel's boot ID.
func (n *Node) BootID() string {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.bootID
}

// BootTime is when the kernel booted.
func (n *Node) BootTime() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.bootTime
}

// Now is the time of the node's own clock.
func (n *Node) Now() time.Time {
	now := time.Now()
	if f, ok := n.Faults.Get(faults.ClockSkew); ok {
		now = now.Add(f.Dur)
	}

	return now
}

// Events is the event stream of this boot.
func (n *Node) Events() *Events {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.events
}

// Services returns copies of the services as ServiceList answers them.
func (n *Node) Services() []*machineapi.ServiceInfo {
	n.mu.Lock()
	defer n.mu.Unlock()

	var out []*machineapi.ServiceInfo

	for _, id := range n.serviceOrder() {
		out = append(out, n.services[id].Proto())
	}

	return out
}

func (n *Node) serviceOrder() []string {
	ids := make([]string, 0, len(n.services))
	for id := range n.services {
		ids = append(ids, id)
	}

	slices.Sort(ids)

	return ids
}

// Registered reports whether the node registers with Kubernetes.
func (n *Node) Registered() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.kubernetes
}

// Disk is the size and free space of the EPHEMERAL volume.
func (n *Node) Disk() (size, free int64) {
	n.mu.Lock()
	size, base := n.diskSize, n.diskBase
	n.mu.Unlock()

	if _, full := n.Faults.Get(faults.DiskFull); full {
		return size, 0
	}

	return size, max(size-base-n.Images.Used(), 0)
}

// Random returns a number in [0,1) from the node's seeded source.
func (n *Node) Random() float64 {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.random.Float64()
}

func (n *Node) newUUID() string {
	var b [16]byte
	for i := range b {
		b[i] = byte(n.random.UintN(256))
	}

	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80

	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// ActorID makes an ID for a request, as machined does.
func (n *Node) ActorID() string {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.newUUID()
}

func (n *Node) nodeIdentity() string {
	const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

	b := make([]byte, 44)
	for i := range b {
		b[i] = alphabet[n.random.IntN(len(alphabet))]
	}

	return string(b)
}

// Identity is the node's discovery ID.
func (n *Node) Identity() string {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.identity
}

// Hostname is the node's name, which its configuration may change.
func (n *Node) Hostname() string {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.hostname
}

// Watched reports whether any client has read the node's resources since it booted.
func (n *Node) Watched() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.state != nil
}
