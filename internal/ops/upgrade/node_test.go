package upgrade

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

// TestStatuses walks through every end of an upgrade: its status, its exit code, which requests were sent,
// and that the cordon is gone.
func TestStatuses(t *testing.T) {
	t.Parallel()

	refusal := errors.New("the server says no")

	tests := []struct {
		name    string
		arrange func(*bed, *Options)
		status  runbook.Status
		code    errs.Code
		calls   []string // What was sent to the node.
		marked  bool     // Whether a note stays on the node.
	}{
		{"ok", nil, runbook.OK, errs.OK, []string{"pull", "install", "reboot"}, false},
		{
			"ok legacy", func(b *bed, _ *Options) {
				b.node.Running = talos.Version{Tag: "v1.12.9", API: "legacy", Platform: "metal"}
			},
			runbook.OK, errs.OK,
			[]string{"pull", "legacy"},
			false,
		},
		{"ok control plane", func(b *bed, _ *Options) { b.controlPlane() }, runbook.OK, errs.OK, []string{"pull", "install", "reboot"}, false},
		{"dry run", func(_ *bed, o *Options) { o.DryRun = true }, runbook.Planned, errs.OK, nil, false},
		{"installed", func(_ *bed, o *Options) { o.InstallOnly = true }, runbook.Installed, errs.OK, []string{"pull", "install"}, true},
		{"already current", func(b *bed, _ *Options) { b.node.Running.Tag = "v1.13.9" }, runbook.AlreadyCurrent, errs.OK, nil, false},
		{"no wait", func(_ *bed, o *Options) { o.Wait = false }, runbook.RebootedNoWait, errs.OK, []string{"pull", "install", "reboot"}, true},
		{
			"downgrade", func(b *bed, o *Options) {
				b.node.Running.Tag, o.Image = "v1.13.9", fake.OldImage
			}, runbook.Refused, errs.Refused, nil, false,
		},
		{
			"downgrade, on purpose", func(b *bed, o *Options) {
				b.node.Running.Tag, o.Image, o.Overrides = "v1.13.9", fake.OldImage, gate.Overrides{string(gate.Downgrade)}
			}, runbook.OK, errs.OK, []string{"pull", "install", "reboot"}, false,
		},
		{"refused", func(b *bed, _ *Options) { b.node.Config.DroppedKernelArgs = []string{"console=ttyS0"} }, runbook.Refused, errs.Refused, nil, false},
		{"unreachable", func(b *bed, _ *Options) { b.node.Fail["version"] = fake.ErrDown }, runbook.PreflightFailed, errs.Unreachable, nil, false},
		{"no kubernetes", func(b *bed, _ *Options) { b.kube.Gone = fake.ErrDown }, runbook.DiscoveryFailed, errs.Refused, nil, false},
		{"pull failed", func(b *bed, _ *Options) { b.node.Fail["pull"] = refusal }, runbook.PullFailed, errs.Failed, []string{"pull"}, false},
		{"cordon failed", func(b *bed, _ *Options) { b.kube.Fail["cordon"] = refusal }, runbook.CordonFailed, errs.Failed, []string{"pull"}, false},
		{"drain failed", func(b *bed, _ *Options) { b.kube.Fail["drain"] = refusal }, runbook.DrainFailed, errs.Failed, []string{"pull"}, false},
		{"marker failed", func(b *bed, _ *Options) { b.kube.Fail["annotate"] = refusal }, runbook.InstallFailed, errs.Failed, []string{"pull"}, false},
		{"install refused", func(b *bed, _ *Options) { b.node.Fail["install"] = refusal }, runbook.InstallFailed, errs.Failed, []string{"pull", "install"}, false},
		{"installer exit code", func(b *bed, _ *Options) { b.node.ExitCode = 1 }, runbook.InstallFailed, errs.Failed, []string{"pull", "install"}, false},
		{"install lost", func(b *bed, _ *Options) { b.node.LoseReply["install"] = fake.ErrDown }, runbook.OK, errs.OK, []string{"pull", "install", "reboot"}, false},
		{"install lost, it fails", func(b *bed, _ *Options) {
			b.node.LoseReply["install"], b.node.ExitCode = fake.ErrDown, 3
		}, runbook.InstallFailed, errs.Failed, []string{"pull", "install"}, false},
		{"install lost, the log does not tell", func(b *bed, _ *Options) {
			b.node.LoseReply["install"], b.node.Mute = fake.ErrDown, true
		}, runbook.Unknown, errs.Unknown, []string{"pull", "install"}, true},
		{"another install runs", func(b *bed, _ *Options) {
			b.node.Fail["install"] = &errs.Error{Exit: errs.Failed, Kind: errs.KindPrecondition, Err: errors.New("another installation/upgrade is already in progress")}
		}, runbook.Refused, errs.Refused, []string{"pull", "install"}, true},
		{"quorum gone", func(b *bed, _ *Options) {
			b.controlPlane().node.During["install"] = func() { b.view.Members[1].Healthy = false }
		}, runbook.InstalledNoReboot, errs.Failed, []string{"pull", "install"}, true},
		{"quorum gone, legacy", func(b *bed, _ *Options) {
			b.controlPlane().node.Running = talos.Version{Tag: "v1.12.9", API: "legacy", Platform: "metal"}
			b.kube.During["drain"] = func() { b.view.Members[1].Healthy = false }
		}, runbook.Refused, errs.Refused, []string{"pull"}, false},
		{"reboot refused", func(b *bed, _ *Options) { b.node.Fail["reboot"] = refusal }, runbook.RebootFailed, errs.Failed, []string{"pull", "install", "reboot"}, true},
		{"reboot's answer lost", func(b *bed, _ *Options) { b.node.LoseReply["reboot"] = fake.ErrDown }, runbook.OK, errs.OK, []string{"pull", "install", "reboot"}, false},
		{"reboot lost", func(b *bed, _ *Options) { b.node.Fail["reboot"] = fake.ErrDown }, runbook.Unknown, errs.Unknown, []string{"pull", "install", "reboot"}, true},
		{"legacy answer lost", func(b *bed, _ *Options) {
			b.node.Running = talos.Version{Tag: "v1.12.9", API: "legacy", Platform: "metal"}
			b.node.LoseReply["legacy"] = fake.ErrDown
		}, runbook.OK, errs.OK, []string{"pull", "legacy"}, false},
		{"never back", func(b *bed, _ *Options) { b.node.Never = true }, runbook.DidNotReturn, errs.Lost, []string{"pull", "install", "reboot"}, true},
		{
			"rolled back", func(b *bed, _ *Options) { b.node.BootInto = func(string) string { return "" } }, runbook.RolledBack, errs.RolledBack,
			[]string{"pull", "install", "reboot"},
			false,
		},
		{
			"third version", func(b *bed, _ *Options) { b.node.BootInto = func(string) string { return "v1.13.7" } }, runbook.VerifyFailed, errs.Lost,
			[]string{"pull", "install", "reboot"},
			true,
		},
		{
			"schematic lost", func(b *bed, _ *Options) { b.node.AfterBoot = func(m *fake.Machine) { m.Sys.Schematic = "" } }, runbook.VerifyFailed, errs.Lost,
			[]string{"pull", "install", "reboot"},
			true,
		},
		{
			"extension lost", func(b *bed, _ *Options) { b.node.AfterBoot = func(m *fake.Machine) { m.Sys.Extensions = nil } }, runbook.VerifyFailed, errs.Lost,
			[]string{"pull", "install", "reboot"},
			true,
		},
		{
			"not settled", func(b *bed, _ *Options) { b.node.AfterBoot = func(m *fake.Machine) { m.Stage.Stage = "booting" } }, runbook.VerifyFailed, errs.Lost,
			[]string{"pull", "install", "reboot"},
			true,
		},
		{"etcd does not come back", func(b *bed, _ *Options) {
			b.controlPlane().node.AfterBoot = func(*fake.Machine) { b.view.Members[0].Healthy = false }
		}, runbook.VerifyFailed, errs.Lost, []string{"pull", "install", "reboot"}, true},
		{"kubernetes does not come back", func(b *bed, _ *Options) {
			b.node.AfterBoot = func(*fake.Machine) { b.k8s().Ready = false }
		}, runbook.VerifyFailed, errs.Lost, []string{"pull", "install", "reboot"}, true},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, o := newBed("v1.13.8"), options()
				if tt.arrange != nil {
					tt.arrange(b, &o)
				}

				res, err := b.run(t.Context(), o)

				if res.Status != tt.status || errs.ExitCode(err) != tt.code {
					t.Errorf("status %q, exit code %d, want %q and %d: %v", res.Status, errs.ExitCode(err), tt.status, tt.code, err)
				}

				if !slices.Equal(b.node.Calls, tt.calls) {
					t.Errorf("sent %v, want %v", b.node.Calls, tt.calls)
				}

				if (b.k8s().Annotations[MarkerAnnotation] != "") != tt.marked {
					t.Errorf("marker %q, want one: %t", b.k8s().Annotations[MarkerAnnotation], tt.marked)
				}

				b.released(t)
				looksWhole(t, res, err)
			})
		})
	}
}

