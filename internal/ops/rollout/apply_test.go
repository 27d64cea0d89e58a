package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

// grow adds a worker.
func (f *fakeFleet) grow(name string) {
	m := fake.NewMachine("v1.13.8")
	m.Name, m.Kube = name, f.kube
	f.nodes[name], f.kube.Members[name] = m, fake.NewKubernetes(name).Members[name]
	address := fmt.Sprintf("10.0.0.%d", len(f.nodes))
	f.kube.Members[name].Addresses = []string{address}
	f.Members = append(f.Members, talos.Member{NodeRef: talos.NodeRef{Node: address, Hostname: name}, Type: "worker", TalosVersion: "v1.13.8"})
}

// fakeFleet is a cluster of fake nodes, three control planes and some workers, whose etcd members follow them.
type fakeFleet struct {
	*Cluster

	t        *testing.T
	nodes    map[string]*fake.Machine // By hostname.
	kube     *fake.Kubernetes
	leader   string
	problems []string
	snaps    []string

	mu       sync.Mutex
	minimum  int // The fewest healthy voters that were seen.
	downMost int // The most workers that were away at once.
	order    []string
}

func newFleetOf(t *testing.T, version string, workers int) *fakeFleet {
	t.Helper()

	f := &fakeFleet{t: t, nodes: map[string]*fake.Machine{}, leader: "cp-1", minimum: 3}
	names := []string{"cp-1", "cp-2", "cp-3"}

	for i := range workers {
		names = append(names, fmt.Sprintf("worker-%d", i+1))
	}

	f.kube = fake.NewKubernetes(names...)
	f.Cluster = &Cluster{Name: "prod", Now: time.Now, Progress: progress.Discard{}, Etcd: func(context.Context) (etcd.View, error) { return f.view(), nil }}

	for i, name := range names {
		m := fake.NewMachine(version)
		m.Name, m.Kube = name, f.kube
		m.Forfeit = func() { f.leader = "cp-2" }
		f.nodes[name] = m

		kind := "worker"
		if strings.HasPrefix(name, "cp") {
			kind = target.ControlPlane
		}

		address := fmt.Sprintf("10.0.0.%d", i+1)
		f.kube.Members[name].Addresses = []string{address}
		f.Members = append(f.Members, talos.Member{NodeRef: talos.NodeRef{Node: address, Hostname: name}, Type: kind, TalosVersion: version})
	}

	f.Kube = func(context.Context) (probe.Kube, string, error) { return f.kube, "test", nil }
	f.Node = func(t talos.Target) *probe.Node {
		m := f.nodes[t.Hostname]

		return &probe.Node{
			Target: t, Read: m, Change: m, Fresh: func() (probe.API, probe.Close) { return m, func() error { return nil } },
			Etcd: f.Etcd, Kube: f.Kube, ControlPlane: strings.HasPrefix(t.Hostname, "cp"), Endpoints: []string{"10.0.0.1", "10.0.0.2"},
			Members: f.Members, Expires: f.Expires, Now: time.Now,
		}
	}
	f.Health = func(context.Context, []talos.Target) ([]string, error) {
		f.mu.Lock()
		defer f.mu.Unlock()

		return f.problems, nil
	}
	f.Snapshot = func(_ context.Context, path string) (etcd.Snapshot, gate.Verdict, error) {
		f.snaps = append(f.snaps, path)

		return etcd.Snapshot{Path: path}, gate.New(gate.SnapshotUnusable, gate.Pass, "", "it restores"), nil
	}

	return f
}

func (f *fakeFleet) ill(problem string) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.problems = []string{problem}
}

func (f *fakeFleet) away(name string) bool {
	m := f.nodes[name]
	m.Mu.Lock()
	defer m.Mu.Unlock()

	return time.Now().Before(m.DownUntil) || m.Never && !m.DownUntil.IsZero()
}

func (f *fakeFleet) view() etcd.View {
	v := etcd.View{Known: true}

	for i, name := range []string{"cp-1", "cp-2", "cp-3"} {
		id := fmt.Sprint(i + 1)
		if name == f.leader {
			v.Leader = id
		}

		v.Members = append(v.Members, etcd.Member{ID: id, Name: name, Node: fmt.Sprintf("10.0.0.%d", i+1), Healthy: !f.away(name)})
	}

	return v
}

// watch samples the cluster until the test's bubble ends.
func (f *fakeFleet) watch(ctx context.Context) {
	for ctx.Err() == nil {
		healthy, down := 0, 0

		for name := range f.nodes {
			switch isDown := f.away(name); {
			case strings.HasPrefix(name, "cp") && !isDown:
				healthy++
			case strings.HasPrefix(name, "worker") && isDown:
				down++
			}
		}

		f.mu.Lock()
		f.minimum, f.downMost = min(f.minimum, healthy), max(f.downMost, down)
		f.mu.Unlock()

		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // of the bubble's clock
	}
}

