package talos

import (
	"context"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/api/storage"
)

// Wipe methods of a block device.
const (
	WipeFast   = "fast"   // Discard, or overwrite the signatures of the contents.
	WipeZeroes = "zeroes" // Overwrite everything.
)

// DeviceWipe is the wipe of one block device.
type DeviceWipe struct {
	Device        string // With or without /dev/; the server wants it without.
	Zeroes        bool   // Overwrite everything instead of only the signatures.
	DropPartition bool   // Take the partition out of the table too; for partitions only.
	SkipVolumes   bool   // Ignore volumes that use the device.
	SkipSecondary bool   // Ignore RAID and LVM that use the device.
}

// WipeDevices wipes block devices; the server checks all of them before it wipes one. Role: admin, or anybody in
// maintenance mode.
func (n *Node) WipeDevices(ctx context.Context, devices []DeviceWipe) error {
	req := &storage.BlockDeviceWipeRequest{}
	names := make([]string, len(devices))

	for i, d := range devices {
		names[i] = strings.TrimPrefix(d.Device, "/dev/")

		method := storage.BlockDeviceWipeDescriptor_FAST
		if d.Zeroes {
			method = storage.BlockDeviceWipeDescriptor_ZEROES
		}

		req.Devices = append(req.Devices, &storage.BlockDeviceWipeDescriptor{
			Device: names[i], Method: method, DropPartition: d.DropPartition, SkipVolumeCheck: d.SkipVolumes, SkipSecondaryCheck: d.SkipSecondary,
		})
	}

	op := "wipe " + strings.Join(names, ", ")

	return n.WhileAlive(ctx, op, n.ping, func(ctx context.Context) error {
		_, err := n.storage().BlockDeviceWipe(ctx, req)

		return n.Fail(op, err)
	})
}

// BlockDevice is a device as the kernel lists it, with its parents.
type BlockDevice struct {
	Name        string   // The kernel's name, sda1.
	Type        string   // disk or partition.
	Parent      string   // The disk of a partition.
	Secondaries []string // The devices that it is built on (RAID, LVM, device mapper).
}

// BlockDevices lists the block devices by name. Roles: reader, operator, admin.
func (n *Node) BlockDevices(ctx context.Context) ([]BlockDevice, error) {
	type spec struct {
		Type        string   `json:"type"`
		Parent      string   `json:"parent"`
		Secondaries []string `json:"secondaries"`
	}

	return View[spec, BlockDevice]{
		Namespace: "runtime", Type: "BlockDevices.block.talos.dev",
		Row: func(id string, s spec) BlockDevice {
			return BlockDevice{Name: id, Type: s.Type, Parent: s.Parent, Secondaries: s.Secondaries}
		},
	}.List(ctx, n)
}
