package machine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/config/machine"
	"github.com/siderolabs/talos/pkg/machinery/extensions"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	configres "github.com/siderolabs/talos/pkg/machinery/resources/config"
	etcdres "github.com/siderolabs/talos/pkg/machinery/resources/etcd"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	servicesres "github.com/siderolabs/talos/pkg/machinery/resources/v1alpha1"

	"github.com/talosmate/talosmate/lab/internal/cosi"
	"github.com/talosmate/talosmate/lab/internal/faults"
)

// State returns the node's resources, which are made at the first use after each boot.
func (n *Node) State(ctx context.Context) (*cosi.State, error) {
	peers := n.cluster.Peers()

	n.mu.Lock()
	defer n.mu.Unlock()

	if n.state != nil {
		return n.state, nil
	}

	if err := n.loadSeeds(); err != nil {
		return nil, err
	}

	n.state = cosi.NewState(n.seeds, n.bootTime)

	if err := n.fillState(ctx, peers); err != nil {
		n.state = nil

		return nil, err
	}

	return n.state, nil
}

// replaced lists the recorded types that the state machine makes itself.
func replaced(typ resource.Type) bool {
	switch typ {
	case cluster.MemberType, cluster.AffiliateType, servicesres.ServiceType, k8s.NodeStatusType, k8s.NodenameType,
		runtime.MachineStatusType, runtime.VersionType, runtime.ExtensionStatusType, etcdres.MemberType,
		k8s.KubeletSpecType, runtime.PlatformMetadataType, runtime.SecurityStateType, cluster.IdentityType, configres.MachineTypeType,
		k8s.StaticPodStatusType:
		return true
	default:
		return false
	}
}

// joinedOnly lists namespaces that stay empty until a node is configured.
func joinedOnly(md resource.Metadata) bool {
	switch md.Namespace() {
	case "k8s", "controlplane", "cluster", "etcd", "kubespan":
		return true
	default:
		return false
	}
}

// Prepare reads the recorded resources, which takes long enough to delay the first request.
func (n *Node) Prepare() error {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.loadSeeds()
}

func (n *Node) loadSeeds() error {
	version := n.versionTag()
	if n.seeds != nil && n.seedsOf == version {
		return nil
	}

	raw, err := n.resources(version).Resources()
	if err != nil {
		return err
	}

	seeds, err := cosi.ParseSeeds(raw)
	if err != nil {
		return err
	}

	n.seeds = seeds.Without(func(md resource.Metadata) bool { return replaced(md.Type()) || metalReplaces(md) })
	n.seedsOf = version

	return nil
}

// put writes a resource. A failure is recorded in the timeline.
func (n *Node) put(res resource.Resource, owner string) {
	if err := n.state.Put(context.Background(), res, owner); err != nil {
		n.cluster.Note(n.Name, "error", "resource "+res.Metadata().String()+": "+err.Error())
	}
}

// remove destroys a resource if it exists. A failure is recorded in the timeline.
func (n *Node) remove(ptr resource.Pointer) {
	if err := n.state.Remove(context.Background(), ptr); err != nil {
		n.cluster.Note(n.Name, "error", err.Error())
	}
}