func options() upgrade.Options {
	return upgrade.Options{
		Options: disruption.Options{
			Drain: true, Wait: true, DrainTimeout: time.Minute, RebootTimeout: 5 * time.Minute, ReadyTimeout: time.Minute, Reason: "talosmate upgrade by test",
		},
		Image: fake.NewImage, RebootMode: talos.RebootDefault,
	}
}

func (f *fakeFleet) plan(r Request, o ...string) (Plan, error) {
	return MakePlan(f.t.Context(), f.Cluster, r, o)
}

func (f *fakeFleet) apply(ctx context.Context, r Request, change func(*ApplyOptions)) (ApplyResult, error) {
	o := ApplyOptions{Node: options(), GateTimeout: time.Minute, Snapshot: "snap.db"}
	o.Node.Reason = upgrade.Purpose() + " by test"

	if change != nil {
		change(&o)
	}

	p, err := MakePlan(ctx, f.Cluster, r, o.Node.Overrides)
	if len(p.Nodes) == 0 {
		f.t.Fatal(err)
	}

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	return Apply(ctx, f.Cluster, p, o, fake.Sink(func(e progress.Event) {
		if e.Stage == "reboot" {
			f.mu.Lock()
			f.order = append(f.order, e.Node)
			f.mu.Unlock()
		}
	}))
}

func (f *fakeFleet) clean(t *testing.T) {
	t.Helper()

	for name, n := range f.kube.Members {
		if n.Unschedulable || len(n.Annotations) > 0 {
			t.Errorf("%s: cordoned %t, annotations %v", name, n.Unschedulable, n.Annotations)
		}
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.13.8", 6)
		ctx, stop := context.WithCancel(t.Context())

		var watched sync.WaitGroup

		watched.Go(func() { f.watch(ctx) })

		res, err := f.apply(t.Context(), Request{To: "v1.13.9", MaxParallel: "2"}, nil)
		stop()
		watched.Wait()

		if err != nil || res.Status != runbook.OK || res.Upgraded != 9 || len(res.Remaining) > 0 || res.DrainedPods != 27 {
			t.Fatalf("%q, %d upgraded: %v", res.Status, res.Upgraded, err)
		}

		if f.minimum < 2 || f.downMost != 2 {
			t.Errorf("at least %d healthy voters, at most %d workers away", f.minimum, f.downMost)
		}

		if want := []string{"cp-2", "cp-3", "cp-1"}; !slices.Equal(f.order[:3], want) {
			t.Errorf("order %v, want %v first", f.order, want)
		}

		if f.nodes["cp-1"].Count("forfeit") != 1 || f.nodes["cp-2"].Count("forfeit") != 0 {
			t.Error("the leader, and only it, gives its leadership up")
		}

		if !slices.Equal(f.snaps, []string{"snap.db"}) || res.Snapshot == nil {
			t.Errorf("snapshots %v", f.snaps)
		}

		for name, m := range f.nodes {
			if m.Running.Tag != "v1.13.9" || m.Count("install") != 1 || m.Count("reboot") != 1 {
				t.Errorf("%s: %s, %v", name, m.Running.Tag, m.Calls)
			}
		}

		f.clean(t)

		again, err := f.apply(t.Context(), Request{To: "v1.13.9", MaxParallel: "2"}, nil)
		if err != nil || again.Status != runbook.AlreadyCurrent || len(again.Skipped) != 9 {
			t.Errorf("again: %q, %v", again.Status, err)
		}
	})
}

func unusable(_ context.Context, path string) (etcd.Snapshot, gate.Verdict, error) {
	return etcd.Snapshot{Path: path}, gate.New(gate.SnapshotUnusable, gate.Refuse, "", "no key decrypts it"), nil
}

