package wipe_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/wipe"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

var (
	errAway = &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Err: errors.New("connection reset")}
	errNo   = &errs.Error{Exit: errs.Failed, Kind: errs.KindPrecondition, Err: errors.New("mounted or in use")}
)

// node has a system disk sda, a data disk sdb with a file system, and a RAID md0 over sdc.
type node struct {
	sent   []talos.DeviceWipe
	wiped  bool
	answer error // Of the request.
	ignore bool  // The request does not arrive.
	hang   bool  // The request takes long.
	blind  bool  // What is on the devices cannot be read afterwards.
}

func (n *node) Disks(context.Context) ([]talos.Disk, error) {
	return []talos.Disk{{Device: "/dev/sda", SystemDisk: true}, {Device: "/dev/sdb", SizeBytes: 10}, {Device: "/dev/sdc"}}, nil
}

func (n *node) BlockDevices(context.Context) ([]talos.BlockDevice, error) {
	return []talos.BlockDevice{
		{Name: "sda", Type: "disk"},
		{Name: "sda5", Type: "partition", Parent: "sda"},
		{Name: "sdb", Type: "disk"},
		{Name: "sdc", Type: "disk"},
		{Name: "md0", Type: "disk", Secondaries: []string{"sdc"}},
	}, nil
}

func (n *node) Volumes(context.Context) ([]talos.Volume, error) { return nil, nil }

func (n *node) DiscoveredVolumes(context.Context) ([]talos.DiscoveredVolume, error) {
	switch {
	case n.blind && len(n.sent) > 0:
		return nil, errAway
	case n.wiped:
		return nil, nil
	default:
		return []talos.DiscoveredVolume{{Device: "/dev/sdb", Discovered: "xfs"}}, nil
	}
}

func (n *node) WipeDevices(ctx context.Context, devices []talos.DeviceWipe) error {
	n.sent = append(n.sent, devices...)

	if n.hang {
		<-ctx.Done()

		return errAway
	}

	n.wiped = !n.ignore

	return n.answer
}

func TestRun(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name string
		n    node
		want runbook.Status
		code errs.Code
	}{
		{"done", node{}, runbook.Wiped, errs.OK},
		{"refused", node{answer: errNo, ignore: true}, runbook.Failed, errs.Failed},
		{"the answer is lost and it was done", node{answer: errAway}, runbook.Wiped, errs.OK},
		{"the answer is lost and it was not done", node{answer: errAway, ignore: true}, runbook.Unknown, errs.Unknown},
		{"the answer is lost and so is the node", node{answer: errAway, blind: true}, runbook.Unknown, errs.Unknown},
		{"it answers and does not do it", node{ignore: true}, runbook.Failed, errs.Lost},
		{"interrupted while it wipes", node{hang: true}, runbook.Interrupted, errs.Interrupted},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := c.n
				ctx, cancel := context.WithCancelCause(t.Context())

				defer cancel(nil)

				if c.code == errs.Interrupted {
					time.AfterFunc(time.Second, func() { cancel(errs.New(errs.Interrupted, "interrupted")) })
				}

				devices, err := wipe.Plan(ctx, &n, talos.Target{Address: "n1"}, wipe.Request{Devices: []string{"/dev/sdb"}})
				if err != nil {
					t.Fatal(err)
				}

				err = wipe.Run(ctx, &n, devices, "n1", 0)
				if devices[0].Status != c.want || errs.ExitCode(err) != c.code {
					t.Errorf("status %s, exit %d, want %s, %d: %v", devices[0].Status, errs.ExitCode(err), c.want, c.code, err)
				}

				if len(n.sent) != 1 {
					t.Errorf("%d requests, want 1", len(n.sent))
				}
			})
		})
	}
}

// TestRunInterruptedBefore sends nothing once the run was interrupted.
func TestRunInterruptedBefore(t *testing.T) {
	t.Parallel()

	var n node

	devices, err := wipe.Plan(t.Context(), &n, talos.Target{Address: "n1"}, wipe.Request{Devices: []string{"sdb"}})
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errs.New(errs.Interrupted, "interrupted"))

	if err = wipe.Run(ctx, &n, devices, "n1", 0); errs.ExitCode(err) != errs.Interrupted || len(n.sent) > 0 || devices[0].Status != runbook.Planned {
		t.Errorf("exit %d, status %s, sent %v", errs.ExitCode(err), devices[0].Status, n.sent)
	}
}

func TestGate(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name    string
		devices []string
		pass    []string
		code    errs.Code
	}{
		{"a free disk", []string{"sdb"}, nil, errs.OK},
		{"the system disk", []string{"sda"}, nil, errs.Refused},
		{"a part of it", []string{"/dev/sda5"}, nil, errs.Refused},
		{"a member of a RAID", []string{"sdc"}, nil, errs.Refused},
		{"one of two", []string{"sdb", "sdc"}, nil, errs.Refused},
		{"overridden", []string{"sdc"}, []string{string(gate.SystemDisk)}, errs.OK},
		{"no such device", []string{"sdz"}, nil, errs.Usage},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			devices, err := wipe.Plan(t.Context(), &node{}, talos.Target{Address: "n1"}, wipe.Request{Devices: c.devices})
			if err == nil {
				err = wipe.Gate(devices, c.pass)
			}

			if errs.ExitCode(err) != c.code {
				t.Errorf("exit %d, want %d: %v", errs.ExitCode(err), c.code, err)
			}

			if c.code == errs.Refused {
				for _, d := range devices {
					if d.Status != runbook.Refused {
						t.Errorf("%s is %s: one that is refused keeps all from being wiped", d.Device, d.Status)
					}
				}
			}
		})
	}
}
