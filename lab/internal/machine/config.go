package machine

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configdiff"
	"github.com/siderolabs/talos/pkg/machinery/config/container"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"github.com/talosmate/talosmate/lab/internal/faults"
	"github.com/talosmate/talosmate/lab/internal/images"
)

// adoptType takes type and name from the configuration. It needs n.mu held.
func (n *Node) adoptType() {
	if n.config == nil || n.config.Machine() == nil {
		return
	}

	if n.config.Machine().Type().IsControlPlane() {
		n.nodeType = ControlPlane
	} else {
		n.nodeType = Worker
	}

	n.hostname = hostnameOf(n.config, n.Name)
	node := n.config.K8sNodeConfig()
	n.kubernetes = n.kubernetesRuns && (node == nil || !node.SkipNodeRegistration())

	if n.Etcd != nil && n.Etcd.Empty() {
		n.Etcd.Rename(n.hostname)
	}

	n.initLogs()
}

// hostnameOf reads the name from a configuration, or falls back to the lab's own.
func hostnameOf(cfg config.Provider, fallback string) string {
	if h := cfg.NetworkHostnameConfig(); h != nil && h.Hostname() != "" {
		return h.Hostname()
	}

	return fallback
}

// Installed reports whether Talos is on the disk.
func (n *Node) Installed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return !n.slots[0].Empty() || !n.slots[1].Empty()
}

// CanApplyImmediately returns the reason why a configuration needs a reboot. The fields that do not need one are those
// that Talos lists in its runtime.
func (n *Node) CanApplyImmediately(next config.Provider) error {
	current := n.Config()
	if current == nil {
		return errors.New("no current config")
	}

	was := current.RawV1Alpha1()
	if was == nil {
		return errors.New("current config is not v1alpha1")
	}

	raw := next.RawV1Alpha1()
	if raw == nil {
		return errors.New("new config is not v1alpha1")
	}

	will := raw.DeepCopy()
	will.ConfigDebug = was.ConfigDebug
	will.ClusterConfig = was.ClusterConfig

	if to, from := will.MachineConfig, was.MachineConfig; to != nil && from != nil {
		to.MachineCA, to.MachineAcceptedCAs, to.MachineCertSANs = from.MachineCA, from.MachineAcceptedCAs, from.MachineCertSANs
		to.MachineTime, to.MachineInstall, to.MachineNetwork = from.MachineTime, from.MachineInstall, from.MachineNetwork //nolint:staticcheck // as Talos
		to.MachineSysfs, to.MachineSysctls, to.MachineLogging = from.MachineSysfs, from.MachineSysctls, from.MachineLogging
		to.MachineControlPlane, to.MachineKubelet, to.MachineKernel = from.MachineControlPlane, from.MachineKubelet, from.MachineKernel
		to.MachineRegistries, to.MachinePods, to.MachineSeccompProfiles = from.MachineRegistries, from.MachinePods, from.MachineSeccompProfiles //nolint:staticcheck // as Talos
		to.MachineNodeAnnotations, to.MachineNodeLabels, to.MachineNodeTaints = from.MachineNodeAnnotations, from.MachineNodeLabels, from.MachineNodeTaints

		if f, t := from.MachineFeatures, to.MachineFeatures; f != nil && t != nil {
			t.KubernetesTalosAPIAccessConfig, t.KubePrismSupport = f.KubernetesTalosAPIAccessConfig, f.KubePrismSupport
			t.HostDNSSupport, t.ImageCacheSupport = f.HostDNSSupport, f.ImageCacheSupport
			t.FeatureNodeAddressSortAlgorithm = f.FeatureNodeAddressSortAlgorithm
		}
	}

	if reflect.DeepEqual(was, will) {
		return nil
	}

	diff, err := configdiff.DiffConfigs(container.NewV1Alpha1(was), container.NewV1Alpha1(will))
	if err != nil {
		return fmt.Errorf("error calculating diff: %w", err)
	}

	return fmt.Errorf("this config change can't be applied in immediate mode\ndiff:\n%s", diff)
}

// CancelTry keeps a configuration that was on trial, as any other apply does.
func (n *Node) CancelTry() {
	n.mu.Lock()
	defer n.mu.Unlock()

	if n.try != nil {
		n.try.Stop()
		n.try = nil
	}
}

// ApplyTry runs a configuration that is reverted after the timeout.
func (n *Node) ApplyTry(next config.Provider, timeout time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()

	back, generation := n.config, n.generation

	if n.try != nil {
		n.try.Stop()
	}

	n.try = time.AfterFunc(timeout, func() {
		n.mu.Lock()
		defer n.mu.Unlock()

		if n.generation != generation || n.try == nil {
			return
		}

		n.try = nil
		n.setConfig(back)
		n.cluster.Note(n.Name, "config-reverted", timeout.String())
	})
	n.setConfig(next)
	n.cluster.Note(n.Name, "config", "try")
}