func TestApplyEnds(t *testing.T) {
	t.Parallel()

	refusal := errors.New("no")

	tests := []struct {
		name      string
		arrange   func(*fakeFleet, *Request, *ApplyOptions)
		status    runbook.Status
		code      errs.Code
		upgraded  int
		untouched bool // No node was disturbed: nothing but pulls.
	}{
		{"dry run", func(_ *fakeFleet, _ *Request, o *ApplyOptions) { o.Node.DryRun = true }, runbook.Planned, errs.OK, 0, true},
		{"a gate refuses", func(f *fakeFleet, _ *Request, _ *ApplyOptions) {
			f.nodes["worker-2"].Config.DroppedKernelArgs = []string{"a"}
		}, runbook.Refused, errs.Refused, 0, true},
		{"lock held", func(f *fakeFleet, _ *Request, _ *ApplyOptions) { f.Lock = heldBy("ann@host") }, runbook.Refused, errs.Refused, 0, true},
		{"a clock is off", func(f *fakeFleet, _ *Request, _ *ApplyOptions) { f.nodes["worker-2"].ClockOff = 60 }, runbook.Refused, errs.Refused, 0, true},
		{"the certificate does not last for five turns", func(f *fakeFleet, _ *Request, _ *ApplyOptions) { f.Expires = time.Now().Add(49 * time.Minute) }, runbook.Refused, errs.Refused, 0, true},
		{"the certificate lasts for five turns", func(f *fakeFleet, _ *Request, _ *ApplyOptions) { f.Expires = time.Now().Add(51 * time.Minute) }, runbook.OK, errs.OK, 5, false},
		{"the certificate runs out on the way", func(f *fakeFleet, _ *Request, _ *ApplyOptions) {
			f.Expires = time.Now().Add(51 * time.Minute)
			f.nodes["cp-2"].During["install"] = func() { _ = poll.Pause(f.t.Context(), 45*time.Minute) }
		}, runbook.Halted, errs.Partial, 1, false},
		{"outside the window", func(_ *fakeFleet, _ *Request, o *ApplyOptions) { o.Window, _ = ParseWindow("Sat 02:00-03:00") }, runbook.Refused, errs.Refused, 0, true},
		{"image missing", func(f *fakeFleet, _ *Request, _ *ApplyOptions) {
			f.Image = func(context.Context, string) (string, error) { return "", registry.ErrNotFound }
		}, runbook.Refused, errs.Refused, 0, true},
		{"registry away", func(f *fakeFleet, _ *Request, _ *ApplyOptions) {
			f.Image = func(context.Context, string) (string, error) { return "", registry.ErrUnreachable }
		}, runbook.OK, errs.OK, 5, false},
		{"snapshot fails", func(f *fakeFleet, _ *Request, _ *ApplyOptions) {
			f.Snapshot = func(context.Context, string) (etcd.Snapshot, gate.Verdict, error) {
				return etcd.Snapshot{}, gate.Verdict{}, refusal
			}
		}, runbook.Failed, errs.Failed, 0, true},
		{"the snapshot would not restore", func(f *fakeFleet, _ *Request, _ *ApplyOptions) { f.Snapshot = unusable }, runbook.Refused, errs.Refused, 0, true},
		{"which is overridden", func(f *fakeFleet, _ *Request, o *ApplyOptions) {
			f.Snapshot, o.Node.Overrides = unusable, gate.Overrides{"TM164"}
		}, runbook.OK, errs.OK, 5, false},
		{"a pull fails", func(f *fakeFleet, _ *Request, _ *ApplyOptions) { f.nodes["worker-1"].Fail["pull"] = refusal }, runbook.Failed, errs.Failed, 0, true},
		{"a gate never holds", func(_ *fakeFleet, _ *Request, o *ApplyOptions) {
			o.Gates = []UserGate{{Kind: "cel", Text: "false", Check: func(context.Context, GateInput) (bool, string, error) { return false, "no", nil }}}
		}, runbook.Halted, errs.Refused, 0, true},
		{"a gate holds no more", func(_ *fakeFleet, _ *Request, o *ApplyOptions) {
			o.Gates = []UserGate{{Kind: "cel", Text: "x", Check: func(_ context.Context, in GateInput) (bool, string, error) { return in.Upgraded < 2, "no", nil }}}
		}, runbook.Halted, errs.Partial, 2, false},
		{"health goes", func(f *fakeFleet, _ *Request, _ *ApplyOptions) {
			f.nodes["cp-2"].AfterBoot = func(*fake.Machine) { f.ill("etcd-health on cp-2") }
		}, runbook.Halted, errs.Partial, 1, false},
		{"what was wrong before does not count", func(f *fakeFleet, _ *Request, _ *ApplyOptions) { f.problems = []string{"talos-disk on cp-2"} }, runbook.OK, errs.OK, 5, false},
		{"first node rolls back", func(f *fakeFleet, _ *Request, _ *ApplyOptions) {
			f.nodes["cp-2"].BootInto = func(string) string { return "" }
		}, runbook.Halted, errs.RolledBack, 0, false},
		{"a worker does not return", func(f *fakeFleet, _ *Request, _ *ApplyOptions) { f.nodes["worker-1"].Never = true }, runbook.Halted, errs.Partial, 3, false},
		{"a worker is rolled back", func(f *fakeFleet, _ *Request, o *ApplyOptions) {
			f.nodes["worker-1"].AfterBoot = func(m *fake.Machine) { m.Sys.Extensions = nil }
			o.RollBack = true
		}, runbook.Halted, errs.Partial, 3, false},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleetOf(t, "v1.13.8", 2)
				r := Request{To: "v1.13.9"}

				res, err := f.apply(t.Context(), r, func(o *ApplyOptions) { tt.arrange(f, &r, o) })
				if res.Status != tt.status || errs.ExitCode(err) != tt.code || res.Upgraded != tt.upgraded {
					t.Errorf("%q, exit code %d, %d upgraded: %v", res.Status, errs.ExitCode(err), res.Upgraded, err)
				}

				f.clean2(t, tt.name)

				for name, m := range f.nodes {
					if tt.untouched && (m.Count("install") > 0 || m.Count("reboot") > 0) {
						t.Errorf("%s: %v", name, m.Calls)
					}
				}

				if res.Nodes == nil || res.Skipped == nil || res.Remaining == nil || res.Gates == nil || res.Checks == nil || res.OverriddenGates == nil {
					t.Error("a list is null")
				}

				if n := res.Upgraded + res.Failed + len(res.Skipped) + len(res.Remaining); n != 5 {
					t.Errorf("%d nodes are accounted for", n)
				}
			})
		})
	}
}

