package talos

import (
	"context"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
)

// RemoveLVM removes a volume group with all its logical volumes, one logical volume, or LVM's label from a physical volume
// that no group has. The node refuses what is open or in use. Role: admin, or anybody in maintenance mode.
func (n *Node) RemoveLVM(ctx context.Context, d LVMDevice) error {
	lvm, op := machine.NewLVMServiceClient(n.Conn), "remove "+d.Name

	return n.WhileAlive(ctx, op, n.ping, func(ctx context.Context) (err error) {
		switch d.Kind {
		case VolumeGroup:
			_, err = lvm.VolumeGroupRemove(ctx, &machine.LVMServiceVolumeGroupRemoveRequest{VolumeGroup: d.Name})
		case LogicalVolume:
			_, err = lvm.LogicalVolumeRemove(ctx, &machine.LVMServiceLogicalVolumeRemoveRequest{VolumeGroup: d.VolumeGroup, LogicalVolume: d.Name})
		default:
			_, err = lvm.PhysicalVolumeRemove(ctx, &machine.LVMServicePhysicalVolumeRemoveRequest{Device: d.Device})
		}

		return n.Fail(op, err)
	})
}

// DestroyArray stops a software RAID array and clears its metadata on every member. The node refuses one in use. Role:
// admin, or anybody in maintenance mode.
func (n *Node) DestroyArray(ctx context.Context, a Array) error {
	op := "destroy " + a.Name

	return n.WhileAlive(ctx, op, n.ping, func(ctx context.Context) error {
		_, err := machine.NewMDServiceClient(n.Conn).Destroy(ctx, &machine.MDDestroyRequest{Device: a.Device})

		return n.Fail(op, err)
	})
}

// Declared are the LVM and RAID devices that the node's configuration asks for. Talos makes them again when they are
// removed.
type Declared struct {
	Groups, Arrays, Devices []string
	Volumes                 []string // GROUP/NAME.
}

// DeclaredStorage reads what the configuration asks for. Roles: reader, operator, admin.
func (n *Node) DeclaredStorage(ctx context.Context) (out Declared, err error) {
	type spec struct {
		Name   string `json:"name"`
		VGName string `json:"vgName"`
		Device string `json:"device"`
	}

	for _, kind := range []struct {
		typ  string
		into *[]string
		name func(id string, s spec) string
	}{
		{"LVMVolumeGroupSpecs.storage.talos.dev", &out.Groups, func(_ string, s spec) string { return s.Name }},
		{"LVMLogicalVolumeSpecs.storage.talos.dev", &out.Volumes, func(_ string, s spec) string { return s.VGName + "/" + s.Name }},
		{"LVMPhysicalVolumeSpecs.storage.talos.dev", &out.Devices, func(_ string, s spec) string { return s.Device }},
		{"MDArraySpecs.storage.talos.dev", &out.Arrays, func(id string, _ spec) string { return id }},
	} {
		if *kind.into, err = (View[spec, string]{Namespace: "storage", Type: kind.typ, Row: kind.name}).List(ctx, n); err != nil {
			return Declared{}, err
		}
	}

	return out, nil
}