// TestRebootLost loses the request itself: that nothing comes of it is found out long before the deadline, also
// behind an outage, and the same command again finishes what was begun.
func TestRebootLost(t *testing.T) {
	t.Parallel()

	legacy := func(b *bed) { b.node.Running = talos.Version{Tag: "v1.12.9", API: "legacy", Platform: "metal"} }
	outage := func(b *bed) {
		b.node.During["install"] = func() {
			time.AfterFunc(fake.InstallTook+100*time.Millisecond, func() {
				b.node.Mu.Lock()
				defer b.node.Mu.Unlock()

				b.node.DownUntil = time.Now().Add(10 * time.Second)
			})
		}
	}

	for _, c := range []struct {
		name    string
		arrange func(*bed)
		request string
		wait    bool
		most    time.Duration
	}{
		{"lifecycle", func(*bed) {}, "reboot", true, 45 * time.Second},
		{"lifecycle, outage", outage, "reboot", true, 55 * time.Second},
		{"lifecycle, not waited for", func(*bed) {}, "reboot", false, 45 * time.Second},
		{"legacy", legacy, "legacy", true, 135 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, o := newBed("v1.13.8"), options()
				c.arrange(b)

				b.node.Fail[c.request], o.RebootTimeout, o.Wait = fake.ErrDown, 15*time.Minute, c.wait
				started := time.Now()

				res, err := b.run(t.Context(), o)
				if res.Status != runbook.Unknown || errs.ExitCode(err) != errs.Unknown || !strings.Contains(res.Hint, "not sent again") || b.node.Count(c.request) != 1 {
					t.Errorf("status %q, exit code %d, hint %q, sent %v: %v", res.Status, errs.ExitCode(err), res.Hint, b.node.Calls, err)
				}

				if took := time.Since(started); took > c.most {
					t.Errorf("took %s", took)
				}

				b.released(t)

				o.Wait = true

				if res, err = b.run(t.Context(), o); res.Status != runbook.OK || err != nil || b.node.Count("install") > 1 {
					t.Errorf("the second run: %q, sent %v: %v", res.Status, b.node.Calls, err)
				}
			})
		})
	}
}