// clean2 is clean but for the marker that a failed verification leaves on purpose.
func (f *fakeFleet) clean2(t *testing.T, _ string) {
	t.Helper()

	for name, n := range f.kube.Members {
		if n.Unschedulable {
			t.Errorf("%s is still cordoned", name)
		}
	}
}

func TestRollBackRestores(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.13.8", 2)
		f.nodes["worker-1"].AfterBoot = func(m *fake.Machine) { m.Sys.Extensions = nil }

		res, _ := f.apply(t.Context(), Request{To: "v1.13.9"}, func(o *ApplyOptions) { o.RollBack = true })

		last := res.Nodes[len(res.Nodes)-1]
		if last.Status != runbook.RolledBack || last.Rollback == nil || !last.Rollback.OK || last.Rollback.RunningTag != "v1.13.8" || last.Rollback.Error != "" {
			t.Fatalf("%q, %+v", last.Status, last.Rollback)
		}

		if m := f.nodes["worker-1"]; m.Running.Tag != "v1.13.8" || m.Count("rollback") != 1 {
			t.Errorf("%s, %v", m.Running.Tag, m.Calls)
		}

		if f.nodes["worker-2"].Count("install") > 0 {
			t.Error("another node was started after the failure")
		}

		f.clean(t)
	})
}

// TestApplyLetsRunningNodesFinish: one worker fails while another is under way.
func TestApplyLetsRunningNodesFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.13.8", 4)
		f.nodes["worker-1"].ExitCode = 1

		res, err := f.apply(t.Context(), Request{To: "v1.13.9", MaxParallel: "2"}, nil)
		if res.Status != runbook.Halted || errs.ExitCode(err) != errs.Partial || res.Upgraded != 4 || res.Failed != 1 {
			t.Errorf("%q, %d upgraded, %d failed: %v", res.Status, res.Upgraded, res.Failed, err)
		}

		if !slices.Equal(res.Remaining, []string{"worker-3", "worker-4"}) {
			t.Errorf("remaining %v", res.Remaining)
		}
	})
}

// TestApplyBrokenOff ends a run at many moments, by an interrupt and by a kill that lets nothing be undone;
// each time a second run finishes the work, and no install comes before the reboot that an earlier one waits for.
func TestApplyBrokenOff(t *testing.T) {
	t.Parallel()

	for _, version := range []string{"v1.13.8", "v1.12.9"} {
		for _, kill := range []bool{false, true} {
			for at := 50 * time.Millisecond; at < 32*time.Second; at += 310 * time.Millisecond {
				t.Run(fmt.Sprintf("%s, kill %t, after %s", version, kill, at), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { breakOff(t, version, kill, at) })
				})
			}
		}
	}
}

func breakOff(t *testing.T, version string, kill bool, at time.Duration) {
	t.Helper()

	f := newFleetOf(t, version, 2)
	request := Request{To: "v1.13.9", MaxParallel: "2"}
	ctx, end := fake.Mortal(t.Context())

	if !kill {
		var cancel context.CancelCauseFunc

		ctx, cancel = context.WithCancelCause(t.Context())
		end = func() { cancel(errs.New(errs.Interrupted, "interrupted by a test")) }
	}

	timer := time.AfterFunc(at, end)
	defer timer.Stop()

	res, err := f.apply(ctx, request, nil)

	if ctx.Err() == nil {
		f.clean(t)

		return
	}

	if res.Status != runbook.Interrupted || errs.ExitCode(err) != errs.Interrupted {
		t.Fatalf("%q, %v", res.Status, err)
	}

	if !kill {
		f.clean2(t, "")
	}

	f.AwaitUnderway = 5 * time.Minute

	if res, err = f.apply(t.Context(), request, nil); err != nil || (res.Status != runbook.OK && res.Status != runbook.AlreadyCurrent) {
		t.Fatalf("the second run: %q, %v", res.Status, err)
	}

	f.clean(t)

	for name, m := range f.nodes {
		if m.Running.Tag != "v1.13.9" || m.Doubled || m.Count("reboot")+m.Count("legacy") > 1+m.Count("install")/2 {
			t.Errorf("%s: %s, overwritten %t, %v", name, m.Running.Tag, m.Doubled, m.Calls)
		}
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.13.8", 2)
		f.nodes["worker-2"].Running.Tag = "v1.13.9"
		f.leader = "cp-1"

		p, err := f.plan(Request{To: "1.13.9", MaxParallel: "100%", Canary: "worker-1"})
		if err != nil {
			t.Fatal(err)
		}

		var order []string
		for _, n := range p.Nodes {
			order = append(order, n.Hostname+" "+n.Action)
		}

		if want := []string{"worker-1 upgrade", "cp-2 upgrade", "cp-3 upgrade", "cp-1 upgrade", "worker-2 skip"}; !slices.Equal(order, want) {
			t.Errorf("order %v", order)
		}

		if p.Work != 4 || p.Workers != 2 || p.To != "v1.13.9" || p.Nodes[0].Image != fake.NewImage || p.Nodes[4].Order != 0 {
			t.Errorf("%+v", p)
		}

		again, err := f.plan(Request{To: "1.13.9", MaxParallel: "100%", Canary: "worker-1"})
		if err != nil || again.Hash != p.Hash {
			t.Errorf("the same cluster gave another hash: %v", err)
		}
	})
}