// setConfig activates a configuration. It needs n.mu held.
func (n *Node) setConfig(next config.Provider) {
	n.config = next
	n.adoptType()
	n.connect(n.generation, cutAfter)

	if n.state != nil {
		n.putConfig()
		n.putHostname()
		n.putKubeletSpec()
		n.putRendered()
		n.putStaticPods()
	}

	n.refresh()
}

// ApplyNow persists a configuration and activates it.
func (n *Node) ApplyNow(next config.Provider) {
	_, down := n.Faults.Take(faults.APIServerDown)
	_, loses := n.Faults.Take(faults.ProxyLoses)

	n.mu.Lock()
	n.persisted, n.apiServerDown, n.proxyLoses = next, down, loses
	n.setConfig(next)
	n.mu.Unlock()

	n.note("config", "applied")
	n.cluster.Changed(n)
}

// ApplyStaged persists a configuration for the next boot.
func (n *Node) ApplyStaged(next config.Provider) {
	n.mu.Lock()
	n.persisted = next

	if n.state != nil {
		n.putConfig()
	}
	n.mu.Unlock()

	n.note("config", "staged")
}

// ApplyWithReboot persists a configuration and reboots into it.
func (n *Node) ApplyWithReboot(next config.Provider) {
	n.ApplyStaged(next)
	n.Reboot("", RebootDefault)
}

// Configure gives a node in maintenance mode its first configuration: Talos is installed if it is not, and the boot
// continues.
func (n *Node) Configure(next config.Provider) {
	n.mu.Lock()
	n.persisted = next
	generation := n.generation
	n.sequence = "initialize"
	n.mu.Unlock()

	n.note("config", "first configuration")

	go func() {
		// the answer to the request is sent first
		if !n.pause(generation, n.Times.Shutdown) {
			return
		}

		if !n.Installed() {
			n.firstInstall(generation, next)

			return
		}

		n.api.Down(true)

		n.mu.Lock()
		n.config = n.persisted
		n.adoptType()
		n.sequence = "boot"
		n.stage = runtime.MachineStageBooting
		n.state = nil
		n.seeds = nil
		n.resetContainers()

		for _, id := range n.serviceIDs() {
			if n.services[id] == nil && (id != "etcd" || n.Etcd != nil) {
				n.services[id] = &Service{ID: id, State: ServiceWaiting, Unknown: true, Events: []ServiceEvent{
					{State: ServiceStarting, Message: "Starting service", Time: time.Now()},
				}}
			}
		}

		n.etcdWanted = n.Etcd != nil && n.nodeType == ControlPlane
		n.mu.Unlock()

		n.bootServices(generation, false, false)
	}()
}

// installerOf returns the installer that a configuration names. A document without an image takes the one of the running
// Talos.
func (n *Node) installerOf(cfg config.Provider) string {
	if doc := cfg.UnattendedInstallConfig(); doc != nil {
		if image := doc.InstallerImage(); image != "" {
			return image
		}

		return InstallerImage(n.iso.Version, n.iso.Schematic)
	}

	if cfg.Machine() == nil {
		return ""
	}

	return cfg.Machine().Install().Image()
}

// firstInstall installs Talos to the disk and reboots from it.
func (n *Node) firstInstall(generation int, cfg config.Provider) {
	n.setStage(runtime.MachineStageInstalling)
	n.publishSequence("", "install", machineapi.SequenceEvent_START)

	if !n.pause(generation, n.Times.Install) {
		return
	}

	image := n.installerOf(cfg)

	slot := Slot{Version: n.iso.Version, Image: image, Platform: "metal"}

	if ref, err := images.ParseReference(image); err == nil {
		if m, err := n.Registry.Resolve(ref); err == nil && m.Installer != nil {
			slot.Version, slot.Schematic, slot.Platform = m.Installer.Version, m.Installer.Schematic, m.Installer.Platform
		}
	}

	n.mu.Lock()
	slot.Extensions = extensionsOf(slot.Schematic)
	n.slots = [2]Slot{slot, {}}
	n.defaultSlot, n.runningSlot = 0, 0
	n.etcdWanted = n.Etcd != nil && cfg.Machine() != nil && cfg.Machine().Type().IsControlPlane()
	n.mu.Unlock()

	now := time.Now()
	if image != "" {
		n.preload(images.System, image, now)
	}

	n.preload(images.System, "ghcr.io/siderolabs/kubelet:"+n.Kube, now)
	n.note("install", strings.TrimSpace(image+" (first)"))
	n.restart("installed", false)
}

// PutMeta writes a META key.
func (n *Node) PutMeta(key uint8, value string) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.meta[key] = value
}

// DeleteMeta removes a META key and reports whether it existed.
func (n *Node) DeleteMeta(key uint8) bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	_, ok := n.meta[key]
	delete(n.meta, key)

	return ok
}
