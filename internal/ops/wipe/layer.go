package wipe

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// Storage is a node with LVM and RAID; *talos.Node implements it.
type Storage interface {
	LVM(ctx context.Context) ([]talos.LVMDevice, error)
	Arrays(ctx context.Context) ([]talos.Array, error)
	Volumes(ctx context.Context) ([]talos.Volume, error)
	DeclaredStorage(ctx context.Context) (talos.Declared, error)
	RemoveLVM(ctx context.Context, d talos.LVMDevice) error
	DestroyArray(ctx context.Context, a talos.Array) error
}

// RAIDArray is the kind of a layer that is not LVM's.
const RAIDArray = "raid_array"

// Kinds are the layers that can be removed, by the words of the command line.
func Kinds() map[string]string {
	return map[string]string{
		"vg": talos.VolumeGroup, "lv": talos.LogicalVolume, "pv": talos.PhysicalVolume, "raid": RAIDArray,
	}
}

// Layer is the removal of one LVM device or RAID array.
type Layer struct {
	talos.NodeRef

	Kind      string         `json:"kind"`       // volume_group, logical_volume, physical_volume or raid_array.
	Name      string         `json:"name"`       // GROUP/NAME for a logical volume, the device for a physical volume.
	Device    string         `json:"device"`     // The block device; empty for a volume group.
	SizeBytes uint64         `json:"size_bytes"` // Its size; 0 for an array, which Talos does not say.
	Holds     []string       `json:"holds"`      // What is lost with it: the logical volumes of a group, the members of an array; never null.
	UsedBy    []string       `json:"used_by"`    // Why it should stay; never null.
	Gates     []gate.Verdict `json:"gates"`      // The verdict of the gate; never null.
	Status    runbook.Status `json:"status"`     // planned, removed, refused, failed, unknown or interrupted.

	lvm   talos.LVMDevice
	array talos.Array
}

// PlanLayer finds the device and what uses it. It is what a dry run prints.
func PlanLayer(ctx context.Context, n Storage, node talos.Target, kind, name string) (Layer, error) {
	all, err := layers(ctx, n)
	if err != nil {
		return Layer{}, err
	}

	of := lists.Filter(all, func(l Layer) bool { return l.Kind == kind })

	out, found := lists.Find(of, func(l Layer) bool { return l.Name == name || l.Device == name || l.Device == "/dev/"+name })
	if !found {
		known := "it has none"
		if len(of) > 0 {
			known = "it has " + lists.Join(of, ", ", func(l Layer) string { return l.Name })
		}

		return Layer{}, errs.Usagef("the node has no %s %q", strings.ReplaceAll(kind, "_", " "), name).WithHint("%s", known)
	}

	if err = out.use(ctx, n, all); err != nil {
		return Layer{}, err
	}

	out.Status = runbook.Planned
	out.SetNode(node)

	verdict := gate.New(gate.SystemDisk, gate.Pass, node.Address, "nothing uses %s", out.Name)
	if len(out.UsedBy) > 0 {
		verdict = gate.New(gate.SystemDisk, gate.Refuse, node.Address, "%s is in use: %s", out.Name, strings.Join(out.UsedBy, "; ")).
			WithRemedy("take it out of use, and out of the machine configuration, first")
	}

	out.Gates = []gate.Verdict{verdict}

	return out, nil
}

// Names lists the names that the devices of a kind, by its word, can be removed by.
func Names(ctx context.Context, n Storage, kind string) ([]string, error) {
	all, err := layers(ctx, n)

	return lists.Map(lists.Filter(all, func(l Layer) bool { return l.Kind == Kinds()[kind] }), func(l Layer) string { return l.Name }), err
}