func TestPlanRefuses(t *testing.T) {
	t.Parallel()

	for name, tt := range map[string]struct {
		request Request
		arrange func(*fakeFleet)
		code    errs.Code
	}{
		"nowhere":         {Request{}, nil, errs.Usage},
		"two ways":        {Request{To: "v1.13.9", Image: fake.NewImage}, nil, errs.Usage},
		"no version":      {Request{To: "latest"}, nil, errs.Usage},
		"bad parallel":    {Request{To: "v1.13.9", MaxParallel: "0"}, nil, errs.Usage},
		"bad percentage":  {Request{To: "v1.13.9", MaxParallel: "101%"}, nil, errs.Usage},
		"unknown canary":  {Request{To: "v1.13.9", Canary: "nobody"}, nil, errs.Usage},
		"unknown node":    {Request{To: "v1.13.9", Nodes: []string{"nobody"}}, nil, errs.Usage},
		"canary not in":   {Request{To: "v1.13.9", Nodes: []string{"cp-1"}, Canary: "cp-2"}, nil, errs.Usage},
		"too far":         {Request{To: "v1.13.9"}, func(f *fakeFleet) { f.nodes["cp-1"].Running = talos.Version{Tag: "v1.8.0", API: "legacy"} }, errs.Refused},
		"no node answers": {Request{To: "v1.13.9", Nodes: []string{"cp-1"}}, func(f *fakeFleet) { f.nodes["cp-1"].Fail["version"] = fake.ErrDown }, errs.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleetOf(t, "v1.13.8", 1)
				f.AwaitUnderway = time.Minute // nothing is underway
				if tt.arrange != nil {
					tt.arrange(f)
				}

				p, err := f.plan(tt.request)
				if errs.ExitCode(err) != tt.code {
					t.Errorf("exit code %d: %v", errs.ExitCode(err), err)
				}

				// Half a plan must never pass for a whole one.
				if tt.code != errs.Refused && len(p.Nodes) > 0 {
					t.Errorf("a plan with %d nodes", len(p.Nodes))
				}
			})
		})
	}
}

// TestPlanDowngrade: a lower version is called a downgrade, and is refused unless that is overridden.
func TestPlanDowngrade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.13.9", 1)

		p, err := f.plan(Request{To: "v1.13.8"})
		if errs.ExitCode(err) != errs.Refused || p.Work != len(p.Nodes) || strings.Count(err.Error(), string(gate.Downgrade)) != len(p.Nodes) {
			t.Errorf("%d of %d nodes: %v", p.Work, len(p.Nodes), err)
		}

		for _, n := range p.Nodes {
			if n.Action != upgrade.ActDowngrade || !strings.Contains(n.Reason, "lower") {
				t.Errorf("%s: %s because %s", n.Node, n.Action, n.Reason)
			}
		}

		if p, err = f.plan(Request{To: "v1.13.8"}, string(gate.Downgrade)); err != nil || p.Refused {
			t.Errorf("overridden: %v", err)
		}
	})
}

// TestAlreadyCurrentIsNotUpgraded: a node that only lacked the end of an earlier run's verification is not counted as
// upgraded.
func TestAlreadyCurrentIsNotUpgraded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.13.9", 1)
		mark := upgrade.Marker{Image: fake.NewImage, Target: "v1.13.9", BootID: "earlier", Phase: "installed"}
		f.kube.Members["worker-1"].Annotations[upgrade.MarkerAnnotation] = mark.String()

		res, err := f.apply(t.Context(), Request{To: "v1.13.9"}, nil)
		if err != nil || res.Upgraded != 0 || len(res.Skipped) != 4 || len(res.Nodes) != 1 {
			t.Errorf("%s, %d upgraded, skipped %v: %v", res.Status, res.Upgraded, res.Skipped, err)
		}
	})
}

