package machine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/compatibility"
	"github.com/siderolabs/talos/pkg/machinery/meta"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"github.com/talosmate/talosmate/lab/internal/faults"
	"github.com/talosmate/talosmate/lab/internal/images"
)

// ErrInstalling is returned while another installer runs.
var ErrInstalling = errors.New("another installation/upgrade is already in progress")

// ErrNoInstaller is returned for an image without an installer in it.
var ErrNoInstaller = errors.New(`exec: "/bin/installer": stat /bin/installer: no such file or directory`)

func slotName(i int) string { return string(rune('A' + i)) }

// Install runs an installer: it writes the slot that is not the default and makes it the default. For this reason a
// second install before the reboot overwrites the running system. Output lines are passed to say. It continues without the
// client that requested it; only the end of the boot kills the installer, and leaves the slot half written.
func (n *Node) Install(image string, m images.Manifest, lifecycle bool, say func(string)) (exitCode int, err error) {
	if !n.installLock.TryLock() {
		return 0, ErrInstalling
	}
	defer n.installLock.Unlock()

	if m.Installer == nil {
		return 0, ErrNoInstaller
	}

	n.mu.Lock()
	target := 1 - n.defaultSlot
	overruns := target == n.runningSlot && !n.slots[n.runningSlot].Empty()
	ended := n.ended
	host := n.slots[n.runningSlot].Version
	n.installing = true
	n.putInstaller()
	n.mu.Unlock()

	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()

		n.installing = false
		n.putInstaller()
	}()

	n.note("install-start", image)
	say(fmt.Sprintf("2026/11/22 18:00:00 running Talos installer %s\n2026/11/22 18:00:00 running pre-flight checks\n2026/11/22 18:00:00 host Talos version: %s\n",
		m.Installer.Version, host))

	if err := preflight(host, m.Installer.Version); err != nil {
		say("Error: pre-flight checks failed: " + err.Error() + "\n")
		n.recordInstall(InstallRecord{Time: time.Now(), Image: image, Version: m.Installer.Version, Slot: slotName(target), ExitCode: 1, Lifecycle: lifecycle})

		return 1, nil
	}

	say(installerOutput(slotName(target)))

	timer := time.NewTimer(n.Times.Install)
	defer timer.Stop()

	record := InstallRecord{Image: image, Version: m.Installer.Version, Slot: slotName(target), OverRuns: overruns, Lifecycle: lifecycle}

	select {
	case <-timer.C:
	case <-ended:
		record.Time, record.Torn, record.ExitCode = time.Now(), true, killedExitCode
		n.tear(target, image, m)
		n.recordInstall(record)

		return killedExitCode, nil
	}

	record.Time = time.Now()

	if f, failing := n.Faults.Take(faults.InstallExitCode); failing && f.N != 0 {
		record.ExitCode = int(f.N)
		say("error: failed to install: exit status " + fmt.Sprint(f.N) + "\n")
		n.recordInstall(record)

		return record.ExitCode, nil
	}

	if _, full := n.Faults.Get(faults.DiskFull); full {
		record.ExitCode = 1
		say("error: failed to install: write /mnt/vmlinuz: no space left on device\n")
		n.recordInstall(record)

		return 1, nil
	}

	slot := Slot{
		Version: m.Installer.Version, Image: image, Schematic: m.Installer.Schematic,
		Platform: m.Installer.Platform, SecureBoot: m.Installer.SecureBoot,
	}

	if _, lost := n.Faults.Take(faults.LoseExtensions); !lost {
		slot.Extensions = extensionsOf(slot.Schematic)
	}

	n.mu.Lock()
	n.meta[meta.Upgrade] = slotName(n.defaultSlot) // the way back, until a boot is ready
	n.slots[target] = slot
	n.defaultSlot = target
	n.fresh = true
	n.mu.Unlock()

	say("2026/11/22 18:00:02 installation of " + m.Installer.Version + " complete\n")
	n.recordInstall(record)

	return 0, nil
}

// killedExitCode is the exit code of an installer that was killed.
const killedExitCode = 137

// tear leaves a slot half written. The default stays: the boot loader's configuration is written last.
func (n *Node) tear(slot int, image string, m images.Manifest) {
	n.mu.Lock()
	n.slots[slot] = Slot{
		Version: m.Installer.Version, Image: image, Schematic: m.Installer.Schematic, Platform: m.Installer.Platform,
		SecureBoot: m.Installer.SecureBoot, Torn: true,
	}
	n.mu.Unlock()

	n.note("install-torn", image)
}

// putInstaller shows the installer's process while it runs. It needs n.mu held.
func (n *Node) putInstaller() {
	if n.state == nil || !AtLeast(n.versionTag(), 13) {
		return
	}

	res := runtime.NewServicePID("installer")
	res.TypedSpec().PID, res.TypedSpec().MountNamespace = int32(servicePID("installer")), "4026532999"

	if n.installing {
		n.put(res, "runtime.ServicePIDController")
	} else {
		n.remove(res.Metadata())
	}
}

