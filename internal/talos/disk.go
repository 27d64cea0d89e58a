package talos

import (
	"context"
	"slices"

	"google.golang.org/protobuf/types/known/emptypb"
)

// Disk is a block device that can hold data.
type Disk struct {
	NodeRef

	Device     string   `json:"device"`               // The device, /dev/sda.
	SizeBytes  uint64   `json:"size_bytes"`           // Its size.
	Model      string   `json:"model"`                // The model, as the disk says it.
	Serial     string   `json:"serial"`               // The serial number.
	Type       string   `json:"type"`                 // nvme, ssd, hdd, sd, cd or unknown.
	Transport  string   `json:"transport"`            // How it is attached: sata, nvme, usb, virtio, …
	BusPath    string   `json:"bus_path"`             // Where it is attached.
	WWID       string   `json:"wwid"`                 // Its world-wide ID.
	UUID       string   `json:"uuid,omitempty"`       // Its UUID, where it has one.
	SectorSize uint64   `json:"sector_size_bytes"`    // The logical sector size.
	SystemDisk bool     `json:"system_disk"`          // Whether Talos is installed on it.
	ReadOnly   bool     `json:"read_only"`            // Whether it can only be read.
	Rotational bool     `json:"rotational"`           // Whether the kernel takes it for a spinning disk.
	Secondary  []string `json:"underlying,omitempty"` // The disks below it, for RAID and device mapper.
	Symlinks   []string `json:"symlinks,omitempty"`   // Its stable names under /dev/disk.
}

type diskSpec struct {
	DevPath    string   `json:"dev_path"`
	Size       uint64   `json:"size"`
	SectorSize uint64   `json:"sector_size"`
	Readonly   bool     `json:"readonly"`
	CDROM      bool     `json:"cdrom"`
	Model      string   `json:"model"`
	Serial     string   `json:"serial"`
	WWID       string   `json:"wwid"`
	UUID       string   `json:"uuid"`
	BusPath    string   `json:"bus_path"`
	Transport  string   `json:"transport"`
	Rotational bool     `json:"rotational"`
	Secondary  []string `json:"secondary_disks"`
	Symlinks   []string `json:"symlinks"`
}

// kind follows the order of the node's own Disks call (Talos, internal/app/storaged/server.go).
func (s diskSpec) kind() string {
	switch {
	case s.CDROM:
		return "cd"
	case s.Transport == "nvme":
		return "nvme"
	case s.Transport == "mmc":
		return "sd"
	case s.Rotational:
		return "hdd"
	case s.Transport != "":
		return "ssd"
	default:
		return "unknown"
	}
}

// Disks lists the node's disks by device, the one Talos is installed on marked. It works in maintenance
// mode. Roles: reader, operator, admin.
func (n *Node) Disks(ctx context.Context) ([]Disk, error) {
	type systemDisk struct {
		DevPath string `json:"devPath"`
	}

	system, err := View[systemDisk, string]{
		Namespace: "runtime", Type: "SystemDisks.block.talos.dev",
		Row: func(_ string, s systemDisk) string { return s.DevPath },
	}.List(ctx, n)
	if err != nil {
		return nil, err
	}

	return View[diskSpec, Disk]{
		Namespace: "runtime", Type: "Disks.block.talos.dev",
		Row: func(_ string, s diskSpec) Disk {
			return Disk{
				Device: s.DevPath, SizeBytes: s.Size, Model: s.Model, Serial: s.Serial, Type: s.kind(), Transport: s.Transport,
				BusPath: s.BusPath, WWID: s.WWID, UUID: s.UUID, SectorSize: s.SectorSize, SystemDisk: slices.Contains(system, s.DevPath),
				ReadOnly: s.Readonly, Rotational: s.Rotational, Secondary: s.Secondary, Symlinks: s.Symlinks,
			}
		},
	}.List(ctx, n)
}

