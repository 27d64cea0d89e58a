package machine

import (
	"fmt"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/dustin/go-humanize"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/hardware"
	timeres "github.com/siderolabs/talos/pkg/machinery/resources/time"
)

// metalReplaces reports which recorded resources of the container platform are different on the simulated metal.
func metalReplaces(md resource.Metadata) bool {
	switch md.Type() {
	case block.VolumeStatusType:
		return md.ID() == "STATE" || md.ID() == "EPHEMERAL" || md.ID() == "META"
	case timeres.StatusType:
		return true
	default:
		return false
	}
}

// The simulated disks: the system disk and an empty data disk.
const (
	systemDisk = "sda"
	dataDisk   = "sdb"
)

// partition is one partition of the system disk, in the layout Talos makes.
type partition struct {
	label      string
	size       uint64
	filesystem block.FilesystemType
	probed     string
}

func (n *Node) partitions() []partition {
	const mib = 1 << 20

	fixed := []partition{
		{label: "EFI", size: 100 * mib, filesystem: block.FilesystemTypeVFAT, probed: "vfat"},
		{label: "BIOS", size: 1 * mib},
		{label: "BOOT", size: 2000 * mib, filesystem: block.FilesystemTypeXFS, probed: "xfs"},
		{label: "META", size: 1 * mib, probed: "talosmeta"},
		{label: "STATE", size: 100 * mib, filesystem: block.FilesystemTypeXFS, probed: "xfs"},
	}

	var used uint64
	for _, p := range fixed {
		used += p.size
	}

	var own []partition

	for _, label := range n.partitionLabels {
		p := partition{label: label, size: promotable()[label].gib << 30, filesystem: block.FilesystemTypeXFS, probed: "xfs"}
		own = append(own, p)
		used += p.size
	}

	ephemeral := partition{label: "EPHEMERAL", size: uint64(n.diskSize) - used - 2*mib, filesystem: block.FilesystemTypeXFS, probed: "xfs"}

	return append(append(fixed, ephemeral), own...)
}

func (n *Node) serial(disk string) string { return fmt.Sprintf("LAB%04d%s", n.Number, disk) }

// putBlock writes disks, devices, discovered volumes and volume statuses.
func (n *Node) putBlock() {
	n.putDisk(systemDisk, uint64(n.diskSize), 0)
	n.putDisk(dataDisk, 50<<30, 16)

	if n.slots[0].Empty() && n.slots[1].Empty() {
		n.putDiscovered(systemDisk, "", "", "", uint64(n.diskSize), 0, 0)

		return
	}

	sys := block.NewSystemDisk(block.NamespaceName, block.SystemDiskID)
	sys.TypedSpec().DiskID, sys.TypedSpec().DevPath = systemDisk, "/dev/"+systemDisk
	n.put(sys, "block.SystemDiskController")

	n.putDiscovered(systemDisk, "", "gpt", "", uint64(n.diskSize), 0, 0)

	offset := uint64(1 << 20)

	for i, p := range n.partitions() {
		id := fmt.Sprintf("%s%d", systemDisk, i+1)

		dev := block.NewDevice(block.NamespaceName, id)
		*dev.TypedSpec() = block.DeviceSpec{
			Type: block.DeviceTypePartition, Major: 8, Minor: i + 1, PartitionName: id, PartitionNumber: i + 1,
			DevicePath: "/sys/devices/pci0000:00/0000:00:05.0/block/" + systemDisk + "/" + id, Generation: 1, Parent: systemDisk,
		}
		n.put(dev, "block.DevicesController")

		n.putDiscovered(id, systemDisk, p.probed, p.label, p.size, offset, i+1)
		offset += p.size

		if p.label == "META" || p.label == "STATE" || p.label == "EPHEMERAL" || n.promoted(p.label) {
			n.putVolume(p, i+1)
		}
	}
}

func (n *Node) putDisk(id string, size uint64, minor int) {
	disk := block.NewDisk(block.NamespaceName, id)
	*disk.TypedSpec() = block.DiskSpec{
		DevPath: "/dev/" + id, Size: size, PrettySize: humanize.Bytes(size), IOSize: 512, SectorSize: 512,
		Model: "QEMU HARDDISK", Serial: n.serial(id), WWID: "t10.ATA     QEMU HARDDISK " + n.serial(id),
		Modalias: "scsi:t-0x00", BusPath: "/pci0000:00/0000:00:05.0/virtio2/host0/target0:0:0/0:0:0:0",
		SubSystem: "/sys/class/block", Transport: "virtio",
	}
	n.put(disk, "block.DisksController")

	dev := block.NewDevice(block.NamespaceName, id)
	*dev.TypedSpec() = block.DeviceSpec{
		Type: block.DeviceTypeDisk, Major: 8, Minor: minor, DevicePath: "/sys/devices/pci0000:00/0000:00:05.0/block/" + id, Generation: 1,
	}
	n.put(dev, "block.DevicesController")

	if id == dataDisk {
		n.putDiscovered(id, "", "xfs", "", size, 0, 0) // it was used before
	}
}