// TestHops goes over a version in between: the whole cluster first to that, then on.
func TestHops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.10.5", 1)
		for _, m := range f.nodes {
			m.Sys.Kubelet = "v1.32.0"
		}

		asked := 0
		f.Releases = func(context.Context) ([]string, error) {
			asked++

			return []string{"v1.10.5", "v1.11.6", "v1.12.8", "v1.12.9", "v1.13.0-beta.1", "v1.13.8"}, nil
		}

		p, err := f.plan(Request{To: "v1.13.9"})
		if err != nil {
			t.Fatal(err)
		}

		if h := p.Nodes[0].Hops; len(h) != 2 || h[0].To != "v1.12.9" || h[0].API != "legacy" || h[1].From != "v1.12.9" || h[1].To != "v1.13.9" || asked != 1 {
			t.Fatalf("hops %+v, asked %d times", h, asked)
		}

		res, err := f.apply(t.Context(), Request{To: "v1.13.9"}, nil)
		if err != nil || res.Upgraded != 4 || len(res.Nodes) != 8 {
			t.Fatalf("%q, %d results: %v", res.Status, len(res.Nodes), err)
		}

		for i, n := range res.Nodes {
			if want := []string{"v1.12.9", "v1.13.9"}[i/4]; n.RunningTag != want {
				t.Errorf("step %d: %s runs %s, want %s", i, n.Hostname, n.RunningTag, want)
			}
		}
	})
}

func TestInstallOnlyThenRebootOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.13.8", 1)

		res, err := f.apply(t.Context(), Request{To: "v1.13.9", InstallOnly: true}, nil)
		if err != nil || res.Upgraded != 4 || f.nodes["cp-1"].Count("reboot") > 0 || f.nodes["cp-1"].Count("install") != 1 {
			t.Fatalf("%q: %v", res.Status, err)
		}

		st, err := ReadStatus(t.Context(), f.Cluster, nil, nil)
		if err != nil || st.Clean || st.Nodes[0].State != StateInstalled || st.Nodes[0].Target != "v1.13.9" {
			t.Errorf("%+v, %v", st.Nodes, err)
		}

		res, err = f.apply(t.Context(), Request{To: "v1.13.9", RebootOnly: true}, nil)
		if err != nil || res.Upgraded != 4 || f.nodes["cp-1"].Count("install") != 1 || f.nodes["cp-1"].Running.Tag != "v1.13.9" {
			t.Fatalf("%q: %v", res.Status, err)
		}

		f.clean(t)

		if st, err = ReadStatus(t.Context(), f.Cluster, nil, nil); err != nil || !st.Clean {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

func TestCanarySoaks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.13.8", 2)
		began := time.Now()

		res, err := f.apply(t.Context(), Request{To: "v1.13.9", Canary: "worker-2"}, func(o *ApplyOptions) { o.Soak = 10 * time.Minute })
		if err != nil || f.order[0] != "worker-2" || time.Since(began) < 10*time.Minute {
			t.Fatalf("%v, %v: %v", f.order, time.Since(began), err)
		}

		if res.Upgraded != 5 {
			t.Errorf("%d upgraded", res.Upgraded)
		}

		f = newFleetOf(t, "v1.13.8", 2)
		time.AfterFunc(5*time.Minute, func() { f.ill("kubelet on worker-2") })

		res, err = f.apply(t.Context(), Request{To: "v1.13.9", Canary: "worker-2"}, func(o *ApplyOptions) { o.Soak = 10 * time.Minute })
		if res.Status != runbook.Halted || errs.ExitCode(err) != errs.Partial || !slices.Equal(f.order, []string{"worker-2"}) {
			t.Errorf("%q, %v: %v", res.Status, f.order, err)
		}
	})
}

// TestPanicReleasesLock: after an internal error nobody waits for a lock that is not used.
func TestPanicReleasesLock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.13.8", 1)
		l := &fakeLock{lost: make(chan error, 1)}
		f.Lock = func(context.Context) (clusterlock.Held, error) { return l, nil }
		f.Health = func(context.Context, []talos.Target) ([]string, error) { panic("a bug") }

		plan := Plan{Nodes: []NodePlan{{NodeRef: talos.NodeRef{Node: "10.0.0.1"}, K8sNodeName: "cp-1", Action: upgrade.ActUpgrade, Hops: []Hop{{}}}}, Work: 1}

		res, err := Apply(t.Context(), f.Cluster, plan, ApplyOptions{}, progress.Discard{})
		if res.Status != runbook.Halted || errs.ExitCode(err) != errs.Failed || !res.Locked || l.released != 1 {
			t.Errorf("%s, %v, released %d times", res.Status, err, l.released)
		}

		round, err := RunRound(t.Context(), f.Cluster, Round{Nodes: plan.Nodes}, ApplyOptions{}, progress.Discard{})
		if round.Status != runbook.Halted || errs.ExitCode(err) != errs.Failed || !round.Locked || l.released != 2 {
			t.Errorf("%s, %v, released %d times", round.Status, err, l.released)
		}
	})
}