// TestKubernetesAwayAtFirst: an API server that is away for a moment is waited for, and said to be; one that answers
// no, or whose absence was foreseen, is not.
func TestKubernetesAwayAtFirst(t *testing.T) {
	t.Parallel()

	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "worker-1", errors.New("no"))

	for _, c := range []struct {
		name        string
		gone        error
		back        time.Duration
		arrange     func(*Options)
		status      runbook.Status
		least, most time.Duration // Until it went on, or ended.
		told        bool
	}{
		{"back after 10 s", fake.ErrDown, 10 * time.Second, func(*Options) {}, runbook.Planned, 10 * time.Second, 12 * time.Second, true},
		{"back after 40 s", fake.ErrDown, 40 * time.Second, func(*Options) {}, runbook.DiscoveryFailed, 20 * time.Second, 21 * time.Second, true},
		{"back after 40 s, in the middle of a cluster's upgrade", fake.ErrDown, 40 * time.Second, func(o *Options) { o.LockHeld = true }, runbook.Planned, 40 * time.Second, 42 * time.Second, true},
		{"forbidden", forbidden, time.Hour, func(*Options) {}, runbook.DiscoveryFailed, 0, time.Second, false},
		{"no credentials", kube.ErrNoCredentials, time.Hour, func(*Options) {}, runbook.DiscoveryFailed, 0, time.Second, false},
		{"not a kubeconfig", errs.Usagef("cannot use the kubeconfig"), time.Hour, func(*Options) {}, runbook.DiscoveryFailed, 0, time.Second, false},
		{"foreseen", fake.ErrDown, time.Hour, func(o *Options) { o.Overrides = gate.Overrides{"TM141"} }, runbook.Planned, 0, time.Second, false},
		{"not needed", fake.ErrDown, time.Hour, func(o *Options) { o.Drain = false }, runbook.Planned, 0, time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, o := newBed("v1.13.8"), options()
				started := time.Now()
				o.DryRun = true
				b.world.Kube = func(context.Context) (probe.Kube, string, error) {
					if time.Since(started) < c.back {
						return nil, "", c.gone
					}

					return b.kube, "test", nil
				}
				c.arrange(&o)

				res, err := b.run(t.Context(), o)

				if took := time.Since(started); res.Status != c.status || took < c.least || took > c.most {
					t.Errorf("%q after %s, want %q after %s to %s: %v", res.Status, took, c.status, c.least, c.most, err)
				}

				if told := slices.ContainsFunc(res.Stages, func(s runbook.Stage) bool { return strings.Contains(s.Message, "asking again") }); told != c.told {
					t.Errorf("told %t: %+v", told, res.Stages)
				}
			})
		})
	}
}

// looksWhole holds what every result promises.
func looksWhole(t *testing.T, res Result, err error) {
	t.Helper()

	if (err == nil) != (res.Error == "") {
		t.Errorf("error %v, in the result %q", err, res.Error)
	}

	if res.Cordoned && !res.Uncordoned {
		t.Error("cordoned and not uncordoned")
	}

	if res.ExtensionsBefore == nil || res.ExtensionsAfter == nil || res.Gates == nil || len(res.Stages) == 0 {
		t.Error("a list is null")
	}

	for _, v := range append([]float64{res.DowntimeSeconds, res.ElapsedSeconds}, res.Stages[len(res.Stages)-1].ElapsedSeconds) {
		if v*1000 != float64(int64(v*1000+0.5)) && v != runbook.Seconds(time.Duration(v*1e9)) {
			t.Errorf("%v s is finer than a millisecond", v)
		}
	}
}

func TestResultOfASuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed("v1.13.8").controlPlane()

		res, err := b.run(t.Context(), options())
		if err != nil {
			t.Fatal(err)
		}

		if res.ServerTag != "v1.13.8" || res.TargetTag != "v1.13.9" || res.RunningTag != "v1.13.9" || res.API != "lifecycle" {
			t.Errorf("versions: %+v", res)
		}

		if !res.Rebooted || !res.TalosBack || !res.K8sReady || !res.Cordoned || !res.Uncordoned || res.DrainedPods != 3 {
			t.Errorf("facts: %+v", res)
		}

		if res.BootIDBefore != "boot-1" || res.BootIDAfter != "boot-2" || res.PulledImage != fake.NewImage+"@sha256:1111" {
			t.Errorf("proofs: %+v", res)
		}

		if res.DowntimeSeconds < 2 || res.DowntimeSeconds > 3 {
			t.Errorf("downtime %v", res.DowntimeSeconds)
		}
	})
}

// TestInterrupt ends the upgrade in the middle of every stage: the cordon goes at once, nothing further is
// sent, and a second run finishes without another install before the reboot.
func TestInterrupt(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name  string
		where func(b *bed, interrupt func())
		calls []string // Until the interrupt.
		rerun []string // By the second run.
	}{
		{"pull", func(b *bed, f func()) { b.node.During["pull"] = f }, []string{"pull"}, []string{"pull", "install", "reboot"}},
		{"cordon", func(b *bed, f func()) { b.kube.During["cordon"] = f }, []string{"pull"}, []string{"pull", "install", "reboot"}},
		{"drain", func(b *bed, f func()) { b.kube.During["drain"] = f }, []string{"pull"}, []string{"pull", "install", "reboot"}},
		{"marker", func(b *bed, f func()) { b.kube.During["annotate"] = f }, []string{"pull"}, []string{"pull", "install", "reboot"}},
		// The installer goes on: the second run waits for its end.
		{"install", func(b *bed, f func()) { b.node.During["install"] = f }, []string{"pull", "install"}, []string{"reboot"}},
		{"reboot", func(b *bed, f func()) { b.node.During["reboot"] = f }, []string{"pull", "install", "reboot"}, nil},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBed("v1.13.8")
				ctx, cancel := context.WithCancelCause(t.Context())

				tt.where(b, func() { cancel(errs.New(errs.Interrupted, "interrupted by a test")) })

				res, err := b.run(ctx, options())
				if res.Status != runbook.Interrupted || errs.ExitCode(err) != errs.Interrupted {
					t.Errorf("status %q, exit code %d: %v", res.Status, errs.ExitCode(err), err)
				}

				if res.Hint == "" {
					t.Error("nothing is said about what is left")
				}

				b.released(t)
				looksWhole(t, res, err)

				if !slices.Equal(b.node.Calls, tt.calls) {
					t.Errorf("sent %v, want %v", b.node.Calls, tt.calls)
				}

				b.node.Calls = nil

				res, err = b.run(t.Context(), options())
				if err != nil || (res.Status != runbook.OK && res.Status != runbook.AlreadyCurrent) {
					t.Fatalf("the second run: %q, %v", res.Status, err)
				}

				if !slices.Equal(b.node.Calls, tt.rerun) {
					t.Errorf("the second run sent %v, want %v", b.node.Calls, tt.rerun)
				}

				b.released(t)
				b.unmarked(t)

				if b.node.Running.Tag != "v1.13.9" {
					t.Errorf("the node runs %s", b.node.Running.Tag)
				}
			})
		})
	}
}