func (n *Node) putDiscovered(id, parent, name, label string, size, offset uint64, index int) {
	v := block.NewDiscoveredVolume(block.NamespaceName, id)
	spec := v.TypedSpec()
	*spec = block.DiscoveredVolumeSpec{
		DevPath: "/dev/" + id, Type: "disk", DevicePath: "/sys/devices/pci0000:00/0000:00:05.0/block/" + id,
		Offset: offset, Size: size, PrettySize: humanize.Bytes(size), SectorSize: 512, IOSize: 512, Name: name,
	}

	if parent != "" {
		spec.Type, spec.Parent, spec.ParentDevPath = "partition", parent, "/dev/"+parent
		spec.PartitionLabel, spec.PartitionIndex = label, uint(index)
		spec.PartitionUUID = fmt.Sprintf("0000000%d-0000-4000-8000-%012d", index, n.Number)

		if name == "xfs" {
			spec.Label, spec.BlockSize, spec.FilesystemBlockSize, spec.ProbedSize = label, 512, 4096, size
			spec.UUID = fmt.Sprintf("1000000%d-0000-4000-8000-%012d", index, n.Number)
		}
	}

	n.put(v, "block.DiscoveryController")
}

func (n *Node) putVolume(p partition, index int) {
	v := block.NewVolumeStatus(block.NamespaceName, p.label)
	spec := v.TypedSpec()
	*spec = block.VolumeStatusSpec{
		Phase: block.VolumePhaseReady, Type: block.VolumeTypePartition,
		Location: fmt.Sprintf("/dev/%s%d", systemDisk, index), MountLocation: fmt.Sprintf("/dev/%s%d", systemDisk, index),
		PartitionIndex: index, ParentLocation: "/dev/" + systemDisk,
		PartitionUUID: fmt.Sprintf("0000000%d-0000-4000-8000-%012d", index, n.Number),
		Size:          p.size, PrettySize: humanize.Bytes(p.size), Filesystem: p.filesystem,
	}

	switch p.label {
	case "EPHEMERAL":
		spec.MountSpec.TargetPath, spec.MountSpec.FileMode = "/var", 0o755
	case "STATE":
		spec.MountSpec.TargetPath, spec.MountSpec.FileMode = "/system/state", 0o700
	default:
		spec.MountSpec.TargetPath, spec.MountSpec.FileMode = promotable()[p.label].target, 0o700
	}

	n.put(v, "block.VolumeManagerController")
}

func (n *Node) putHardware() {
	info := hardware.NewSystemInformation(hardware.SystemInformationID)
	*info.TypedSpec() = hardware.SystemInformationSpec{
		Manufacturer: "QEMU", ProductName: "Standard PC (Q35 + ICH9, 2009)", Version: "pc-q35-9.2",
		UUID: fmt.Sprintf("2000000%d-0000-4000-8000-%012d", n.Number%10, n.Number), WakeUpType: "Power Switch",
	}
	n.put(info, "hardware.SystemInfoController")

	cpu := hardware.NewProcessorInfo("CPU-0")
	*cpu.TypedSpec() = hardware.ProcessorSpec{
		Socket: "CPU 0", Manufacturer: "QEMU", ProductName: "pc-q35-9.2", MaxSpeed: 2000, BootSpeed: 2000, Status: 65, CoreCount: 2, CoreEnabled: 2, ThreadCount: 2,
	}
	n.put(cpu, "hardware.SystemInfoController")

	ram := hardware.NewMemoryModuleInfo("DIMM-0")
	*ram.TypedSpec() = hardware.MemoryModuleSpec{Size: 4096, DeviceLocator: "DIMM 0", Manufacturer: "QEMU"}
	n.put(ram, "hardware.SystemInfoController")
}

// putTime reports the clock as in sync, which containers leave to their host.
func (n *Node) putTime() {
	status := timeres.NewStatus()
	status.TypedSpec().Synced, status.TypedSpec().SyncDisabled = true, n.platformName() == "container"
	n.put(status, "time.SyncController")
}

// SystemDiskPath is the disk that Talos is installed on; empty before the installation.
func (n *Node) SystemDiskPath() string {
	n.mu.Lock()
	defer n.mu.Unlock()

	if n.slots[0].Empty() && n.slots[1].Empty() {
		return ""
	}

	return "/dev/" + systemDisk
}

// DeviceMounted reports whether the kernel holds a device open, independent of the volumes.
func (n *Node) DeviceMounted(device string) bool {
	if n.SystemDiskPath() == "" || n.Maintenance() {
		return false
	}

	if device == systemDisk {
		return true
	}

	n.mu.Lock()
	defer n.mu.Unlock()

	for i, p := range n.partitions() {
		if device == fmt.Sprintf("%s%d", systemDisk, i+1) {
			return p.label == "STATE" || p.label == "EPHEMERAL" || n.promoted(p.label)
		}
	}

	return false
}

// WipeDevice erases a device; its content is no longer discovered.
func (n *Node) WipeDevice(device string, zeroes, dropPartition bool) {
	n.note("wipe", fmt.Sprintf("%s zeroes=%t drop=%t", device, zeroes, dropPartition))

	n.mu.Lock()
	defer n.mu.Unlock()

	if n.state == nil {
		return
	}

	if device == dataDisk {
		n.putDiscovered(device, "", "", "", 50<<30, 0, 0)
	}
}
