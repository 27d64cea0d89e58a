// Package wipe erases block devices of a node, after it has checked what uses them.
package wipe

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// Node is one node; *talos.Node implements it.
type Node interface {
	Disks(ctx context.Context) ([]talos.Disk, error)
	BlockDevices(ctx context.Context) ([]talos.BlockDevice, error)
	Volumes(ctx context.Context) ([]talos.Volume, error)
	DiscoveredVolumes(ctx context.Context) ([]talos.DiscoveredVolume, error)
	WipeDevices(ctx context.Context, devices []talos.DeviceWipe) error
}

// Device is the result for one device.
type Device struct {
	talos.NodeRef

	Device        string         `json:"device"`           // The device, with /dev/.
	Type          string         `json:"type"`             // disk or partition.
	SizeBytes     uint64         `json:"size_bytes"`       // Its size.
	Model         string         `json:"model,omitempty"`  // The disk's model.
	Serial        string         `json:"serial,omitempty"` // The disk's serial number.
	Contents      string         `json:"contents"`         // The content found on it: gpt, xfs, luks, …; empty if unknown.
	Method        string         `json:"method"`           // fast or zeroes.
	DropPartition bool           `json:"drop_partition"`   // Whether the partition is removed too.
	SystemDisk    bool           `json:"system_disk"`      // Whether it is the disk that Talos is installed on, or a part of it.
	UsedBy        []string       `json:"used_by"`          // Volumes, and RAID or LVM devices, that use it; never null.
	Gates         []gate.Verdict `json:"gates"`            // The verdict of the gate; never null.
	Status        runbook.Status `json:"status"`           // planned, wiped, refused, failed, unknown or interrupted.

	volumes, secondary bool // Whether the server's checks have to be skipped.
}

// Request is the user's request.
type Request struct {
	Devices       []string // With or without /dev/.
	Zeroes        bool
	DropPartition bool
	Limit         time.Duration // The time limit for the node's answer; 0 for as long as the node answers other requests.
}

// Plan reads the devices and what uses them, by the server's own rule (Talos,
// internal/app/storaged/blockdevice_wipe.go). It is what a dry run prints.
func Plan(ctx context.Context, n Node, node talos.Target, req Request) ([]Device, error) {
	devices, err := n.BlockDevices(ctx)
	if err != nil {
		return nil, err
	}

	disks, err := n.Disks(ctx)
	if err != nil {
		return nil, err
	}

	volumes, err := n.Volumes(ctx)
	if err != nil {
		return nil, err
	}

	found, err := n.DiscoveredVolumes(ctx)
	if err != nil {
		return nil, err
	}

	out := make([]Device, 0, len(req.Devices))

	for _, name := range req.Devices {
		d, err := planOne(strings.TrimPrefix(name, "/dev/"), devices, disks, volumes, found)
		if err != nil {
			return nil, err
		}

		if req.DropPartition && d.Type != "partition" {
			return nil, errs.Usagef("--drop-partition: %s is a %s, not a partition", d.Device, d.Type)
		}

		if d.Method = talos.WipeFast; req.Zeroes {
			d.Method = talos.WipeZeroes
		}

		d.DropPartition, d.Status = req.DropPartition, runbook.Planned
		d.SetNode(node)
		d.Gates = []gate.Verdict{d.verdict(node)}

		if !slices.ContainsFunc(out, func(o Device) bool { return o.Device == d.Device }) {
			out = append(out, d)
		}
	}

	return out, nil
}

func planOne(name string, devices []talos.BlockDevice, disks []talos.Disk, volumes []talos.Volume, found []talos.DiscoveredVolume) (Device, error) {
	at := slices.IndexFunc(devices, func(d talos.BlockDevice) bool { return d.Name == name })
	if at < 0 {
		return Device{}, errs.Usagef("the node has no block device %q", name).
			WithHint("its devices are %s", lists.Join(devices, ", ", func(d talos.BlockDevice) string { return d.Name }))
	}

	dev := devices[at]
	out := Device{Device: "/dev/" + name, Type: dev.Type, UsedBy: []string{}}

	for _, d := range disks {
		if base := path.Base(d.Device); base == name || base == dev.Parent {
			out.SystemDisk = d.SystemDisk

			if base == name {
				out.SizeBytes, out.Model, out.Serial = d.SizeBytes, d.Model, d.Serial
			}
		}
	}

	for _, f := range found {
		if path.Base(f.Device) == name {
			out.Contents, out.SizeBytes = f.Discovered, f.SizeBytes
		}
	}

	for _, other := range devices {
		if slices.Contains(other.Secondaries, name) {
			out.secondary = true
			out.UsedBy = append(out.UsedBy, "device "+other.Name)
		}
	}

	for _, v := range volumes {
		on := func(location string, names ...string) bool {
			return location != "" && slices.Contains(names, path.Base(location))
		}

		own := []string{name}
		if dev.Parent != "" {
			own = append(own, dev.Parent)
		}

		if on(v.Location, own...) || on(v.MountLocation, own...) || on(v.Parent, name) {
			out.volumes = true
			out.UsedBy = append(out.UsedBy, "volume "+v.ID)
		}
	}

	return out, nil
}