// Volume is a volume that Talos manages: a partition, a disk, a directory, a tmpfs, a symlink or an overlay.
type Volume struct {
	NodeRef

	ID            string   `json:"id"`                        // The volume: STATE, EPHEMERAL, u-data, /var/lib, …
	Type          string   `json:"type"`                      // partition, disk, directory, tmpfs, symlink, overlay or external.
	Phase         string   `json:"phase"`                     // waiting, failed, missing, located, provisioned, prepared, ready or closed.
	Location      string   `json:"location,omitempty"`        // The block device.
	MountLocation string   `json:"mount_location,omitempty"`  // The mounted device, if it is not the location (encryption).
	Parent        string   `json:"parent,omitempty"`          // The block device that holds it.
	ParentID      string   `json:"parent_id,omitempty"`       // The volume that holds it.
	SizeBytes     uint64   `json:"size_bytes"`                // Its size, 0 for other than block devices.
	Filesystem    string   `json:"filesystem,omitempty"`      // The file system.
	UUID          string   `json:"uuid,omitempty"`            // The file system's UUID.
	PartitionUUID string   `json:"partition_uuid,omitempty"`  // The partition's UUID.
	Encryption    string   `json:"encryption,omitempty"`      // The encryption's provider, luks2.
	FailedSyncs   []string `json:"encryption_failed_syncs"`   // Keys that could not be synced; never null.
	TargetPath    string   `json:"target_path,omitempty"`     // Where it is mounted, relative to its parent volume if it has one.
	MountParentID string   `json:"mount_parent_id,omitempty"` // The volume below which it is mounted.
	Error         string   `json:"error,omitempty"`           // Why it failed.
}

// Volumes lists the volumes' status by ID. Roles: reader, operator, admin.
func (n *Node) Volumes(ctx context.Context) ([]Volume, error) {
	type spec struct {
		Phase              string   `json:"phase"`
		Type               string   `json:"type"`
		ParentID           string   `json:"parentID"`
		Location           string   `json:"location"`
		MountLocation      string   `json:"mountLocation"`
		ParentLocation     string   `json:"parentLocation"`
		UUID               string   `json:"uuid"`
		PartitionUUID      string   `json:"partitionUUID"`
		Size               uint64   `json:"size"`
		Filesystem         string   `json:"filesystem"`
		EncryptionProvider string   `json:"encryptionProvider"`
		FailedSyncs        []string `json:"encryptionFailedSyncs"`
		MountSpec          struct {
			TargetPath string `json:"targetPath"`
			ParentID   string `json:"parentId"`
		} `json:"mountSpec"`
		ErrorMessage string `json:"errorMessage"`
	}

	return View[spec, Volume]{
		Namespace: "runtime", Type: "VolumeStatuses.block.talos.dev",
		Row: func(id string, s spec) Volume {
			return Volume{
				ID: id, Type: s.Type, Phase: s.Phase, Location: s.Location, MountLocation: s.MountLocation, Parent: s.ParentLocation,
				ParentID: s.ParentID, SizeBytes: s.Size, Filesystem: s.Filesystem, UUID: s.UUID, PartitionUUID: s.PartitionUUID,
				Encryption: s.EncryptionProvider, FailedSyncs: notNil(s.FailedSyncs), TargetPath: s.MountSpec.TargetPath,
				MountParentID: s.MountSpec.ParentID, Error: s.ErrorMessage,
			}
		},
	}.List(ctx, n)
}

// Partitions of the system disk, and what may be on one.
const (
	State     = "STATE"     // The machine configuration and the node's identity.
	Ephemeral = "EPHEMERAL" // Everything under /var that has no partition of its own.
	Etcd      = "ETCD"      // etcd's data, from Talos 1.14 on, where the configuration gives it a partition.
)

// Separate lists the parts of EPHEMERAL that have a partition of their own, which Talos 1.14 offers (Talos,
// pkg/machinery/config/types/block/volume_config.go). A wipe of EPHEMERAL leaves them. Roles: reader, operator, admin.
func (n *Node) Separate(ctx context.Context) ([]string, error) {
	volumes, err := n.Volumes(ctx)

	var out []string

	for _, v := range volumes {
		switch v.ID {
		case Etcd, "CRI", "KUBELET", "LOG":
			if v.Type == "partition" && v.Location != "" {
				out = append(out, v.ID)
			}
		}
	}

	return out, err
}

