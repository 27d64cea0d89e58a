package talos

import (
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/resources/block"
)

func disk(id string, spec block.DiskSpec) *block.Disk {
	d := block.NewDisk(block.NamespaceName, id)
	spec.DevPath = "/dev/" + id
	*d.TypedSpec() = spec

	return d
}

func TestDisks(t *testing.T) {
	t.Parallel()

	system := block.NewSystemDisk(block.NamespaceName, block.SystemDiskID)
	*system.TypedSpec() = block.SystemDiskSpec{DiskID: "nvme0n1", DevPath: "/dev/nvme0n1"}

	n := nodeWith(t, system,
		disk("nvme0n1", block.DiskSpec{Size: 1 << 40, Transport: "nvme", Model: "X", Serial: "S1", WWID: "W", BusPath: "/pci", SectorSize: 512}),
		disk("sda", block.DiskSpec{Size: 2 << 40, Transport: "sata", Rotational: true, Readonly: true}),
		disk("sdb", block.DiskSpec{Transport: "sata"}),
		disk("mmcblk0", block.DiskSpec{Transport: "mmc"}),
		disk("sr0", block.DiskSpec{CDROM: true, Transport: "sata"}),
		disk("md0", block.DiskSpec{SecondaryDisks: []string{"sda", "sdb"}}),
	)

	list, err := n.Disks(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	kinds := map[string]string{}
	for _, d := range list {
		kinds[d.Device] = d.Type

		if d.SystemDisk != (d.Device == "/dev/nvme0n1") {
			t.Errorf("%s system disk: %v", d.Device, d.SystemDisk)
		}

		if d.ReadOnly != (d.Device == "/dev/sda") {
			t.Errorf("%s read only: %v", d.Device, d.ReadOnly)
		}
	}

	for device, want := range map[string]string{
		"/dev/nvme0n1": "nvme", "/dev/sda": "hdd", "/dev/sdb": "ssd", "/dev/mmcblk0": "sd", "/dev/sr0": "cd", "/dev/md0": "unknown",
	} {
		if kinds[device] != want {
			t.Errorf("%s is %q, want %q", device, kinds[device], want)
		}
	}

	if d := list[2]; d.Device != "/dev/nvme0n1" || d.SizeBytes != 1<<40 || d.Serial != "S1" || d.WWID != "W" || d.BusPath != "/pci" || d.SectorSize != 512 {
		t.Errorf("disk %+v", d)
	}
}

func TestVolumesOfARealDisk(t *testing.T) {
	t.Parallel()

	volume := block.NewVolumeStatus(block.NamespaceName, "EPHEMERAL")
	*volume.TypedSpec() = block.VolumeStatusSpec{
		Phase: block.VolumePhaseFailed, Type: block.VolumeTypePartition, Location: "/dev/sda6", MountLocation: "/dev/dm-0",
		ParentLocation: "/dev/sda", Size: 5 << 30, Filesystem: block.FilesystemTypeXFS, EncryptionProvider: block.EncryptionProviderLUKS2,
		EncryptionFailedSyncs: []string{"tpm"}, ErrorMessage: "no key", PartitionUUID: "p", UUID: "u",
	}

	found := block.NewDiscoveredVolume(block.NamespaceName, "sda6")
	*found.TypedSpec() = block.DiscoveredVolumeSpec{
		DevPath: "/dev/sda6", Type: "partition", ParentDevPath: "/dev/sda", Offset: 1 << 20, Size: 5 << 30, Name: "luks", PartitionIndex: 6,
		PartitionLabel: "EPHEMERAL",
	}

	n := nodeWith(t, volume, found)

	volumes, err := n.Volumes(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	if v := volumes[0]; v.ID != "EPHEMERAL" || v.Phase != "failed" || v.Type != "partition" || v.Location != "/dev/sda6" || v.Filesystem != "xfs" ||
		v.Encryption != "luks2" || v.SizeBytes != 5<<30 || v.Error != "no key" || len(v.FailedSyncs) != 1 || v.MountLocation != "/dev/dm-0" ||
		v.Parent != "/dev/sda" || v.PartitionUUID != "p" || v.UUID != "u" {
		t.Errorf("volume %+v", v)
	}

	devices, err := n.DiscoveredVolumes(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	want := DiscoveredVolume{
		ID: "sda6", Device: "/dev/sda6", Type: "partition", Parent: "/dev/sda", Discovered: "luks", SizeBytes: 5 << 30, OffsetBytes: 1 << 20,
		PartitionLabel: "EPHEMERAL", PartitionIndex: 6,
	}
	if devices[0] != want {
		t.Errorf("device %+v", devices[0])
	}
}
