package machine

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"github.com/talosmate/talosmate/lab/internal/images"
)

// ResetPlan describes what a reset erases.
type ResetPlan struct {
	Graceful bool
	Reboot   bool
	// Labels are the partitions of the system disk to erase; with none, and SystemDisk set, it is the whole disk.
	Labels     []string
	SystemDisk bool
	UserDisks  []string
	// Leave makes the node's member leave etcd.
	Leave func(context.Context) error
}

// Reset runs the reset sequence in the background.
func (n *Node) Reset(actor string, plan ResetPlan) {
	generation, err := n.begin("reset")
	if err != nil {
		n.logf("machined", "reset failed: %s", err)

		return
	}

	n.note("reset", fmt.Sprintf("graceful=%t reboot=%t labels=%s disk=%t user-disks=%s",
		plan.Graceful, plan.Reboot, strings.Join(plan.Labels, ","), plan.SystemDisk, strings.Join(plan.UserDisks, ",")))

	go func() {
		n.publishSequence(actor, "reset", machineapi.SequenceEvent_START)
		n.setStage(runtime.MachineStageResetting)

		if plan.Graceful {
			// these phases have error handlers: the sequence continues
			if err := n.cordonAndDrain(actor); err != nil {
				n.logf("machined", "task cordonAndDrainNode (1/1): failed: %s", err)
				n.note("cordon-failed", err.Error())
			}
		}

		n.phase(actor, "cleanup", "removeAllPods", func() { n.stopService("kubelet") })

		if plan.Graceful && n.mustLeaveEtcd() {
			if err := n.leaveEtcd(actor, plan); err != nil {
				// this phase has none: nothing is erased
				n.failSequence(generation, actor, "reset", failure{phase: 3 + n.drains(), name: "leave", task: "leaveEtcd", err: err}, false)

				return
			}
		}

		if err := n.stopAll(actor); err != nil {
			n.logf("machined", "task teardownLifecycle (1/1): failed: %s", err)
			n.stopServices()
		}

		if !n.pause(generation, n.Times.Shutdown) {
			return
		}

		n.down("reset", true)
		n.erase(plan)

		if plan.Reboot {
			n.comeUp(len(plan.Labels) == 0 || slices.Contains(plan.Labels, "BOOT"))
		} else {
			n.PowerOffQuietly()
		}
	}()
}

// PowerOffQuietly marks a node that is already down as off.
func (n *Node) PowerOffQuietly() {
	n.mu.Lock()
	n.powered = false
	n.mu.Unlock()
	n.note("power-off", "")
}

// erase wipes partitions while the node is down.
func (n *Node) erase(plan ResetPlan) {
	whole := plan.SystemDisk && len(plan.Labels) == 0
	wiped := func(label string) bool { return n.wipes(plan, label) }

	if wiped("EPHEMERAL") {
		n.files.Wipe("/var")
	}

	if wiped("CRI") {
		n.Images.Clear(images.CRI, images.System)

		n.mu.Lock()
		n.containers = nil
		n.mu.Unlock()
	}

	if wiped("ETCD") && n.Etcd != nil {
		if err := n.Etcd.Wipe(); err != nil {
			n.note("error", err.Error())
		}

		_ = os.Remove(n.Etcd.RecoveryFile()) //nolint:errcheck // it may not exist
	}

	n.mu.Lock()

	if wiped("META") {
		n.meta = map[uint8]string{}
	}

	forget := wiped("STATE")
	if forget {
		n.persisted, n.config = nil, nil
		n.identity = n.nodeIdentity()
		n.seeds = nil
	}

	if whole || slices.Contains(plan.Labels, "BOOT") || slices.Contains(plan.Labels, "EFI") {
		n.iso = n.slots[n.runningSlot]
		n.slots = [2]Slot{}
		n.defaultSlot, n.runningSlot = 0, 0
	}

	n.mu.Unlock()

	if !forget {
		// the images that the system itself needs are pulled at the first boot
		n.restoreImages()
	}

	n.note("wiped", strings.Join(plan.Labels, ","))
	n.cluster.Changed(n)
}

// restoreImages pulls the images that a configured node pulls at boot.
func (n *Node) restoreImages() {
	now := n.Now()
	n.preload(images.System, "ghcr.io/siderolabs/kubelet:"+n.Kube, now)

	if n.IsControlPlane() {
		n.mu.Lock()
		image := n.etcdImage()
		n.mu.Unlock()

		n.preload(images.System, image, now)
	}
}

// HasVolume reports whether a system volume of that label is on the disk.
func (n *Node) HasVolume(label string) bool {
	if !n.Installed() {
		return false
	}

	n.mu.Lock()
	defer n.mu.Unlock()

	return slices.ContainsFunc(n.partitions(), func(p partition) bool { return p.label == label })
}

// Disks lists the device paths of the disks.
func (n *Node) Disks() []string { return []string{"/dev/" + systemDisk, "/dev/" + dataDisk} }