func TestResume(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name    string
		arrange func(*bed, *Options)
		status  runbook.Status
		calls   []string
	}{
		{"complete: only the reboot", func(b *bed, _ *Options) { b.marker(markerInstalled, "v1.13.9"); b.node.Installed = "v1.13.9" }, runbook.OK, []string{"reboot"}},
		{"complete, of another version", func(b *bed, _ *Options) { b.marker(markerInstalled, "v1.13.7") }, runbook.Refused, nil},
		{"complete, install only", func(b *bed, o *Options) { b.marker(markerInstalled, "v1.13.9"); o.InstallOnly = true }, runbook.Installed, nil},
		{"incomplete, had finished", func(b *bed, _ *Options) { b.marker(markerInstalling, "v1.13.9"); b.node.Installed = "v1.13.9" }, runbook.OK, []string{"reboot"}},
		{"incomplete, had not", func(b *bed, _ *Options) { b.marker(markerInstalling, "v1.13.9") }, runbook.OK, []string{"reboot", "pull", "install", "reboot"}},
		{"incomplete, the installer still runs", func(b *bed, _ *Options) {
			b.marker(markerInstalling, "v1.13.9")
			b.node.Installing, b.node.InstallerEnd = time.Now().Add(40*time.Second), new(int)
			b.node.Installed = "v1.13.9"
		}, runbook.OK, []string{"reboot"}},
		{"incomplete, the installer failed", func(b *bed, _ *Options) {
			one := 1

			b.marker(markerInstalling, "v1.13.9")
			b.node.Installing, b.node.InstallerEnd = time.Now().Add(40*time.Second), &one
		}, runbook.OK, []string{"pull", "install", "reboot"}},
		{"somebody else's installer runs", func(b *bed, _ *Options) { b.node.Installing = time.Now().Add(time.Minute) }, runbook.Refused, nil},
		{"incomplete, install only", func(b *bed, o *Options) { b.marker(markerInstalling, "v1.13.9"); o.InstallOnly = true }, runbook.Refused, nil},
		{"stale", func(b *bed, _ *Options) { b.marker(markerInstalled, "v1.13.9"); b.node.Boots = 7 }, runbook.OK, []string{"pull", "install", "reboot"}},
		{"reboot only", func(b *bed, o *Options) {
			b.marker(markerInstalled, "v1.13.9")
			b.node.Installed, o.RebootOnly = "v1.13.9", true
		}, runbook.OK, []string{"reboot"}},
		{"reboot only, nothing there", func(_ *bed, o *Options) { o.RebootOnly = true }, runbook.Refused, nil},
		{"cordon of a killed run", func(b *bed, _ *Options) {
			b.k8s().Unschedulable, b.k8s().Annotations[kube.CordonAnnotation] = true, "talosmate upgrade by somebody"
		}, runbook.OK, []string{"pull", "install", "reboot"}},
		{"killed after the reboot", func(b *bed, _ *Options) {
			b.marker(markerInstalled, "v1.13.9")
			b.k8s().Unschedulable, b.k8s().Annotations[kube.CordonAnnotation] = true, "talosmate upgrade by somebody"
			b.node.Installed = "v1.13.9"
			b.node.GoDown()
		}, runbook.AlreadyCurrent, nil},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, o := newBed("v1.13.8"), options()
				tt.arrange(b, &o)

				res, err := b.run(t.Context(), o)
				if res.Status != tt.status {
					t.Errorf("status %q, want %q: %v", res.Status, tt.status, err)
				}

				if !slices.Equal(b.node.Calls, tt.calls) {
					t.Errorf("sent %v, want %v", b.node.Calls, tt.calls)
				}

				if b.node.Torn {
					t.Error("the node was rebooted under a running installer")
				}

				b.released(t)

				if res.Status == runbook.OK || res.Status == runbook.AlreadyCurrent {
					b.unmarked(t)
				}
			})
		})
	}
}

// TestNotesWithoutKubernetes: a node that is no Kubernetes member has its marker on this machine.
func TestNotesWithoutKubernetes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed("v1.13.8")
		notes := notes{}
		b.world.Notes, b.node.Name = notes, ""

		ctx, cancel := context.WithCancelCause(t.Context())
		b.node.During["install"] = func() { cancel(errs.New(errs.Interrupted, "interrupted")) }

		if res, _ := b.run(ctx, options()); res.Status != runbook.Interrupted || notes["10.0.0.11"] == "" {
			t.Fatalf("status %q, note %q", res.Status, notes["10.0.0.11"])
		}

		b.node.Calls = nil

		res, err := b.run(t.Context(), options())
		if err != nil || res.Status != runbook.OK || !slices.Equal(b.node.Calls, []string{"reboot"}) || notes["10.0.0.11"] != "" {
			t.Errorf("status %q (%v), sent %v, note %q", res.Status, err, b.node.Calls, notes["10.0.0.11"])
		}
	})
}

type notes map[string]string

func (n notes) Get(node string) string { return n[node] }

func (n notes) Set(node, text string) error {
	n[node] = text

	return nil
}

func TestOthersCordonStays(t *testing.T) {
	t.Parallel()

	for name, annotations := range map[string]map[string]string{
		"by hand":            {},
		"by another command": {kube.CordonAnnotation: "talosmate reboot by ann@host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBed("v1.13.8")
				b.k8s().Unschedulable, b.k8s().Annotations = true, annotations

				res, err := b.run(t.Context(), options())
				if err != nil || res.Status != runbook.OK {
					t.Fatalf("%q, %v", res.Status, err)
				}

				if !b.k8s().Unschedulable || res.Cordoned || res.Uncordoned {
					t.Errorf("unschedulable %t, cordoned %t, uncordoned %t", b.k8s().Unschedulable, res.Cordoned, res.Uncordoned)
				}
			})
		})
	}
}

// TestUncordonInsists: the API server is away when the cordon is to be lifted.
func TestUncordonInsists(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed("v1.13.8")
		b.kube.During["drain"] = func() {
			b.kube.Fail["drain"], b.kube.Fail["uncordon"] = fake.ErrDown, fake.ErrDown
			time.AfterFunc(30*time.Second, func() {
				b.kube.Mu.Lock()
				delete(b.kube.Fail, "uncordon")
				b.kube.Mu.Unlock()
			})
		}

		res, _ := b.run(t.Context(), options())
		if res.Status != runbook.DrainFailed || !res.Uncordoned {
			t.Errorf("status %q, uncordoned %t: %s", res.Status, res.Uncordoned, res.UncordonError)
		}

		b.released(t)
	})
}