func (d Device) verdict(node talos.Target) gate.Verdict {
	switch {
	case d.SystemDisk:
		return gate.New(gate.SystemDisk, gate.Refuse, node.Address, "%s is the disk that Talos is installed on, or a part of it%s", d.Device, d.users(", used")).
			WithRemedy("wipe a node's own disk with `talosmate node reset`")
	case len(d.UsedBy) > 0:
		return gate.New(gate.SystemDisk, gate.Refuse, node.Address, "%s is in use%s", d.Device, d.users("")).
			WithRemedy("take it out of the machine configuration first")
	default:
		return gate.New(gate.SystemDisk, gate.Pass, node.Address, "nothing uses %s", d.Device)
	}
}

func (d Device) users(used string) string {
	if len(d.UsedBy) == 0 {
		return ""
	}

	return used + " by " + strings.Join(d.UsedBy, ", ")
}

// Gate applies the verdicts of all devices together: if one is refused, none is wiped.
func Gate(devices []Device, o gate.Overrides) error {
	var first error

	for i := range devices {
		if err := gate.Apply(devices[i].Gates, o); err != nil && first == nil {
			first = err
		}
	}

	if first != nil {
		for i := range devices {
			devices[i].Status = runbook.Refused
		}
	}

	return first
}

// Run wipes the devices of a plan, all in one request, and verifies that they are empty. limit bounds the wait for the
// node's answer, which comes when the wipe is done; 0 is for as long as the node answers other requests.
func Run(ctx context.Context, n Node, devices []Device, node string, limit time.Duration) error {
	req := make([]talos.DeviceWipe, len(devices))
	for i, d := range devices {
		// A server check is skipped only if the corresponding gate was overridden.
		req[i] = talos.DeviceWipe{
			Device: d.Device, Zeroes: d.Method == talos.WipeZeroes, DropPartition: d.DropPartition, SkipVolumes: d.volumes, SkipSecondary: d.secondary,
		}
	}

	// Whether a wipe shows depends on what was there before.
	shows := slices.ContainsFunc(devices, func(d Device) bool { return d.Contents != "" || d.DropPartition })

	sent := runbook.Request{Limit: limit, Send: func(ctx context.Context) error { return n.WipeDevices(ctx, req) }}.Once(ctx)

	status, err := expected{
		done: runbook.Wiped, what: "the devices of " + node + " to be empty",
		unknown:      "whether the devices were wiped is not known: run `" + errs.CommandLine("storage", "discovered", "-n", node) + "`",
		contradicted: "cannot wipe on " + node + ": the node answered that it wiped the devices, and still finds content",
		look: func(ctx context.Context) (bool, string, error) {
			left, err := contents(ctx, n, devices)
			if err != nil {
				return false, err.Error(), nil //nolint:nilerr // repeated until the deadline
			}

			return left == "" && (sent.Heard() || shows), left, nil
		},
	}.of(ctx, sent)

	if status == runbook.Interrupted {
		hint := "the wipe was requested and not answered: run `" + errs.CommandLine("storage", "discovered", "-n", node) + "` before you request it again"
		if sent.Heard() {
			hint = "the wipe was done: run `" + errs.CommandLine("storage", "discovered", "-n", node) + "`"
		}

		err = errs.BrokenOff(ctx, "wipe on "+node, hint)
	}

	for i := range devices {
		devices[i].Status = cmp.Or(status, devices[i].Status)
	}

	return err
}

// expected is what a request to erase something leads to.
type expected struct {
	done         runbook.Status // The status when it shows.
	what         string         // What is waited for.
	unknown      string         // The hint when it is not known whether it happened.
	contradicted string         // The error when the node answered, and the state does not show it.
	look         poll.Probe
}

// of reads back what a request did. The status is Unfinished when the run had ended before it was sent.
func (e expected) of(ctx context.Context, sent runbook.Sent) (runbook.Status, error) {
	switch {
	case sent.Answer == runbook.NotSent && ctx.Err() != nil:
		return runbook.Unfinished, sent.Err
	case ctx.Err() != nil:
		return runbook.Interrupted, context.Cause(ctx)
	case sent.Answer == runbook.NotSent, sent.Answer == runbook.Rejected:
		return runbook.Failed, sent.Err
	}

	seen := sent.ReadBack(ctx, e.what, runbook.ShownWithin, e.unknown, e.look)

	switch {
	case seen == nil:
		return e.done, nil
	case ctx.Err() != nil:
		return runbook.Interrupted, seen
	case sent.Answer == runbook.Lost:
		return runbook.Unknown, seen
	default:
		return runbook.Failed, &errs.Error{Exit: errs.Lost, Err: fmt.Errorf("%s: %w", e.contradicted, seen)}
	}
}

// contents lists the content that is still found on the devices, empty for none.
func contents(ctx context.Context, n Node, devices []Device) (string, error) {
	found, err := n.DiscoveredVolumes(ctx)
	if err != nil {
		return "", err
	}

	for _, f := range found {
		for _, d := range devices {
			if f.Device == d.Device && (f.Discovered != "" || d.DropPartition) {
				return fmt.Sprintf("%s holds %s", f.Device, f.Discovered), nil
			}
		}
	}

	return "", nil
}