// fillState adds the resources of the state machine to a new state.
func (n *Node) fillState(ctx context.Context, peers []Peer) error {
	slot := n.running()

	if n.config == nil {
		seeds := n.seeds.Without(joinedOnly)
		n.state = cosi.NewState(seeds, n.bootTime)
	}

	version := runtime.NewVersion()
	version.TypedSpec().Name = "Talos"
	version.TypedSpec().Version = n.versionTag()
	n.put(version, "runtime.VersionController")

	security := runtime.NewSecurityStateSpec(runtime.NamespaceName)
	security.TypedSpec().SecureBoot = slot.SecureBoot
	security.TypedSpec().BootedWithUKI = n.bootsUKI()

	if n.bootsUKI() {
		security.TypedSpec().SELinuxState = runtime.SELinuxStatePermissive // the UKIs of the Image Factory have selinux=1
	}

	n.put(security, "runtime.SecurityStateController")

	if !n.kexec {
		n.selected = entryOf(slot)
	}

	if n.bootsUKI() {
		entry := runtime.NewBootedEntrySpec()
		entry.TypedSpec().BootedEntry = entryOf(slot)
		n.put(entry, "runtime.BootedEntryController")
	}

	platform := runtime.NewPlatformMetadataSpec(runtime.NamespaceName, runtime.PlatformMetadataID)
	platform.TypedSpec().Platform = n.platformName()
	n.put(platform, "network.PlatformConfigApplyController")

	cmdline := runtime.NewKernelCmdline()
	cmdline.TypedSpec().Cmdline = n.cmdline()
	n.put(cmdline, "runtime.KernelCmdlineController")

	n.putExtensions(slot)
	n.putHardware()
	n.putTime()
	n.putBlock()
	n.put114(slot)

	n.putMachineType()

	if n.config != nil {
		n.putJoined(peers)
	}

	n.putServices()
	n.putInstaller()
	n.putMachineStatus()

	return ctx.Err()
}

func entryOf(s Slot) string { return "Talos-" + s.Version + ".efi" }

// bootsUKI reports whether the boot loader is systemd-boot, which boots UKIs; GRUB boots a kernel and an initramfs. It
// needs n.mu held.
func (n *Node) bootsUKI() bool {
	loader := n.bootloader
	if f, ok := n.Faults.Get(faults.Bootloader); ok {
		loader = f.Value
	}

	if loader == "" {
		return n.running().SecureBoot
	}

	return loader == faults.SystemdBoot
}

func (n *Node) platformName() string {
	if p := n.running().Platform; p != "" {
		return p
	}

	return "metal"
}

// kernelCmdline is what the kernel was started with.
func (n *Node) kernelCmdline() string {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.cmdline()
}

// cmdline needs n.mu held.
func (n *Node) cmdline() string {
	out := "talos.platform=" + n.platformName() + " console=tty0 init_on_alloc=1 slab_nomerge pti=on consoleblank=0 nvme_core.io_timeout=4294967295 printk.devkmsg=on selinux=1 module.sig_enforce=1"

	if n.platform && n.platformName() == "metal" {
		out += " talos.config=https://config.example.com/metal.yaml"
	}

	return out
}

// PlatformName is the platform that Talos was built for.
func (n *Node) PlatformName() string {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.platformName()
}

func (n *Node) versionTag() string { return n.running().Version }

func (n *Node) putExtensions(slot Slot) {
	for i, ext := range slot.Extensions {
		res := runtime.NewExtensionStatus(runtime.NamespaceName, strconv.Itoa(i))
		res.TypedSpec().Image = fmt.Sprintf("%03d.%s-%s.sqsh", i, ext.Name, ext.Version)
		res.TypedSpec().Metadata = extensions.Metadata{
			Name: ext.Name, Version: ext.Version, Author: ext.Author, Description: ext.Description,
			Compatibility: extensions.Compatibility{Talos: extensions.Constraint{Version: ">= v1.0.0"}},
		}

		if ext.Name == "schematic" {
			res.TypedSpec().Image = ""
			res.TypedSpec().Metadata.ExtraInfo = ext.ExtraInfo
			res.TypedSpec().Metadata.Compatibility = extensions.Compatibility{}
		}

		n.put(res, "runtime.ExtensionStatusController")
	}
}

// putMachineType shows the type, which is unknown without a configuration.
func (n *Node) putMachineType() {
	res := configres.NewMachineType()
	if n.config != nil {
		res.SetMachineType(machineTypeOf(n.nodeType))
	}

	n.put(res, "config.MachineTypeController")
}

