package rollout

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// TestColdBoot reboots the canary, or each node, through the firmware after its upgrade.
func TestColdBoot(t *testing.T) {
	t.Parallel()

	// second is what the second boot of worker-1 does.
	second := func(f *fakeFleet, do func() string) {
		boots := 0
		f.nodes["worker-1"].BootInto = func(installed string) string {
			if boots++; boots == 2 {
				return do()
			}

			return installed
		}
	}

	for name, c := range map[string]struct {
		which   string
		arrange func(*fakeFleet)
		status  runbook.Status
		code    errs.Code
		node    runbook.Status
		reboots map[string]int
	}{
		"the canary": {
			which: ColdBootCanary, status: runbook.OK, node: runbook.OK, reboots: map[string]int{"worker-1": 2, "worker-2": 1, "cp-1": 1, "cp-2": 1, "cp-3": 1},
		},
		"each": {which: ColdBootEach, status: runbook.OK, node: runbook.OK, reboots: map[string]int{"worker-1": 2, "worker-2": 2, "cp-1": 2, "cp-2": 2, "cp-3": 2}},
		"none": {which: ColdBootNone, status: runbook.OK, node: runbook.OK, reboots: map[string]int{"worker-1": 1, "worker-2": 1, "cp-1": 1, "cp-2": 1, "cp-3": 1}},
		"it does not come back": {
			which: ColdBootCanary, status: runbook.Halted, code: errs.Lost, node: runbook.DidNotReturn, reboots: map[string]int{"worker-1": 2},
			arrange: func(f *fakeFleet) {
				second(f, func() string {
					f.nodes["worker-1"].Never = true

					return ""
				})
			},
		},
		"the firmware starts the old version": {
			which: ColdBootCanary, status: runbook.Halted, code: errs.RolledBack, node: runbook.RolledBack, reboots: map[string]int{"worker-1": 2},
			arrange: func(f *fakeFleet) { second(f, func() string { return "v1.13.8" }) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleetOf(t, "v1.13.8", 2)
				if c.arrange != nil {
					c.arrange(f)
				}

				res, err := f.apply(t.Context(), Request{To: "v1.13.9", Canary: "worker-1"}, func(o *ApplyOptions) { o.ColdBoot = c.which })
				if res.Status != c.status || errs.ExitCode(err) != c.code || res.Nodes[0].Status != c.node {
					t.Fatalf("%q, exit code %d, the canary %q: %v", res.Status, errs.ExitCode(err), res.Nodes[0].Status, err)
				}

				cold := res.Nodes[0].ColdBoot
				if (cold != nil) != (c.which != ColdBootNone) || cold != nil && (cold.OK != (err == nil) || cold.OK != (cold.Error == "") || cold.OK && cold.DowntimeSeconds == 0) {
					t.Errorf("%+v", cold)
				}

				for node, m := range f.nodes {
					if m.Count("reboot") != c.reboots[node] {
						t.Errorf("%s: %v", node, m.Calls)
					}
				}

				if err == nil {
					f.clean(t)
				}
			})
		})
	}
}

// A run that was broken off between an upgrade and its proof makes up for it, unless the node was proved since.
func TestColdBootResumes(t *testing.T) {
	t.Parallel()

	for proof, want := range map[string]int{talos.ThroughKexec: 1, talos.ThroughFirmware: 0, talos.Unproven: 0} {
		t.Run(proof, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleetOf(t, "v1.13.8", 2)
				f.nodes["worker-1"].Running.Tag = "v1.13.9"
				f.BootAudit = func(context.Context, talos.Target) (talos.BootAudit, error) {
					return talos.BootAudit{Proof: proof}, nil
				}

				res, err := f.apply(t.Context(), Request{To: "v1.13.9", Canary: "worker-1"}, func(o *ApplyOptions) { o.ColdBoot = ColdBootCanary })
				if err != nil || res.Upgraded != 4 || f.nodes["worker-1"].Count("reboot") != want || f.nodes["worker-1"].Count("install") != 0 {
					t.Errorf("%d upgraded, %v: %v", res.Upgraded, f.nodes["worker-1"].Calls, err)
				}
			})
		})
	}
}

// TestColdBootAlone asks for a proof where nothing is upgraded: what only kexec has started is rebooted; otherwise the result says
// that nothing was proved, and how a node is.
func TestColdBootAlone(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		which, proof string
		dryRun       bool
		status       runbook.Status
		hint         string
		reboots      map[string]int
	}{
		"nobody asked":      {ColdBootNone, talos.ThroughKexec, false, runbook.AlreadyCurrent, "", nil},
		"the canary owes":   {ColdBootCanary, talos.ThroughKexec, false, runbook.OK, "", map[string]int{"worker-1": 1}},
		"each owes":         {ColdBootEach, talos.ThroughKexec, false, runbook.OK, "", map[string]int{"worker-1": 1, "worker-2": 1, "cp-1": 1, "cp-2": 1, "cp-3": 1}},
		"it is proved":      {ColdBootCanary, talos.ThroughFirmware, false, runbook.AlreadyCurrent, "talosmate node reboot -n worker-1 --reboot-mode powercycle", nil},
		"it is not known":   {ColdBootEach, talos.Unproven, false, runbook.AlreadyCurrent, "nothing proved", nil},
		"only a look at it": {ColdBootCanary, talos.ThroughKexec, true, runbook.Planned, "of worker-1: --prove-cold-boot reboots", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleetOf(t, "v1.13.9", 2)
				f.BootAudit = func(context.Context, talos.Target) (talos.BootAudit, error) {
					return talos.BootAudit{Proof: c.proof}, nil
				}

				res, err := f.apply(t.Context(), Request{To: "v1.13.9", Canary: "worker-1"}, func(o *ApplyOptions) { o.ColdBoot, o.Node.DryRun = c.which, c.dryRun })
				if err != nil || res.Status != c.status || res.Upgraded != 0 || !strings.Contains(res.Hint, c.hint) || (res.Hint == "") != (c.hint == "") {
					t.Errorf("%q, %d upgraded, hint %q: %v", res.Status, res.Upgraded, res.Hint, err)
				}

				for node, m := range f.nodes {
					if m.Count("reboot") != c.reboots[node] || m.Count("install") != 0 {
						t.Errorf("%s: %v", node, m.Calls)
					}
				}
			})
		})
	}
}

func TestGateColdBoot(t *testing.T) {
	t.Parallel()

	for _, warm := range [][]string{{}, {"cp-1"}, {"cp-1", "worker-1", "worker-2"}, {"cp-1", "cp-3"}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleetOf(t, "v1.13.8", 2)
			f.BootAudit = func(_ context.Context, n talos.Target) (talos.BootAudit, error) {
				if slices.Contains(warm, n.Hostname) {
					return talos.BootAudit{Proof: talos.ThroughKexec}, nil
				}

				return talos.BootAudit{Proof: talos.Unproven}, nil
			}

			p, err := f.plan(Request{To: "v1.13.9"})
			warned := slices.ContainsFunc(p.Gates, func(v gate.Verdict) bool { return v.Gate == gate.ColdBootUnproven && v.Verdict == gate.Warn })

			if want := slices.Contains(warm, "cp-3"); err != nil || warned != want {
				t.Errorf("%v: %+v, %v", warm, p.Gates, err)
			}
		})
	}
}