func (n *Node) recordInstall(r InstallRecord) {
	n.mu.Lock()
	n.history.Installs = append(n.history.Installs, r)
	n.mu.Unlock()

	n.note("install", fmt.Sprintf("%s slot=%s exit=%d", r.Image, r.Slot, r.ExitCode))
}

// preflight is the installer's check of the host's version (Talos, cmd/installer/pkg/install/preflight.go). Targets that
// machinery's tables do not have follow their rule: from two minor releases before to one after.
func preflight(host, target string) error {
	from, err := compatibility.ParseTalosVersion(&machineapi.VersionInfo{Tag: host})
	if err != nil {
		return fmt.Errorf("error parsing host Talos version: %w", err)
	}

	to, err := compatibility.ParseTalosVersion(&machineapi.VersionInfo{Tag: target})
	if err != nil {
		return fmt.Errorf("error parsing installer Talos version: %w", err)
	}

	var hostMinor, targetMinor int
	if _, err = fmt.Sscanf(host, "v1.%d.", &hostMinor); err != nil {
		return err
	}

	if _, err = fmt.Sscanf(target, "v1.%d.", &targetMinor); err != nil || targetMinor <= 13 {
		return to.UpgradeableFrom(from)
	}

	switch {
	case hostMinor+2 < targetMinor:
		return fmt.Errorf("host version %s is too old to upgrade to Talos %s", host, target)
	case hostMinor >= targetMinor+2:
		return fmt.Errorf("host version %s is too new to downgrade to Talos %s", host, target)
	}

	return nil
}

func installerOutput(slot string) string {
	var b strings.Builder

	fmt.Fprintf(&b, "2026/11/22 18:00:00 all pre-flight checks successful\n")
	fmt.Fprintf(&b, "2026/11/22 18:00:01 copying /usr/install/amd64/vmlinuz to /boot/%s/vmlinuz\n", slot)
	fmt.Fprintf(&b, "2026/11/22 18:00:01 copying /usr/install/amd64/initramfs.xz to /boot/%s/initramfs.xz\n", slot)
	fmt.Fprintf(&b, "2026/11/22 18:00:01 writing /boot/grub/grub.cfg to disk\n")
	fmt.Fprintf(&b, "2026/11/22 18:00:01 executing: grub-install --boot-directory=/boot --removable /dev/sda\n")
	fmt.Fprintf(&b, "2026/11/22 18:00:01 updating META\n")

	return b.String()
}

// chooseSlot is the boot loader: it boots the default slot, or the other one when the default does not boot. It returns
// false if neither boots.
func (n *Node) chooseSlot() bool {
	n.mu.Lock()
	fresh := n.fresh
	n.fresh = false
	n.mu.Unlock()

	fallback := false
	if fresh {
		_, fallback = n.Faults.Take(faults.BootOldSlot)
	}

	n.mu.Lock()
	defer n.mu.Unlock()

	if torn := n.slots[n.defaultSlot].Torn; (fallback || torn) && n.bootable(1-n.defaultSlot) {
		n.defaultSlot = 1 - n.defaultSlot
	}

	n.runningSlot = n.defaultSlot

	return n.slots[0].Empty() && n.slots[1].Empty() || n.bootable(n.runningSlot)
}

func (n *Node) bootable(slot int) bool { return !n.slots[slot].Empty() && !n.slots[slot].Torn }

// LegacyUpgrade is MachineService.Upgrade after its checks: the sequence that installs and reboots in one.
func (n *Node) LegacyUpgrade(actor, image string, m images.Manifest, stage bool) {
	name := "upgrade"
	if stage {
		name = "stageUpgrade"
	}

	generation, err := n.begin(name)
	if err != nil {
		n.logf("machined", "upgrade failed: %s", err)

		return
	}

	n.note(name, image)

	go func() {
		n.publishSequence(actor, name, machineapi.SequenceEvent_START)
		n.setStage(runtime.MachineStageUpgrading)

		if stage {
			n.mu.Lock()
			n.staged = &stagedUpgrade{manifest: m, image: image}
			n.mu.Unlock()

			if err := n.stopAll(actor); err != nil {
				n.failSequence(generation, actor, name, teardownFailed(rebootTeardownPhase, err), false)

				return
			}

			if n.pause(generation, n.Times.Shutdown) {
				n.restart("staged upgrade", false)
			}

			return
		}

		if err := n.cordonAndDrain(actor); err != nil {
			n.failSequence(generation, actor, name, drainFailed(1, err), false)

			return
		}

		if err := n.stopAllButAPI(actor); err != nil {
			n.failSequence(generation, actor, name, teardownFailed(upgradeTeardownPhase+n.drains(), err), false)

			return
		}

		var code int

		n.phase(actor, "upgrade", "upgrade", func() {
			code, err = n.Install(image, m, false, func(line string) { n.logf("machined", "%s", strings.TrimSpace(line)) })
		})

		if !n.alive(generation) {
			return
		}

		if err != nil || code != 0 {
			if err == nil {
				err = fmt.Errorf("task %q failed: exit code %d", "upgrade", code)
			}

			n.failSequence(generation, actor, name, failure{phase: upgradeTeardownPhase + 1 + n.drains(), name: "upgrade", task: "upgrade", err: err}, false)

			return
		}

		if n.pause(generation, n.Times.Shutdown) {
			n.restart("upgrade", n.Running().SecureBoot)
		}
	}()
}