func TestGates(t *testing.T) {
	t.Parallel()

	tests := []struct {
		gate    gate.Code
		name    string
		arrange func(*bed, *Options)
	}{
		{gate.VersionPath, "too far", func(b *bed, _ *Options) { b.node.Running.Tag, b.node.Running.API = "v1.9.0", "legacy" }},
		{gate.VersionPath, "no version in the image", func(_ *bed, o *Options) { o.Image = "ghcr.io/siderolabs/installer@sha256:" + fake.Schematic }},
		{gate.KubernetesRange, "kubernetes too old", func(b *bed, _ *Options) { b.node.Sys.Kubelet = "v1.29.0" }},
		{gate.KubernetesRange, "kubelet spec not readable", func(b *bed, _ *Options) {
			b.node.Sys.Kubelet = ""
			b.k8s().KubeletVersion = "v1.29.0"
		}},
		{gate.ExtensionsLost, "stock image", func(_ *bed, o *Options) { o.Image = "ghcr.io/siderolabs/installer:v1.13.9" }},
		{gate.ExtensionsLost, "another schematic", func(_ *bed, o *Options) {
			o.Image = strings.Replace(fake.NewImage, fake.Schematic, "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba", 1)
		}},
		{gate.PlatformMismatch, "another platform", func(_ *bed, o *Options) { o.Image = strings.Replace(fake.NewImage, "metal-", "aws-", 1) }},
		{gate.PlatformMismatch, "secure boot", func(b *bed, _ *Options) { b.node.Sys.SecureBoot = true }},
		{gate.KernelArgsDropped, "kernel arguments", func(b *bed, _ *Options) { b.node.Config.DroppedKernelArgs = []string{"a=b"} }},
		{gate.KernelArgsDropped, "no install section towards 1.14", func(b *bed, o *Options) {
			b.node.Config.NoInstall, o.Image = true, strings.Replace(fake.NewImage, "v1.13.9", "v1.14.0", 1)
		}},
		{gate.ClockOff, "not in sync", func(b *bed, _ *Options) { b.node.Time.Synced = false }},
		{gate.ClockOff, "ahead", func(b *bed, _ *Options) { b.node.ClockOff = -11 }},
		{gate.ClockOff, "behind", func(b *bed, _ *Options) { b.node.ClockOff = 11 }},
		{gate.CertificateEnds, "an authority has expired", func(b *bed, _ *Options) {
			b.node.Config.Authorities = append(b.node.Config.Authorities, talos.Authority{Name: "cluster.etcd.ca", NotAfter: time.Now()})
		}},
		{gate.CertificateEnds, "our certificate is about to", func(b *bed, _ *Options) { b.world.Expires = time.Now().Add(5 * time.Minute) }},
		{gate.NoInstallOnly, "legacy cannot only install", func(b *bed, o *Options) {
			b.node.Running.Tag, b.node.Running.API, o.InstallOnly = "v1.12.9", "legacy", true
		}},
		{gate.BudgetNeverMet, "budget", func(b *bed, _ *Options) { b.kube.Budgets = []kube.Blocker{{Budget: "a/b", Pod: "a/c", Never: true}} }},
		{gate.EndpointIsTarget, "virtual IP", func(b *bed, _ *Options) {
			b.controlPlane().world.Endpoints, b.world.VirtualIPs = []string{"10.0.0.100"}, []string{"10.0.0.100"}
		}},
		{gate.InstallRunning, "busy", func(b *bed, _ *Options) { b.node.Stage.Stage = "upgrading" }},
		{gate.DiskSpace, "no space", func(b *bed, _ *Options) { b.node.MountList[0].AvailableBytes = 1 << 20 }},
		{gate.DiskSpace, "no space for images", func(b *bed, _ *Options) {
			b.node.MountList = append(b.node.MountList, talos.Mount{MountedOn: "/var/lib/containerd", SizeBytes: 1 << 30, AvailableBytes: 1 << 20})
		}},
		{gate.DiskSpace, "no memory, legacy", func(b *bed, _ *Options) {
			b.node.Running.Tag, b.node.Running.API, b.node.Free = "v1.12.9", "legacy", 1<<20
		}},
		{gate.EtcdQuorum, "quorum", func(b *bed, _ *Options) {
			b.controlPlane().view.Members[1].Healthy, b.view.Members[2].Healthy = false, false
		}},
		{gate.EtcdUnhealthy, "another member is ill", func(b *bed, _ *Options) { b.controlPlane().view.Members[1].Alarms = []string{"nospace"} }},
		{gate.LockHeld, "lock", func(_ *bed, o *Options) {
			o.Lock = func(context.Context) (clusterlock.Held, error) {
				return nil, &kube.HeldError{State: kube.LockState{Holder: "ann@host", Held: true}}
			}
		}},
	}

	for _, tt := range tests {
		t.Run(string(tt.gate)+" "+tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, o := newBed("v1.13.8"), options()
				tt.arrange(b, &o)

				changed := false
				o.BeforeChange = func() { changed = true }

				res, err := b.run(t.Context(), o)

				var typed *errs.Error
				if res.Status != runbook.Refused || !errors.As(err, &typed) || typed.Gate != string(tt.gate) || typed.Exit != errs.Refused {
					t.Fatalf("status %q, %v", res.Status, err)
				}

				if len(b.node.Calls) > 0 || len(b.kube.Calls) > 0 || changed {
					t.Errorf("a refusal sent %v and %v", b.node.Calls, b.kube.Calls)
				}

				if typed.Hint == "" {
					t.Error("nothing is said about what to do")
				}

				o.Overrides = gate.Overrides{string(tt.gate), string(gate.EtcdUnhealthy)}
				if res, err = b.run(t.Context(), o); !slices.Contains(verdictsOf(res), string(tt.gate)+" overridden") {
					t.Errorf("not overridden: %v (%v)", verdictsOf(res), err)
				}
			})
		})
	}
}