func (n *Node) putJoined(peers []Peer) {
	identity := cluster.NewIdentity(cluster.NamespaceName, cluster.LocalIdentity)
	identity.TypedSpec().NodeID = n.identity
	n.put(identity, "cluster.NodeIdentityController")

	nodename := k8s.NewNodename(k8s.NamespaceName, k8s.NodenameID)
	nodename.TypedSpec().Nodename = nodenameOf(n.hostname)
	nodename.TypedSpec().HostnameVersion = "1"
	nodename.TypedSpec().SkipNodeRegistration = !n.kubernetes
	n.put(nodename, "k8s.NodenameController")

	n.putConfig()
	n.putHostname()
	n.putAddresses()
	n.putPeers(peers)

	n.putKubeletSpec()

	n.putRendered()
	n.putStaticPods()

	if n.kubeStatus != nil {
		n.putNodeStatus(*n.kubeStatus)
	}

	if n.Etcd != nil {
		n.putEtcdSpec()

		n.putEtcdMember()
	}
}

// putKubeletSpec shows the kubelet's image, which no container shows.
func (n *Node) putKubeletSpec() {
	res := k8s.NewKubeletSpec(k8s.NamespaceName, k8s.KubeletID)
	res.TypedSpec().Image = "ghcr.io/siderolabs/kubelet:" + n.Kube
	res.TypedSpec().ExpectedNodename = nodenameOf(n.hostname)
	res.TypedSpec().Config = map[string]any{"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}

	if n.rendersConfig() && n.config.K8sKubeletConfig() != nil {
		k := n.config.K8sKubeletConfig()
		maps.Copy(res.TypedSpec().Config, k.ExtraConfig())
		res.TypedSpec().Config["seccompDefault"], res.TypedSpec().ExtraMounts = k.DefaultRuntimeSeccompProfileEnabled(), k.ExtraMounts()

		if len(k.ClusterDNS()) > 0 {
			res.TypedSpec().Config["clusterDNS"] = k.ClusterDNS()
		}

		for _, flag := range slices.Sorted(maps.Keys(k.ExtraArgs())) {
			for _, value := range k.ExtraArgs()[flag] {
				res.TypedSpec().Args = append(res.TypedSpec().Args, "--"+flag+"="+value)
			}
		}
	}

	n.put(res, "k8s.KubeletSpecController")
}

// putEtcdMember publishes the node's member, while its service runs and is healthy; otherwise machined has no member.
func (n *Node) putEtcdMember() {
	member := etcdres.NewMember(etcdres.NamespaceName, etcdres.LocalMemberID)

	if id, ok := n.etcdMemberID(); ok {
		member.TypedSpec().MemberID = etcdres.FormatMemberID(id)
		n.put(member, "etcd.MemberController")
	} else {
		n.remove(member.Metadata())
	}
}

func (n *Node) etcdMemberID() (uint64, bool) {
	if s := n.services["etcd"]; s == nil || s.State != ServiceRunning || !s.Healthy {
		return 0, false
	}

	_, self, err := n.Etcd.Leader()

	return self, err == nil
}

// EtcdMemberID is the ID of the node's own member, which machined has only while the service runs and is healthy.
func (n *Node) EtcdMemberID() (uint64, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.etcdMemberID()
}

func (n *Node) putHostname() {
	res := network.NewHostnameStatus(network.NamespaceName, network.HostnameID)
	res.TypedSpec().Hostname = n.hostname
	n.put(res, "network.HostnameSpecController")
}

func (n *Node) putConfig() {
	if n.config != nil {
		n.put(configres.NewMachineConfig(n.config), "config.AcquireController")
		n.putDHCP()
	}

	if n.persisted != nil {
		n.put(configres.NewMachineConfigWithID(n.persisted, configres.PersistentID), "config.PersistenceController")
	}
}

func machineTypeOf(nodeType string) machine.Type {
	if nodeType == ControlPlane {
		return machine.TypeControlPlane
	}

	return machine.TypeWorker
}

func (n *Node) putServices() {
	for _, id := range n.serviceOrder() {
		s := n.services[id]
		res := servicesres.NewService(id)
		res.TypedSpec().Running = s.State == ServiceRunning
		res.TypedSpec().Healthy = s.Healthy
		res.TypedSpec().Unknown = s.Unknown

		if s.State == ServiceRunning {
			n.put(res, "v1alpha1.ServiceController")
		} else {
			n.remove(res.Metadata())
		}
	}

	if n.Etcd != nil {
		n.putEtcdMember()
	}

	if n.config != nil {
		n.putStaticPodStatuses()
	}
}

func (n *Node) putMachineStatus() {
	status := runtime.NewMachineStatus()
	status.TypedSpec().Stage = n.stage
	status.TypedSpec().Status.UnmetConditions = n.unmet
	status.TypedSpec().Status.Ready = len(n.unmet) == 0
	n.put(status, "runtime.MachineStatusController")
}

// put114 adds resources that are new in Talos 1.14.
func (n *Node) put114(slot Slot) {
	if !AtLeast(slot.Version, 14) {
		return
	}

	boot := runtime.NewBootID()
	boot.TypedSpec().BootID = n.bootID
	n.put(boot, "runtime.BootIDController")

	if n.config != nil && n.config.UnattendedInstallConfig() != nil {
		status := runtime.NewUnattendedInstallStatus()
		status.TypedSpec().Image, status.TypedSpec().Phase = n.installerOf(n.config), runtime.UnattendedInstallPhaseInstalled
		n.put(status, "runtime.UnattendedInstallController")
	}

	for _, l := range n.layers() {
		n.put(l, "storage.LVMController")
	}

	if slot.Schematic == "" {
		return
	}

	schematic := runtime.NewImageFactorySchematic(runtime.NamespaceName, runtime.ImageFactorySchematicID)
	spec := schematic.TypedSpec()
	spec.SchematicID, spec.Flavor, spec.APIURL = slot.Schematic, slot.Platform, "https://factory.talos.dev"

	if slot.SecureBoot {
		spec.Flavor += "-secureboot"
	}

	n.put(schematic, "runtime.ImageFactorySchematicController")
}

// AtLeast reports whether a version is 1.minor or newer.
func AtLeast(version string, minor int) bool {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return false
	}

	major, err := strconv.Atoi(parts[0])
	if err != nil {
		return false
	}

	m, err := strconv.Atoi(parts[1])

	return err == nil && (major > 1 || major == 1 && m >= minor)
}