// stopAllButAPI stops what uses the ephemeral partition. The API stays up while the installer runs.
func (n *Node) stopAllButAPI(actor string) error {
	n.phase(actor, "cleanup", "stopAllPods", func() { n.stopService("kubelet") })
	n.phase(actor, "dbus", "stopDBus", nil)
	n.phase(actor, "stopServices", "stopServicesForUpgrade", func() {
		n.stopEtcd()
		n.stopService("cri")
	})

	return n.teardown(actor)
}

// installStaged runs a staged upgrade during boot and reboots again.
func (n *Node) installStaged(generation int, staged *stagedUpgrade) {
	go func() {
		n.setStage(runtime.MachineStageInstalling)

		if _, err := n.Install(staged.image, staged.manifest, false, func(string) {}); err != nil {
			n.note("error", err.Error())
		}

		if n.alive(generation) {
			n.restart("staged upgrade installed", false)
		}
	}()
}

// Rollback makes the other slot the default and reboots.
func (n *Node) Rollback() error {
	n.mu.Lock()

	other := 1 - n.runningSlot
	if n.slots[other].Empty() {
		n.mu.Unlock()

		return fmt.Errorf("cannot rollback to %q, label does not exist", slotName(other))
	}

	n.defaultSlot = other
	n.fresh = false
	n.mu.Unlock()

	n.note("rollback", slotName(other))
	n.Reboot("", RebootDefault)

	return nil
}

// Pull pulls an image into a store. It returns the digest-pinned name.
func (n *Node) Pull(ctx context.Context, ns images.Namespace, name string, progress func(layer string, done bool, offset, total int64)) (string, error) {
	ref, err := images.ParseReference(name)
	if err != nil {
		return "", err
	}

	n.note("pull", name)

	if f, ok := n.Faults.Get(faults.PullSlow); ok {
		timer := time.NewTimer(f.Dur)
		defer timer.Stop()

		select {
		case <-timer.C:
		case <-ctx.Done():
			n.note("pull-broken-off", name) // unlike an installation

			return "", ctx.Err()
		}
	}

	if f, ok := n.Faults.Get(faults.PullError); ok {
		return "", fmt.Errorf("1 error(s) occurred:\n\tfailed to pull image %q: %s", name, f.Value)
	}

	if f, ok := n.Faults.Get(faults.RegistryStatus); ok && f.N != 404 {
		return "", fmt.Errorf("1 error(s) occurred:\n\tfailed to pull image %q: failed to resolve reference %q: unexpected status from HEAD request to https://%s/v2/%s/manifests/%s: %d %s",
			name, ref, ref.Registry(), ref.Path(), ref.Tag+ref.Digest, f.N, httpText(int(f.N)))
	}

	m, err := n.Registry.Resolve(ref)
	if _, missing := n.Faults.Get(faults.RegistryStatus); err != nil || missing {
		return "", fmt.Errorf("1 error(s) occurred:\n\tfailed to pull image %q: failed to resolve reference %q: %w",
			ref, ref, fmt.Errorf("%s: %w", ref, images.ErrNotFound))
	}

	if _, free := n.Disk(); free < m.Size {
		return "", fmt.Errorf("1 error(s) occurred:\n\tfailed to pull image %q: failed to copy: write /var/lib/containerd/io.containerd.content.v1.content/ingest: no space left on device", ref)
	}

	layer := m.Config[7:19]

	if img, present := n.Images.Get(ns, m.Repository+"@"+m.Digest); !present || img.Digest != m.Digest {
		for i := int64(1); i < 4; i++ {
			progress(layer, false, m.Size*i/4, m.Size)
		}
	}

	progress(layer, true, m.Size, m.Size)

	var labels map[string]string
	if ns == images.CRI {
		labels = map[string]string{"io.cri-containerd.image": "managed"}
	}

	n.Images.Pull(ns, m, time.Now(), labels)

	return m.Repository + "@" + m.Digest, nil
}

func httpText(status int) string {
	switch status {
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 429:
		return "Too Many Requests"
	case 500:
		return "Internal Server Error"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	default:
		return "Error"
	}
}

// CollectImages runs Talos's image garbage collection once at the given time. It keeps only the images of the current
// kubelet and etcd in the system store; installers are removed too.
func (n *Node) CollectImages(now time.Time) []string {
	keep := []string{"ghcr.io/siderolabs/kubelet:" + n.Kube}
	if n.IsControlPlane() {
		n.mu.Lock()
		keep = append(keep, n.etcdImage())
		n.mu.Unlock()
	}

	age := n.Times.GCAge
	if age == 0 {
		age = time.Hour
	}

	removed := n.Images.Collect(now, age, func(img images.Image) bool { return slices.Contains(keep, img.Name) })

	for _, name := range removed {
		n.note("image-gc", name)
	}

	return removed
}