func verdictsOf(res Result) []string {
	var out []string
	for _, g := range res.Gates {
		out = append(out, string(g.Gate)+" "+string(g.Verdict))
	}

	return out
}

// TestWaitsForANodeUnderway: an earlier run was killed while the node booted.
func TestWaitsForANodeUnderway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed("v1.13.8")
		b.marker(markerInstalled, "v1.13.9")
		b.node.Installed = "v1.13.9"
		b.node.GoDown()
		b.node.DownUntil = time.Now().Add(time.Minute)

		res, err := b.run(t.Context(), options())
		if err != nil || res.Status != runbook.AlreadyCurrent || len(b.node.Calls) > 0 {
			t.Errorf("status %q, sent %v: %v", res.Status, b.node.Calls, err)
		}

		b.unmarked(t)
	})
}

// TestEndpointsBackOff: what comes after a boot goes by the endpoints again, and waits until they find the node.
func TestEndpointsBackOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed("v1.13.8")
		b.world.Read, b.world.Change = fake.BackingOff{Machine: b.node}, fake.BackingOff{Machine: b.node}
		b.marker(markerInstalling, "v1.13.9")

		res, err := b.run(t.Context(), options())
		if err != nil || !slices.Equal(b.node.Calls, []string{"reboot", "pull", "install", "reboot"}) {
			t.Errorf("an install that was broken off: %q, %v: %v", res.Status, b.node.Calls, err)
		}
	})
}

// TestSameVersionOtherImage: a node that runs the wanted version is current only if the image holds what runs. Other images
// are installed or refused, and what was installed from a registry that tells nothing is known in the next run.
func TestSameVersionOtherImage(t *testing.T) {
	t.Parallel()

	const private = "registry.example.com/talos/installer:v1.13.9"

	other := strings.Replace(fake.NewImage, fake.Schematic, strings.Repeat("b", 64), 1)
	bare := func(b *bed) { b.node.Sys.Schematic, b.node.Sys.Extensions = "", nil }

	for name, tt := range map[string]struct {
		image   string
		arrange func(*bed)
		digest  error // What the registry says; not asked when nil.

		status runbook.Status
		gate   string
		again  bool // The run is repeated, and then there is nothing to do.
	}{
		"the same":                     {image: fake.NewImage, status: runbook.AlreadyCurrent},
		"the same, of a mirror":        {image: strings.Replace(fake.NewImage, "factory.talos.dev", "mirror.example.com/factory", 1), status: runbook.AlreadyCurrent},
		"another schematic":            {image: other, status: runbook.Refused, gate: "TM133"},
		"a stock image":                {image: "ghcr.io/siderolabs/installer:v1.13.9", status: runbook.Refused, gate: "TM133"},
		"a stock image, as it runs":    {image: "ghcr.io/siderolabs/installer:v1.13.9", arrange: bare, status: runbook.AlreadyCurrent},
		"another platform":             {image: strings.Replace(fake.NewImage, "metal", "aws", 1), status: runbook.Refused, gate: "TM134"},
		"does not exist":               {image: fake.NewImage, digest: registry.ErrNotFound, status: runbook.Refused, gate: "TM132"},
		"the registry does not answer": {image: fake.NewImage, digest: registry.ErrUnreachable, status: runbook.AlreadyCurrent, gate: "TM132"},
		"another registry":             {image: private, arrange: bare, status: runbook.OK, again: true},
		"another registry, extensions": {image: private, status: runbook.OK, gate: "TM133", again: true},
		"the registry of the node":     {image: private, arrange: func(b *bed) { b.node.Config.InstallImage = "registry.example.com/talos/installer:v1.12.0" }, status: runbook.AlreadyCurrent},
		"the registry of the node, by digest": {
			image: private + "@sha256:" + strings.Repeat("a", 64), status: runbook.OK, again: true,
			arrange: func(b *bed) { b.node.Config.InstallImage = "registry.example.com/talos/installer:v1.12.0" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, o := newBed("v1.13.9"), options()
				o.Image = tt.image

				if tt.arrange != nil {
					tt.arrange(b)
				}

				if tt.digest != nil {
					o.Digest = func(context.Context, string) (string, error) { return "", tt.digest }
				}

				res, err := b.run(t.Context(), o)
				if res.Status != tt.status {
					t.Fatalf("status %s, want %s: %v", res.Status, tt.status, err)
				}

				if tt.gate != "" && !slices.ContainsFunc(res.Gates, func(v gate.Verdict) bool { return string(v.Gate) == tt.gate && v.Notable() }) {
					t.Errorf("%s is not among %v", tt.gate, res.Gates)
				}

				looksWhole(t, res, err)
				b.unmarked(t)

				if !tt.again {
					return
				}

				calls := len(b.node.Calls)
				if res, err = b.run(t.Context(), o); res.Status != runbook.AlreadyCurrent || len(b.node.Calls) != calls {
					t.Errorf("again: status %s, sent %v: %v", res.Status, b.node.Calls[calls:], err)
				}

				// Another image takes the note away.
				o.Image, b.node.Sys.Schematic = fake.NewImage, strings.Repeat("c", 64)
				o.Overrides = gate.Overrides{string(gate.ExtensionsLost)}
				b.node.AfterBoot = func(m *fake.Machine) { m.Sys.Schematic = fake.Schematic }

				if res, err = b.run(t.Context(), o); res.Status != runbook.OK || b.k8s().Annotations[ImageAnnotation] != "" {
					t.Errorf("to a factory image: status %s, noted %q: %v", res.Status, b.k8s().Annotations[ImageAnnotation], err)
				}
			})
		})
	}
}

