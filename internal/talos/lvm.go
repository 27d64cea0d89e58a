package talos

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/talosmate/talosmate/internal/lists"
)

// Kinds of LVM devices.
const (
	VolumeGroup    = "volume_group"
	PhysicalVolume = "physical_volume"
	LogicalVolume  = "logical_volume"
)

// LVMDevice is a volume group, a physical volume or a logical volume.
type LVMDevice struct {
	NodeRef

	Kind        string   `json:"kind"`             // volume_group, physical_volume or logical_volume.
	Name        string   `json:"name"`             // The name; the device of a physical volume.
	VolumeGroup string   `json:"volume_group"`     // The volume group that it is or is part of; empty for none.
	Device      string   `json:"device"`           // The block device; empty for a volume group.
	UUID        string   `json:"uuid"`             // LVM's UUID.
	SizeBytes   uint64   `json:"size_bytes"`       // The size.
	FreeBytes   uint64   `json:"free_bytes"`       // What no logical volume uses; 0 for a logical volume.
	Layout      string   `json:"layout,omitempty"` // Of a logical volume: linear, raid1, thin,pool, …
	State       []string `json:"state"`            // LVM's own words: active, open, suspended, used, missing, partial, exported; never null.
	Error       string   `json:"error,omitempty"`  // Why Talos cannot make the volume group as configured.
}

// LVM lists the volume groups of Talos 1.14, each with its physical and logical volumes. Roles: reader, operator,
// admin.
func (n *Node) LVM(ctx context.Context) ([]LVMDevice, error) {
	groups, err := n.volumeGroups(ctx)
	if err != nil {
		return nil, err
	}

	type physical struct {
		Device   string `json:"device"`
		VGName   string `json:"vgName"`
		UUID     string `json:"uuid"`
		Missing  string `json:"missing"`
		Exported string `json:"exported"`
		InUse    string `json:"inUse"`
		Size     string `json:"size"`
		Free     string `json:"free"`
	}

	physicals, err := View[physical, LVMDevice]{
		Namespace: "storage", Type: "LVMPhysicalVolumeStatuses.storage.talos.dev",
		Row: func(_ string, s physical) LVMDevice {
			return LVMDevice{
				Kind: PhysicalVolume, Name: s.Device, VolumeGroup: s.VGName, Device: s.Device, UUID: s.UUID,
				SizeBytes: count(s.Size), FreeBytes: count(s.Free), State: words(s.InUse, s.Missing, s.Exported),
			}
		},
	}.List(ctx, n)
	if err != nil {
		return nil, err
	}

	type logical struct {
		Path       string `json:"path"`
		Name       string `json:"name"`
		VGName     string `json:"vgName"`
		UUID       string `json:"uuid"`
		Layout     string `json:"layout"`
		Active     string `json:"active"`
		Suspended  string `json:"suspended"`
		DeviceOpen string `json:"deviceOpen"`
		Size       string `json:"size"`
	}

	logicals, err := View[logical, LVMDevice]{
		Namespace: "storage", Type: "LVMLogicalVolumeStatuses.storage.talos.dev",
		Row: func(_ string, s logical) LVMDevice {
			return LVMDevice{
				Kind: LogicalVolume, Name: s.Name, VolumeGroup: s.VGName, Device: s.Path, UUID: s.UUID,
				SizeBytes: count(s.Size), Layout: s.Layout, State: words(s.Active, s.DeviceOpen, s.Suspended),
			}
		},
	}.List(ctx, n)

	out := slices.Concat(groups, physicals, logicals)
	lists.Sort(out, func(a, b LVMDevice) int { return strings.Compare(a.VolumeGroup, b.VolumeGroup) })

	return out, err
}

func (n *Node) volumeGroups(ctx context.Context) ([]LVMDevice, error) {
	type group struct {
		Name     string `json:"name"`
		UUID     string `json:"uuid"`
		Partial  string `json:"partial"`
		Exported string `json:"exported"`
		Size     string `json:"size"`
		Free     string `json:"free"`
	}

	out, err := View[group, LVMDevice]{
		Namespace: "storage", Type: "LVMVolumeGroupStatuses.storage.talos.dev", Since: "v1.14",
		Row: func(_ string, s group) LVMDevice {
			return LVMDevice{
				Kind: VolumeGroup, Name: s.Name, VolumeGroup: s.Name, UUID: s.UUID,
				SizeBytes: count(s.Size), FreeBytes: count(s.Free), State: words(s.Partial, s.Exported),
			}
		},
	}.List(ctx, n)
	if err != nil {
		return nil, err
	}

	type invalid struct {
		VGName  string `json:"vgName"`
		Message string `json:"message"`
	}

	bad, err := View[invalid, LVMDevice]{
		Namespace: "storage", Type: "LVMValidationErrors.storage.talos.dev",
		Row: func(id string, s invalid) LVMDevice {
			name := cmp.Or(s.VGName, id)

			return LVMDevice{Kind: VolumeGroup, Name: name, VolumeGroup: name, State: []string{}, Error: s.Message}
		},
	}.List(ctx, n)

	for _, b := range bad {
		if at := slices.IndexFunc(out, func(g LVMDevice) bool { return g.Name == b.Name }); at >= 0 {
			out[at].Error = b.Error
		} else {
			out = append(out, b) // it was never made
		}
	}

	return out, err
}

// count reads a number that LVM reports as text; what is not a number counts as 0, as LVM's empty columns do.
func count(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)

	return n
}

// words are the columns of LVM that say something.
func words(columns ...string) []string {
	return slices.DeleteFunc(columns, func(c string) bool { return c == "" || c == "unknown" })
}

// Array is a software RAID array (MD).
type Array struct {
	NodeRef

	Name       string   `json:"name"`            // The configured name, or the one in the array's metadata.
	Device     string   `json:"device"`          // The block device.
	Level      string   `json:"level"`           // The RAID level: raid1.
	Status     string   `json:"status"`          // waiting, rebuilding, ready, error or unknown.
	ArrayState string   `json:"array_state"`     // The kernel's array_state: clean, active, …
	SyncAction string   `json:"sync_action"`     // The kernel's sync_action: idle, resync, recover, check, …
	Devices    int      `json:"devices"`         // How many devices are active.
	Members    []string `json:"members"`         // The devices that it is made of; never null.
	UUID       string   `json:"uuid"`            // The array's UUID.
	Error      string   `json:"error,omitempty"` // Why Talos could not make it.
}

// Arrays lists the software RAID arrays of Talos 1.14. Roles: reader, operator, admin.
func (n *Node) Arrays(ctx context.Context) ([]Array, error) {
	type spec struct {
		Level       string   `json:"level"`
		Device      string   `json:"device"`
		Error       string   `json:"error"`
		Status      string   `json:"status"`
		UUID        string   `json:"uuid"`
		Name        string   `json:"name"`
		ArrayState  string   `json:"arrayState"`
		SyncAction  string   `json:"syncAction"`
		Members     []string `json:"members"`
		RaidDevices int      `json:"raidDevices"`
	}

	return View[spec, Array]{
		Namespace: "storage", Type: "MDArrayStatuses.storage.talos.dev", Since: "v1.14",
		Row: func(id string, s spec) Array {
			return Array{
				Name: cmp.Or(s.Name, id), Device: s.Device, Level: s.Level, Status: s.Status, ArrayState: s.ArrayState,
				SyncAction: s.SyncAction, Devices: s.RaidDevices, Members: notNil(s.Members), UUID: s.UUID, Error: s.Error,
			}
		},
	}.List(ctx, n)
}