// DiscoveredVolume is a block device or partition with its detected content.
type DiscoveredVolume struct {
	NodeRef

	ID             string `json:"id"`                        // The device's name, sda1.
	Device         string `json:"device"`                    // The device, /dev/sda1.
	Type           string `json:"type"`                      // disk or partition.
	Parent         string `json:"parent,omitempty"`          // The disk that a partition is on.
	Discovered     string `json:"discovered"`                // The detected content: gpt, xfs, luks, vfat, …; empty if unknown.
	SizeBytes      uint64 `json:"size_bytes"`                // The device's size.
	OffsetBytes    uint64 `json:"offset_bytes"`              // Where a partition starts on its disk.
	Label          string `json:"label,omitempty"`           // The file system's label.
	UUID           string `json:"uuid,omitempty"`            // The file system's UUID.
	PartitionLabel string `json:"partition_label,omitempty"` // The partition's label: EFI, META, STATE, EPHEMERAL, …
	PartitionUUID  string `json:"partition_uuid,omitempty"`  // The partition's UUID.
	PartitionType  string `json:"partition_type,omitempty"`  // The partition's type UUID.
	PartitionIndex uint   `json:"partition_index,omitempty"` // The partition's number, from 1.
}

// DiscoveredVolumes lists the block devices that Talos found, by name. Roles: reader, operator, admin.
func (n *Node) DiscoveredVolumes(ctx context.Context) ([]DiscoveredVolume, error) {
	type spec struct {
		DevPath        string `json:"dev_path"`
		Type           string `json:"type"`
		ParentDevPath  string `json:"parent_dev_path"`
		Offset         uint64 `json:"offset"`
		Size           uint64 `json:"size"`
		Name           string `json:"name"`
		UUID           string `json:"uuid"`
		Label          string `json:"label"`
		PartitionUUID  string `json:"partition_uuid"`
		PartitionType  string `json:"partition_type"`
		PartitionLabel string `json:"partition_label"`
		PartitionIndex uint   `json:"partition_index"`
	}

	return View[spec, DiscoveredVolume]{
		Namespace: "runtime", Type: "DiscoveredVolumes.block.talos.dev",
		Row: func(id string, s spec) DiscoveredVolume {
			return DiscoveredVolume{
				ID: id, Device: s.DevPath, Type: s.Type, Parent: s.ParentDevPath, Discovered: s.Name, SizeBytes: s.Size,
				OffsetBytes: s.Offset, Label: s.Label, UUID: s.UUID, PartitionLabel: s.PartitionLabel, PartitionUUID: s.PartitionUUID,
				PartitionType: s.PartitionType, PartitionIndex: s.PartitionIndex,
			}
		},
	}.List(ctx, n)
}

// notNil keeps an empty list from becoming null in a document.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}

	return list
}

// Mount is a mounted file system.
type Mount struct {
	NodeRef

	Filesystem     string  `json:"filesystem"`      // The device or pseudo file system.
	MountedOn      string  `json:"mounted_on"`      // The path.
	SizeBytes      uint64  `json:"size_bytes"`      // Its size.
	AvailableBytes uint64  `json:"available_bytes"` // The free space.
	UsedRatio      float64 `json:"used_ratio"`      // The used part, 0 to 1.
}

// Mounts lists mounted file systems. Roles: reader, operator, admin.
func (n *Node) Mounts(ctx context.Context) ([]Mount, error) {
	m, err := first(n.machine().Mounts(ctx, &emptypb.Empty{}))
	if err != nil {
		return nil, n.Fail("list mounts", err)
	}

	out := make([]Mount, 0, len(m.GetStats()))

	for _, s := range m.GetStats() {
		mount := Mount{Filesystem: s.GetFilesystem(), MountedOn: s.GetMountedOn(), SizeBytes: s.GetSize(), AvailableBytes: s.GetAvailable()}
		if s.GetSize() > 0 {
			mount.UsedRatio = ratio(float64(s.GetSize())-float64(s.GetAvailable()), float64(s.GetSize()))
		}

		out = append(out, mount)
	}

	return out, nil
}