func layers(ctx context.Context, n Storage) ([]Layer, error) {
	devices, err := n.LVM(ctx)
	if err != nil {
		return nil, err
	}

	arrays, err := n.Arrays(ctx)
	if err != nil {
		return nil, err
	}

	var out []Layer

	for _, d := range devices {
		l := Layer{Kind: d.Kind, Name: d.Name, Device: d.Device, SizeBytes: d.SizeBytes, Holds: []string{}, UsedBy: []string{}, lvm: d}
		if d.Kind == talos.LogicalVolume {
			l.Name = d.VolumeGroup + "/" + d.Name
		}

		out = append(out, l)
	}

	for _, a := range arrays {
		out = append(out, Layer{Kind: RAIDArray, Name: a.Name, Device: a.Device, Holds: slices.Clone(a.Members), UsedBy: []string{}, array: a})
	}

	return out, nil
}

// use finds what is lost with a layer and why it should stay: what is open or stacked on it, and the configuration, by
// which Talos would make it again.
func (l *Layer) use(ctx context.Context, n Storage, all []Layer) error {
	declared, err := n.DeclaredStorage(ctx)
	if err != nil {
		return err
	}

	volumes, err := n.Volumes(ctx)
	if err != nil {
		return err
	}

	open := func(o Layer) bool { return slices.Contains(o.lvm.State, "open") }

	switch l.Kind {
	case talos.VolumeGroup:
		for _, o := range all {
			if o.Kind == talos.LogicalVolume && o.lvm.VolumeGroup == l.Name {
				l.Holds = append(l.Holds, o.Name)

				if open(o) {
					l.UsedBy = append(l.UsedBy, "logical volume "+o.Name+" is open")
				}
			}
		}
	case talos.LogicalVolume:
		if open(*l) {
			l.UsedBy = append(l.UsedBy, "it is open")
		}
	case talos.PhysicalVolume:
		if l.lvm.VolumeGroup != "" {
			l.UsedBy = append(l.UsedBy, "volume group "+l.lvm.VolumeGroup+" has it")
		}
	default:
		for _, o := range all {
			if o.Kind == talos.PhysicalVolume && o.Device == l.Device {
				l.UsedBy = append(l.UsedBy, "physical volume "+o.Name)
			}
		}
	}

	for _, v := range volumes {
		if l.Device != "" && (v.Location == l.Device || v.Parent == l.Device) {
			l.UsedBy = append(l.UsedBy, "volume "+v.ID)
		}
	}

	asked := map[string][]string{
		talos.VolumeGroup: declared.Groups, talos.LogicalVolume: declared.Volumes, talos.PhysicalVolume: declared.Devices, RAIDArray: declared.Arrays,
	}
	if slices.Contains(asked[l.Kind], l.Name) {
		l.UsedBy = append(l.UsedBy, "the machine configuration declares it")
	}

	return nil
}

// RemoveLayer removes it, once, and reads back that it is gone. limit bounds the wait for the node's answer; 0 is for as
// long as the node answers other requests.
func RemoveLayer(ctx context.Context, n Storage, l *Layer, limit time.Duration) error {
	sent := runbook.Request{Limit: limit, Send: func(ctx context.Context) error {
		if l.Kind == RAIDArray {
			return n.DestroyArray(ctx, l.array)
		}

		return n.RemoveLVM(ctx, l.lvm)
	}}.Once(ctx)

	const hint = "whether it was removed is not known: run `talosmate storage lvm` or `talosmate storage raid`"

	status, err := expected{
		done: runbook.Removed, what: l.Name + " to be gone", unknown: hint,
		contradicted: "cannot remove " + l.Name + ": the node answered that it did, and still has it",
		look: func(ctx context.Context) (bool, string, error) {
			all, err := layers(ctx, n)
			if err != nil {
				return false, err.Error(), nil //nolint:nilerr // repeated until the deadline
			}

			still := slices.ContainsFunc(all, func(o Layer) bool { return o.Kind == l.Kind && o.Name == l.Name })

			return !still, l.Name + " is still there", nil
		},
	}.of(ctx, sent)

	if status == runbook.Interrupted {
		err = errs.BrokenOff(ctx, "remove "+l.Name, hint)
	}

	l.Status = cmp.Or(status, l.Status)

	return err
}
