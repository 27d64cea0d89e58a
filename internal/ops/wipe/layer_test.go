package wipe_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/wipe"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// stacked has a volume group `data` on sdb with an open and a closed logical volume, a group `old` with a closed one, a
// device without a group, and an array that carries a physical volume beside a free one.
type stacked struct {
	removed  []string
	answer   error // Of the request.
	ignore   bool  // The request does not arrive.
	declared talos.Declared
}

func (s *stacked) LVM(context.Context) ([]talos.LVMDevice, error) {
	all := []talos.LVMDevice{
		{Kind: talos.VolumeGroup, Name: "data", VolumeGroup: "data"},
		{Kind: talos.PhysicalVolume, Name: "/dev/sdb", Device: "/dev/sdb", VolumeGroup: "data"},
		{Kind: talos.PhysicalVolume, Name: "/dev/md/carrying", Device: "/dev/md/carrying", VolumeGroup: "data"},
		{Kind: talos.LogicalVolume, Name: "db", VolumeGroup: "data", Device: "/dev/data/db", State: []string{"active", "open"}},
		{Kind: talos.LogicalVolume, Name: "scratch", VolumeGroup: "data", Device: "/dev/data/scratch", State: []string{"active"}},
		{Kind: talos.LogicalVolume, Name: "mounted", VolumeGroup: "data", Device: "/dev/data/mounted", State: []string{"active"}},
		{Kind: talos.VolumeGroup, Name: "old", VolumeGroup: "old"},
		{Kind: talos.LogicalVolume, Name: "db", VolumeGroup: "old", Device: "/dev/old/db"},
		{Kind: talos.PhysicalVolume, Name: "/dev/sdc", Device: "/dev/sdc"},
	}

	return slices.DeleteFunc(all, func(d talos.LVMDevice) bool { return slices.Contains(s.removed, d.Kind+" "+d.VolumeGroup+" "+d.Name) }), nil
}

func (s *stacked) Arrays(context.Context) ([]talos.Array, error) {
	all := []talos.Array{
		{Name: "carrying", Device: "/dev/md/carrying", Members: []string{"/dev/sdd"}},
		{Name: "free", Device: "/dev/md/free", Members: []string{"/dev/sde", "/dev/sdf"}},
	}

	return slices.DeleteFunc(all, func(a talos.Array) bool { return slices.Contains(s.removed, a.Name) }), nil
}

func (s *stacked) Volumes(context.Context) ([]talos.Volume, error) {
	return []talos.Volume{{ID: "u-db", Location: "/dev/data/mounted"}}, nil
}

func (s *stacked) DeclaredStorage(context.Context) (talos.Declared, error) { return s.declared, nil }

func (s *stacked) RemoveLVM(_ context.Context, d talos.LVMDevice) error {
	if !s.ignore {
		s.removed = append(s.removed, d.Kind+" "+d.VolumeGroup+" "+d.Name)
	}

	return s.answer
}

func (s *stacked) DestroyArray(_ context.Context, a talos.Array) error {
	if !s.ignore {
		s.removed = append(s.removed, a.Name)
	}

	return s.answer
}

// What is open, stacked upon or declared is refused, and what is lost with a device is named.
func TestPlanLayer(t *testing.T) {
	t.Parallel()

	declared := talos.Declared{Groups: []string{"old"}}

	for _, c := range []struct {
		kind, name, holds, used string
		declared                talos.Declared
	}{
		{kind: "vg", name: "data", holds: "data/db data/scratch data/mounted", used: "logical volume data/db is open"},
		{kind: "vg", name: "old", holds: "old/db"},
		{kind: "vg", name: "old", holds: "old/db", used: "the machine configuration declares it", declared: declared},
		{kind: "lv", name: "data/db", used: "it is open"},
		{kind: "lv", name: "data/scratch"},
		{kind: "lv", name: "/dev/data/scratch"},
		{kind: "lv", name: "data/mounted", used: "volume u-db"},
		{kind: "pv", name: "sdb", used: "volume group data has it"},
		{kind: "pv", name: "/dev/sdc"},
		{kind: "raid", name: "carrying", holds: "/dev/sdd", used: "physical volume /dev/md/carrying"},
		{kind: "raid", name: "free", holds: "/dev/sde /dev/sdf"},
	} {
		l, err := wipe.PlanLayer(t.Context(), &stacked{declared: c.declared}, talos.Target{Address: "10.0.0.1"}, wipe.Kinds()[c.kind], c.name)
		if err != nil {
			t.Fatal(err)
		}

		refused := gate.Apply(l.Gates, gate.Overrides{}) != nil
		if strings.Join(l.Holds, " ") != c.holds || strings.Join(l.UsedBy, "; ") != c.used || refused != (c.used != "") {
			t.Errorf("%s %s: holds %q, used by %q, refused %t", c.kind, c.name, l.Holds, l.UsedBy, refused)
		}
	}

	_, err := wipe.PlanLayer(t.Context(), &stacked{}, talos.Target{}, talos.LogicalVolume, "db")
	if errs.ExitCode(err) != errs.Usage || !strings.Contains(strings.Join(errs.Hints(err), " "), "data/db, data/scratch, data/mounted, old/db") {
		t.Errorf("a name without its group: %v, %q", err, errs.Hints(err))
	}
}

func TestRemoveLayer(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		n    stacked
		want runbook.Status
		code errs.Code
		sent int
	}{
		"removed":                       {want: runbook.Removed, sent: 1},
		"the answer is lost":            {n: stacked{answer: errAway}, want: runbook.Removed, sent: 1},
		"the request is lost":           {n: stacked{answer: errAway, ignore: true}, want: runbook.Unknown, code: errs.Unknown},
		"it is refused":                 {n: stacked{answer: errNo, ignore: true}, want: runbook.Failed, code: errs.Failed},
		"it is answered, and not done":  {n: stacked{ignore: true}, want: runbook.Failed, code: errs.Lost},
		"removed with an unusual error": {n: stacked{answer: errors.Join(errAway)}, want: runbook.Removed, sent: 1},
	} {
		for kind, device := range map[string]string{"vg": "old", "lv": "data/scratch", "pv": "/dev/sdc", "raid": "free"} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					n := c.n

					l, err := wipe.PlanLayer(t.Context(), &n, talos.Target{Address: "10.0.0.1"}, wipe.Kinds()[kind], device)
					if err != nil {
						t.Fatal(err)
					}

					err = wipe.RemoveLayer(t.Context(), &n, &l, 0)
					if l.Status != c.want || errs.ExitCode(err) != c.code || len(n.removed) != c.sent {
						t.Errorf("status %q, exit code %d, removed %q: %v", l.Status, errs.ExitCode(err), n.removed, err)
					}
				})
			})
		}
	}
}

// An interruption leaves the outcome to be read.
func TestRemoveLayerInterrupted(t *testing.T) {
	t.Parallel()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	n := stacked{}

	l, err := wipe.PlanLayer(t.Context(), &n, talos.Target{Address: "10.0.0.1"}, talos.VolumeGroup, "old")
	if err != nil {
		t.Fatal(err)
	}

	if err = wipe.RemoveLayer(ctx, &n, &l, 0); !errors.Is(err, context.Canceled) || len(n.removed) != 0 {
		t.Errorf("%v, removed %q", err, n.removed)
	}
}