// HasLifecycleAPI reports whether the running Talos has ImageService and LifecycleService.
func (n *Node) HasLifecycleAPI() bool { return n.AtLeast(13) }

// AtLeast reports whether the running Talos is of this minor version of 1, or newer.
func (n *Node) AtLeast(minor int) bool { return AtLeast(n.Version(), minor) }

// refresh recomputes readiness as Talos's MachineStatusController does and publishes changes. It needs n.mu held.
func (n *Node) refresh() {
	if n.state != nil {
		n.putServices()
	}

	unmet := n.readiness()

	event := &machineapi.MachineStatusEvent{
		Stage:  eventStage(n.stage),
		Status: &machineapi.MachineStatusEvent_MachineStatus{Ready: len(unmet) == 0},
	}

	for _, u := range unmet {
		event.Status.UnmetConditions = append(event.Status.UnmetConditions,
			&machineapi.MachineStatusEvent_MachineStatus_UnmetCondition{Name: u.Name, Reason: u.Reason})
	}

	if n.stage == runtime.MachineStageRunning && len(unmet) == 0 {
		n.confirmUpgrade()
	}

	n.unmet = unmet
	n.events.publishStatus(event)

	if n.state != nil {
		n.putMachineStatus()
	}
}

// publishStatus adds a status event unless it equals the last one.
func (e *Events) publishStatus(event *machineapi.MachineStatusEvent) {
	text := event.String()

	e.mu.Lock()
	same := e.lastStatus == text
	e.lastStatus = text
	e.mu.Unlock()

	if !same {
		e.Publish("", event)
	}
}