// TestLockLost: another run took the lock over; those under way finish and nobody else is started.
func TestLockLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.13.8", 2)
		l := &fakeLock{lost: make(chan error, 1)}
		f.Lock = func(context.Context) (clusterlock.Held, error) { return l, nil }
		f.nodes["cp-2"].During["install"] = func() { l.lost <- errors.New("the lock went to ann@host") }

		res, err := f.apply(t.Context(), Request{To: "v1.13.9"}, nil)
		if res.Status != runbook.Halted || res.Upgraded != 1 || errs.ExitCode(err) != errs.Partial || !strings.Contains(err.Error(), "ann@host") {
			t.Errorf("%q, %d upgraded: %v", res.Status, res.Upgraded, err)
		}

		if l.released != 1 {
			t.Errorf("released %d times", l.released)
		}
	})
}

type fakeLock struct {
	lost     chan error
	released int
}

func (l *fakeLock) Lost() <-chan error      { return l.lost }
func (l *fakeLock) Former() *kube.LockState { return nil }

func (l *fakeLock) Answers(context.Context) error { return nil }

func (l *fakeLock) Release(context.Context) error {
	l.released++

	return nil
}

func TestImageFor(t *testing.T) {
	t.Parallel()

	plain := talos.System{}
	custom := talos.System{Schematic: fake.Schematic, Extensions: []talos.Extension{{Name: "iscsi-tools"}}}

	for _, tt := range []struct {
		name, installed string
		system          talos.System
		version, want   string
	}{
		{"own schematic", fake.OldImage, custom, "v1.13.9", fake.NewImage},
		{"own registry", "mirror.corp/factory/metal-installer/" + fake.Schematic + ":v1.13.8", custom, "v1.13.9", "mirror.corp/factory/metal-installer/" + fake.Schematic + ":v1.13.9"},
		{"the running schematic wins", "factory.talos.dev/metal-installer/" + registry.EmptySchematic + ":v1.13.8", custom, "v1.13.9", fake.NewImage},
		{"somebody's own image", "registry.corp/talos/installer:v1.13.8", custom, "v1.13.9", "registry.corp/talos/installer:v1.13.9"},
		{"stock", "ghcr.io/siderolabs/installer:v1.13.8", plain, "v1.13.9", "ghcr.io/siderolabs/installer:v1.13.9"},
		{"stock ends with 1.13", "ghcr.io/siderolabs/installer:v1.13.8", plain, "v1.14.0", "factory.talos.dev/metal-installer/" + registry.EmptySchematic + ":v1.14.0"},
		{"configuration not readable", "", custom, "v1.13.9", fake.NewImage},
		{"secure boot", "", talos.System{Schematic: fake.Schematic, SecurityState: talos.SecurityState{SecureBoot: true}}, "v1.13.9", strings.Replace(fake.NewImage, "metal-installer", "metal-installer-secureboot", 1)},
		{"extensions without a schematic", "ghcr.io/siderolabs/installer:v1.13.8", talos.System{Extensions: custom.Extensions}, "v1.13.9", ""},
	} {
		got, err := imageFor(tt.installed, tt.system, "metal", tt.version)
		if (err != nil) != (tt.want == "") || (err == nil && got.String() != tt.want) {
			t.Errorf("%s: %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
}

func TestWindow(t *testing.T) {
	t.Parallel()

	at := func(text string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", text)
		if err != nil {
			t.Fatal(err)
		}

		return v
	}

	for _, tt := range []struct {
		window, at string
		open       bool
	}{
		{"Sat 02:00-05:00", "2026-11-21 02:00", true},
		{"Sat 02:00-05:00", "2026-11-21 05:00", false},
		{"Sat 02:00-05:00", "2026-11-22 03:00", false},
		{"Fri-Mon 22:00-04:00", "2026-11-20 23:00", true},
		{"Fri-Mon 22:00-04:00", "2026-11-24 03:59", true},
		{"Fri-Mon 22:00-04:00", "2026-11-24 23:00", false},
		{"Fri-Mon 22:00-04:00", "2026-11-20 03:00", false},
		{"02:00-05:00", "2026-11-18 03:00", true},
		{"sunday 00:00-24:00", "2026-11-22 23:59", true},
		{"Sat,Wed 10:00-11:00", "2026-11-18 10:30", true},
	} {
		w, err := ParseWindow(tt.window)
		if err != nil {
			t.Fatal(err)
		}

		if w.Open(at(tt.at)) != tt.open {
			t.Errorf("%s at %s: want open %t", tt.window, tt.at, tt.open)
		}
	}

	for _, bad := range []string{"Sat", "Sat 2-5", "Xyz 02:00-05:00", "Sat 02:00-02:00", "a b c", "25:00-26:00"} {
		if _, err := ParseWindow(bad); errs.ExitCode(err) != errs.Usage {
			t.Errorf("%q: %v", bad, err)
		}
	}

	if w, err := ParseWindow(""); err != nil || !w.Open(time.Now()) {
		t.Errorf("no window is always open: %v", err)
	}
}

// TestClockLeavesTheWindow sets the clock to a time outside of the window while a node is being upgraded: that node is finished,
// and no other one is started.
func TestClockLeavesTheWindow(t *testing.T) {
	t.Parallel()

	for name, by := range map[string]time.Duration{"forward": 6 * time.Hour, "back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleetOf(t, "v1.13.8", 1)

				var off time.Duration

				f.Now = func() time.Time { return time.Now().UTC().Add(off) }
				f.nodes["cp-2"].During["install"] = func() { off = by }

				res, err := f.apply(t.Context(), Request{To: "v1.13.9"}, func(o *ApplyOptions) { o.Window, _ = ParseWindow("Sat 00:00-06:00") })
				if res.Status != runbook.Halted || errs.ExitCode(err) != errs.Partial || f.order[len(f.order)-1] != "cp-2" || !strings.Contains(err.Error(), "the window Sat 00:00-06:00 has closed") {
					t.Errorf("%q, %v: %v", res.Status, f.order, err)
				}
			})
		})
	}
}

