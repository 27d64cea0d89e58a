package talos

import (
	"context"
	"slices"
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