func (n *Node) readiness() []runtime.UnmetCondition {
	if n.stage != runtime.MachineStageBooting && n.stage != runtime.MachineStageRunning {
		return nil
	}

	var unmet []runtime.UnmetCondition

	required := []string{"apid", "machined", "kubelet"}
	if n.nodeType == ControlPlane {
		required = append(required, "trustd")

		if n.Etcd != nil {
			required = append(required, "etcd")
		}
	}

	var problems []string

	for _, id := range n.serviceOrder() {
		if s := n.services[id]; s.State == ServiceRunning && !s.Unknown && !s.Healthy {
			problems = append(problems, id+" not healthy")
		}
	}

	for _, id := range required {
		if s := n.services[id]; s == nil || s.State != ServiceRunning {
			problems = append(problems, id+" not running")
		}
	}

	if len(problems) > 0 {
		unmet = append(unmet, runtime.UnmetCondition{Name: "services", Reason: strings.Join(problems, ", ")})
	}

	if n.kubernetes && n.config != nil && !n.k8sReady {
		reason := fmt.Sprintf("node %q status is not available yet", n.hostname)
		if len(n.history.Boots) > 1 {
			reason = fmt.Sprintf("node %q is not ready", n.hostname)
		}

		unmet = append(unmet, runtime.UnmetCondition{Name: "nodeReady", Reason: reason})
	}

	return unmet
}

// KubernetesStatus is called by the Kubernetes side whenever the node changes there.
func (n *Node) KubernetesStatus(status NodeStatus) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.k8sReady = status.Ready && n.up
	n.kubeStatus = &status
	n.refresh()

	if n.state != nil {
		n.putNodeStatus(status)
	}
}

func (n *Node) putNodeStatus(status NodeStatus) {
	name := nodenameOf(n.hostname)
	res := k8s.NewNodeStatus(k8s.NamespaceName, name)
	spec := res.TypedSpec()
	spec.Nodename, spec.NodeReady, spec.Unschedulable = name, status.Ready, status.Unschedulable
	spec.Labels, spec.Annotations = status.Labels, status.Annotations
	n.put(res, "k8s.NodeStatusController")
	n.putStaticPodStatuses()
}

func conditionStatus(holds bool) string {
	if holds {
		return "True"
	}

	return "False"
}

func eventStage(stage runtime.MachineStage) machineapi.MachineStatusEvent_MachineStage {
	switch stage {
	case runtime.MachineStageBooting:
		return machineapi.MachineStatusEvent_BOOTING
	case runtime.MachineStageInstalling:
		return machineapi.MachineStatusEvent_INSTALLING
	case runtime.MachineStageMaintenance:
		return machineapi.MachineStatusEvent_MAINTENANCE
	case runtime.MachineStageRunning:
		return machineapi.MachineStatusEvent_RUNNING
	case runtime.MachineStageRebooting:
		return machineapi.MachineStatusEvent_REBOOTING
	case runtime.MachineStageShuttingDown:
		return machineapi.MachineStatusEvent_SHUTTING_DOWN
	case runtime.MachineStageResetting:
		return machineapi.MachineStatusEvent_RESETTING
	case runtime.MachineStageUpgrading:
		return machineapi.MachineStatusEvent_UPGRADING
	default:
		return machineapi.MachineStatusEvent_UNKNOWN
	}
}

// MakesResource reports whether the state machine makes a resource itself.
func MakesResource(typ resource.Type, id resource.ID) bool {
	if typ == network.HostnameStatusType {
		return true
	}

	return replaced(typ) || metalReplaces(resource.NewMetadata("", typ, id, resource.VersionUndefined))
}