// TestOverridden: what is passed on purpose is kept, whoever asked: the cluster's gates, the plan's or a node's own.
func TestOverridden(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.13.8", 1)
		f.nodes["worker-1"].ClockOff = 60
		f.Image = func(context.Context, string) (string, error) { return "", registry.ErrNotFound }

		res, err := f.apply(t.Context(), Request{To: "v1.13.9"}, func(o *ApplyOptions) {
			o.Node.Overrides = gate.Overrides{"TM148", "tm138", "TM132", "TM150"}
			o.Window, _ = ParseWindow("Sun 02:00-03:00")
		})
		if want := []string{"TM132", "TM138", "TM148"}; err != nil || !slices.Equal(res.OverriddenGates, want) {
			t.Errorf("%v: %v", res.OverriddenGates, err)
		}
	})
}

func TestReport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.13.8", 1)

		res, err := f.apply(t.Context(), Request{To: "v1.13.9"}, func(o *ApplyOptions) { o.Node.Overrides = gate.Overrides{"TM132"} })
		if err != nil {
			t.Fatal(err)
		}

		res.Error, res.Hint = "a | b\n<script> ![x](http://evil)", "c"

		var report, picture strings.Builder
		if err = errors.Join(WriteReport(&report, res, "dir/up.svg"), WriteTimeline(&picture, res)); err != nil {
			t.Fatal(err)
		}

		for _, want := range []string{"# Upgrade of prod to v1.13.9: ok", "| cp-2 | ok | v1.13.8 → v1.13.9 |", "](up.svg)", `a \| b &lt;script&gt; \!\[x\](http:\//evil)`} {
			if !strings.Contains(report.String(), want) {
				t.Errorf("the report has no %q:\n%s", want, report.String())
			}
		}

		if n := strings.Count(picture.String(), "API down, "); n != 4 || !strings.HasSuffix(picture.String(), "</svg>\n") {
			t.Errorf("%d absences in the picture", n)
		}
	})
}

// TestRollBackBehindEndpoints: a rollback waits until the endpoints reach the node again.
func TestRollBackBehindEndpoints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.13.8", 1)
		m := f.nodes["worker-1"]
		m.AfterBoot = func(m *fake.Machine) { m.Sys.Extensions = nil }
		node := f.Node
		f.Node = func(target talos.Target) *probe.Node {
			n := node(target)
			n.Read, n.Change = fake.BackingOff{Machine: f.nodes[target.Hostname]}, fake.BackingOff{Machine: f.nodes[target.Hostname]}

			return n
		}

		began := time.Now()
		applied, _ := f.apply(t.Context(), Request{To: "v1.13.9", Nodes: []string{"worker-1"}}, func(o *ApplyOptions) { o.RollBack = true })

		if last := applied.Nodes[len(applied.Nodes)-1]; last.Rollback == nil || !last.Rollback.OK || m.Count("rollback") != 1 {
			t.Errorf("a rollback: %+v, %v", last.Rollback, m.Calls)
		}

		if took := time.Since(began); took > time.Minute {
			t.Errorf("a request that was not delivered was waited for: %s", took)
		}
	})
}

func TestTurns(t *testing.T) {
	t.Parallel()

	two := []Hop{{}, {}}
	p := Plan{Workers: 2, Nodes: []NodePlan{
		{Role: target.ControlPlane, Action: upgrade.ActUpgrade, Hops: two},
		{Role: target.ControlPlane, Action: upgrade.ActReboot},
		{Role: target.ControlPlane, Action: upgrade.ActSkip},
		{Role: "worker", Action: upgrade.ActUpgrade, Hops: two},
		{Role: "worker", Action: upgrade.ActSettle},
		{Role: "worker", Action: upgrade.ActSkip},
	}}

	if got := p.turns(); got != 5 {
		t.Errorf("%d turns", got)
	}
}
