package machine

import (
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/resources/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// layers are the LVM devices and RAID arrays of a node that was made with them and runs Talos 1.14 or later, but those
// that were removed: a volume group `data` on /dev/sdc with the logical volumes `db`, which is open, and `scratch`, a
// physical volume /dev/sdd without a group, and an array `mirror`.
func (n *Node) layers() []resource.Resource {
	if !n.withLayers {
		return nil
	}

	group := storage.NewLVMVolumeGroupStatus(storage.NamespaceName, "data")
	*group.TypedSpec() = storage.LVMVolumeGroupStatusSpec{Name: "data", UUID: "vg-data", Size: "107374182400", Free: "21474836480", LVCount: "2", PVCount: "1"}

	out, in := []resource.Resource{group}, "data"
	if n.layersGone[layerKey(group)] {
		in = "" // its physical volumes keep their labels
	}

	for device, in := range map[string]string{"sdc": in, "sdd": ""} {
		pv := storage.NewLVMPhysicalVolumeStatus(storage.NamespaceName, device)
		*pv.TypedSpec() = storage.LVMPhysicalVolumeStatusSpec{Device: "/dev/" + device, VGName: in, UUID: "pv-" + device, Size: "107374182400", Free: "21474836480"}

		if in != "" {
			pv.TypedSpec().InUse = "used"
		}

		out = append(out, pv)
	}

	for name, open := range map[string]string{"db": "open", "scratch": ""} {
		lv := storage.NewLVMLogicalVolumeStatus(storage.NamespaceName, "data/"+name)
		*lv.TypedSpec() = storage.LVMLogicalVolumeStatusSpec{
			Path: "/dev/data/" + name, Name: name, VGName: "data", UUID: "lv-" + name, Layout: "linear", Active: "active", DeviceOpen: open, Size: "42949672960",
		}
		out = append(out, lv)
	}

	array := storage.NewMDArrayStatus(storage.NamespaceName, "mirror")
	*array.TypedSpec() = storage.MDArrayStatusSpec{
		Level: storage.MDLevelRAID1, Device: "/dev/md/mirror", Members: []string{"/dev/sde", "/dev/sdf"}, Status: storage.MDArrayPhaseReady,
		RaidDevices: 2, UUID: "md-mirror", ArrayState: "clean", SyncAction: "idle",
	}

	return slices.DeleteFunc(append(out, array), func(d resource.Resource) bool { return n.layersGone[layerKey(d)] })
}

func layerKey(r resource.Resource) string { return r.Metadata().Type() + "/" + r.Metadata().ID() }

// RemoveLayers removes LVM devices or an array. which selects what goes, keeps what forbids it; Talos says no more than
// the code and a short text (internal/app/lvmd, 1.14).
func (n *Node) RemoveLayers(what string, which, keeps func(resource.Resource) bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()

	all := n.layers()
	if n.state == nil || !slices.ContainsFunc(all, func(d resource.Resource) bool { return which(d) }) {
		return status.Error(codes.Internal, what+" operation failed")
	}

	if slices.ContainsFunc(all, func(d resource.Resource) bool { return keeps(d) }) {
		return status.Error(codes.FailedPrecondition, "device is in use")
	}

	for _, d := range all {
		if which(d) {
			n.layersGone[layerKey(d)] = true
			n.remove(d.Metadata())
		}
	}

	for _, d := range n.layers() {
		n.put(d, "storage.LVMController")
	}

	n.note("remove", what)

	return nil
}