// TestServerRefuses: two members, and unhealthy ones, are refused by the legacy API's server whatever is overridden.
func TestServerRefuses(t *testing.T) {
	t.Parallel()

	for name, arrange := range map[string]func(*bed){
		"two members": func(b *bed) { b.view.Members = b.view.Members[:2] },
		"unhealthy":   func(b *bed) { b.view.Members[2].Healthy = false },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, o := newBed("v1.12.9").controlPlane(), options()
				arrange(b)

				o.Overrides = gate.Overrides{string(gate.TwoMembers), string(gate.EtcdUnhealthy), string(gate.EtcdQuorum)}

				res, err := b.run(t.Context(), o)
				if res.Status != runbook.Refused || !strings.Contains(res.Error, string(gate.ServerRefuses)) || len(b.node.Calls) > 0 {
					t.Errorf("status %s, sent %v: %v", res.Status, b.node.Calls, err)
				}
			})
		})
	}
}

// TestGateImage: a registry that does not have the image decides only where the node pulls from it.
func TestGateImage(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct {
		mirrors []string
		want    gate.Outcome
	}{{nil, gate.Refuse}, {[]string{"docker.io"}, gate.Refuse}, {[]string{"factory.talos.dev"}, gate.Warn}, {[]string{"*"}, gate.Warn}} {
		if v := GateImage("n", fake.NewImage, registry.ErrNotFound, tt.mirrors); v.Verdict != tt.want {
			t.Errorf("%v: %s", tt.mirrors, v.Verdict)
		}
	}
}

// TestWay: a result names the version that was wanted where another one runs.
func TestWay(t *testing.T) {
	t.Parallel()

	for name, tt := range map[string]struct {
		arrange func(*bed, *Options)
		want    string
	}{
		"done":           {nil, "v1.13.8 -> v1.13.9"},
		"install failed": {func(b *bed, _ *Options) { b.node.ExitCode = 1 }, "v1.13.8 -> v1.13.8 (wanted: v1.13.9)"},
		"dry run":        {func(_ *bed, o *Options) { o.DryRun = true }, "v1.13.8 -> v1.13.9 (dry run)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, o := newBed("v1.13.8"), options()
				if tt.arrange != nil {
					tt.arrange(b, &o)
				}

				if res, err := b.run(t.Context(), o); res.Way() != tt.want {
					t.Errorf("%q, want %q: %v", res.Way(), tt.want, err)
				}
			})
		})
	}
}

// TestAnotherImageWaits: an image that waits for its reboot is not another one of the same version.
func TestAnotherImageWaits(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		b, o := newBed("v1.13.8"), options()
		b.marker(markerInstalled, "v1.13.9")

		o.Image = strings.Replace(fake.NewImage, fake.Schematic, strings.Repeat("b", 64), 1)
		o.Overrides = gate.Overrides{string(gate.ExtensionsLost)}

		res, err := b.run(t.Context(), o)
		if res.Status != runbook.Refused || !strings.Contains(res.Error, "waits for its reboot") || len(b.node.Calls) > 0 {
			t.Errorf("status %s, sent %v: %v", res.Status, b.node.Calls, err)
		}
	})
}
