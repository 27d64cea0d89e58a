package etcd_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// fake is a simulated cluster of members that can be made to fail.
type fake struct {
	mu      sync.Mutex
	nodes   []*node
	sources []etcd.Source
	acts    []string

	lose   int    // How many answers are lost after the operation was carried out.
	refuse int    // How many requests are refused for want of a leader.
	sicken string // The node that becomes unhealthy with its defragmentation.
	blind  bool   // After an operation the state cannot be read any more.
	during func() // Called while an operation is carried out.

	downgrade string // The version that a downgrade is enabled to.
	stuck     bool   // The storage of cp-3 does not follow a downgrade.
}

func newFake() *fake {
	f := &fake{}
	f.sources, f.nodes = three()

	for i, n := range f.nodes {
		n.status.DBSizeBytes, n.status.DBInUseBytes, n.status.Fragmentation = int64(1000*(i+1)), 100, 0.8
		n.status.Version, n.status.StorageVersion = "3.6.12", "3.6.0"
	}

	return f
}

func (f *fake) Look(ctx context.Context) (etcd.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.blind && len(f.acts) > 0 {
		return etcd.View{}, errors.New("nothing answers")
	}

	return etcd.Gather(ctx, f.sources, time.Second), ctx.Err()
}

func (f *fake) Node(t talos.Target) etcd.Actor {
	for i, s := range f.sources {
		if s.Target.Address == t.Address {
			return &actor{node: f.nodes[i], fake: f, name: s.Target.Hostname}
		}
	}

	return nil
}

type actor struct {
	*node
	fake *fake
	name string
}

var (
	errLost   = &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Err: errors.New("error reading from server: EOF")}
	errLeader = errors.New("etcdserver: no leader")
)

// do records an operation and carries it out, unless it is to be refused.
func (a *actor) do(act string, effect func()) error {
	a.fake.mu.Lock()
	defer a.fake.mu.Unlock()

	if a.fake.refuse > 0 {
		a.fake.refuse--

		return errLeader
	}

	a.fake.acts = append(a.fake.acts, act+" "+a.name)
	effect()

	if a.fake.during != nil {
		a.fake.during()
	}

	if a.fake.lose > 0 {
		a.fake.lose--

		return errLost
	}

	return nil
}

func (a *actor) EtcdDefragment(context.Context) error {
	return a.do("defrag", func() {
		a.status.DBSizeBytes, a.status.Fragmentation = a.status.DBInUseBytes, 0

		if a.fake.sicken == a.name {
			a.status.LeaderID = id(0)
		}
	})
}

func (a *actor) EtcdAlarmDisarm(context.Context) error {
	return a.do("disarm", func() {
		for _, n := range a.fake.nodes {
			n.alarms = nil
		}
	})
}

func (a *actor) EtcdRemoveMember(_ context.Context, gone talos.EtcdID) error {
	return a.do("remove", func() { a.fake.drop(gone.Hex()) })
}

func (a *actor) EtcdLeave(context.Context) error {
	return a.do("leave", func() { a.fake.drop(a.status.ID) })
}

func (f *fake) drop(member string) {
	for _, n := range f.nodes {
		n.members = slices.DeleteFunc(n.members, func(m talos.EtcdMember) bool { return m.ID == member })

		if n.status.LeaderID == member {
			n.status.LeaderID = id(2)
		}

		if n.status.ID == member {
			n.err = errors.New("gone")
		}
	}
}

func (a *actor) EtcdForfeitLeadership(context.Context) (string, error) {
	return "cp-3", a.do("forfeit", func() {
		for _, n := range a.fake.nodes {
			n.status.LeaderID = id(3)
		}
	})
}

func (a *actor) EtcdQuota(context.Context) (int64, error) { return 10000, nil }

func (f *fake) env() etcd.Env {
	return etcd.Env{Access: f, Now: time.Now, Progress: progress.Discard{}, Begin: func() {}, Settle: 20 * time.Second, Deadline: time.Minute}
}

func (f *fake) view(t *testing.T) etcd.View {
	t.Helper()

	v, err := f.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	return v
}

func (f *fake) targets() []talos.Target {
	out := make([]talos.Target, len(f.sources))
	for i, s := range f.sources {
		out[i] = s.Target
	}

	return out
}

func statuses(rows []etcd.Defragmented) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = r.Hostname + " " + string(r.Status)
	}

	return out
}

func TestDefrag(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name   string
		change func(*fake)
		acts   []string
		rows   []string
		code   errs.Code
	}{
		{"leader last", func(*fake) {}, []string{"defrag cp-2", "defrag cp-3", "defrag cp-1"}, []string{"cp-2 done", "cp-3 done", "cp-1 done"}, errs.OK},
		{
			"the leader changes meanwhile", func(f *fake) {
				f.during = func() {
					for _, n := range f.nodes {
						n.status.LeaderID = id(3)
					}
				}
			},
			[]string{"defrag cp-2", "defrag cp-1", "defrag cp-3"},
			[]string{"cp-2 done", "cp-3 done", "cp-1 done"},
			errs.OK,
		},
		{
			"a member becomes unhealthy", func(f *fake) { f.sicken = "cp-3" },
			[]string{"defrag cp-2", "defrag cp-3"},
			[]string{"cp-2 done", "cp-3 done", "cp-1 not_reached"},
			errs.Partial,
		},
		{
			"another member dies meanwhile", func(f *fake) { f.during = func() { f.nodes[0].err = errors.New("gone") } },
			[]string{"defrag cp-2"},
			[]string{"cp-2 done", "cp-3 not_reached", "cp-1 not_reached"},
			errs.Partial,
		},
		{
			"the first member becomes unhealthy", func(f *fake) { f.sicken = "cp-2" },
			[]string{"defrag cp-2"},
			[]string{"cp-2 done", "cp-3 not_reached", "cp-1 not_reached"},
			errs.Lost,
		},
		{
			"lost answers", func(f *fake) { f.lose = 3 },
			[]string{"defrag cp-2", "defrag cp-3", "defrag cp-1"},
			[]string{"cp-2 done", "cp-3 done", "cp-1 done"},
			errs.OK,
		},
		{
			"refused twice", func(f *fake) { f.refuse = 2 },
			[]string{"defrag cp-2", "defrag cp-3", "defrag cp-1"},
			[]string{"cp-2 done", "cp-3 done", "cp-1 done"},
			errs.OK,
		},
		{"nobody needs it", func(f *fake) {
			for _, n := range f.nodes {
				n.status.Fragmentation = 0.1
			}
		}, nil, []string{"cp-2 skipped", "cp-3 skipped", "cp-1 skipped"}, errs.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				c.change(f)

				rows, verdicts, err := f.view(t).PlanDefrag(f.targets(), 0.5)
				if err = errors.Join(err, gate.Apply(verdicts, nil)); err != nil {
					t.Fatal(err)
				}

				rows, err = f.env().Defrag(t.Context(), rows, nil)

				if code := errs.ExitCode(err); code != c.code {
					t.Errorf("code %d, want %d: %v", code, c.code, err)
				}

				if !slices.Equal(f.acts, c.acts) {
					t.Errorf("acts %v, want %v", f.acts, c.acts)
				}

				if got := statuses(rows); !slices.Equal(got, c.rows) {
					t.Errorf("rows %v, want %v", got, c.rows)
				}
			})
		})
	}
}

func TestDefragInterrupted(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		ctx, cancel := context.WithCancelCause(t.Context())
		f.during = func() { cancel(errs.New(errs.Interrupted, "interrupted")) }

		rows, _, _ := f.view(t).PlanDefrag(f.targets(), 0)
		rows, err := f.env().Defrag(ctx, rows, nil)

		if errs.ExitCode(err) != errs.Interrupted || !slices.Equal(f.acts, []string{"defrag cp-2"}) {
			t.Errorf("acts %v, %v", f.acts, err)
		}

		if got := statuses(rows); !slices.Equal(got, []string{"cp-2 done", "cp-3 not_reached", "cp-1 not_reached"}) {
			t.Errorf("rows %v", got)
		}
	})
}

func TestDefragGates(t *testing.T) {
	t.Parallel()

	f := newFake()
	f.nodes[0].alarms = []talos.EtcdAlarm{{ID: id(1), Alarm: "nospace"}}

	if _, verdicts, _ := f.view(t).PlanDefrag(f.targets(), 0); refused(verdicts) != nil {
		t.Errorf("NOSPACE must not stand against its cure: %v", refused(verdicts))
	}

	f.nodes[0].alarms = []talos.EtcdAlarm{{ID: id(1), Alarm: "corrupt"}}

	if _, verdicts, _ := f.view(t).PlanDefrag(f.targets(), 0); !slices.Contains(refused(verdicts), gate.EtcdUnhealthy) {
		t.Error("CORRUPT must")
	}
}

func TestMembership(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name   string
		change func(*fake)
		acts   []string
		status runbook.Status
		code   errs.Code
	}{
		{"done", func(*fake) {}, []string{"remove cp-1"}, runbook.Done, errs.OK},
		{"the answer is lost", func(f *fake) { f.lose = 1 }, []string{"remove cp-1"}, runbook.Done, errs.OK},
		{"no leader for a while", func(f *fake) { f.refuse = 3 }, []string{"remove cp-1"}, runbook.Done, errs.OK},
		{"no leader for good", func(f *fake) { f.refuse = 100 }, nil, runbook.Failed, errs.Failed},
		{"the answer is lost and nothing can be seen", func(f *fake) { f.lose, f.blind = 1, true }, []string{"remove cp-1"}, runbook.Unknown, errs.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.nodes[2].err = errors.New("gone")

				v := f.view(t)

				m, err := v.FindMember("cp-3")
				if err != nil {
					t.Fatal(err)
				}

				plan := v.PlanRemove(m)
				if err = gate.Apply(plan.Gates, nil); err != nil {
					t.Fatal(err)
				}

				c.change(f)

				got, err := f.env().Remove(t.Context(), v, plan, nil)
				if errs.ExitCode(err) != c.code || got.Status != c.status || !slices.Equal(f.acts, c.acts) {
					t.Errorf("status %s, acts %v, %v", got.Status, f.acts, err)
				}

				if c.code == errs.OK && (got.VotersAfter != 2 || got.QuorumAfter != 2 || got.LeaderAfter.ID != id(1)) {
					t.Errorf("result %+v", got)
				}
			})
		})
	}
}

func TestLeaveInterrupted(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		ctx, cancel := context.WithCancelCause(t.Context())
		f.lose, f.during = 1, func() { cancel(errs.New(errs.Interrupted, "interrupted")) }

		v := f.view(t)
		m, _ := v.MemberOn(f.sources[0].Target)

		got, err := f.env().Leave(ctx, v.PlanLeave(m), f.sources[0].Target)
		if got.Status != runbook.Done || errs.ExitCode(err) != errs.Interrupted || !slices.ContainsFunc(errs.Entries(err), func(e errs.Entry) bool {
			return e.Message == "the leave of cp-1 was carried out before the interruption"
		}) {
			t.Errorf("error %v", err)
		}
	})
}

func TestForfeit(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.lose = 1
		v := f.view(t)
		m, _ := v.MemberOn(f.sources[0].Target)

		plan, err := v.PlanForfeit(m)
		if err != nil {
			t.Fatal(err)
		}

		got, err := f.env().Forfeit(t.Context(), plan, f.sources[0].Target)
		if err != nil || got.Status != runbook.Done || got.LeaderAfter.ID != id(3) || len(f.acts) != 1 {
			t.Errorf("%+v, acts %v, %v", got, f.acts, err)
		}

		m, _ = v.MemberOn(f.sources[1].Target)

		if plan, err = v.PlanForfeit(m); err != nil || plan.Status != runbook.Unchanged {
			t.Errorf("a follower: %+v, %v", plan, err)
		}
	})
}

func TestDisarm(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.nodes[0].alarms = []talos.EtcdAlarm{{ID: id(2), Alarm: "nospace"}}
		env := f.env()

		plan := func() etcd.Disarmed {
			v := f.view(t)

			usages, err := env.Usages(t.Context(), v)
			if err != nil {
				t.Fatal(err)
			}

			return v.PlanDisarm(usages)
		}

		// A full member without the alarm would raise it next.
		f.nodes[2].status.DBSizeBytes = 9500
		if got := refused(plan().Gates); !slices.Equal(got, []gate.Code{gate.SpaceNotFreed}) {
			t.Errorf("refused by %v", got)
		}

		f.nodes[2].status.DBSizeBytes = 500
		f.lose = 1

		got, err := env.Disarm(t.Context(), plan(), f.sources[0].Target)
		if err != nil || got.Status != runbook.Done || len(got.Before) != 1 || len(got.After) != 0 || !slices.Equal(f.acts, []string{"disarm cp-1"}) {
			t.Errorf("%+v, acts %v, %v", got, f.acts, err)
		}

		if again := plan(); again.Status != runbook.Unchanged {
			t.Errorf("without alarms: %+v", again)
		}
	})
}

func TestFindMember(t *testing.T) {
	t.Parallel()

	sources, nodes := three()
	large := talos.EtcdID(0x8e9e05c52164694d)

	for _, n := range nodes {
		n.members[2].ID, n.members[2].IDDecimal = large.Hex(), large.Decimal()
	}

	nodes[2].status.ID = large.Hex()
	v := etcd.Gather(t.Context(), sources, time.Second)

	for name, want := range map[string]string{
		"cp-3": large.Hex(), "10.0.0.3": large.Hex(), "8e9e05c52164694d": large.Hex(), "0x8E9E05C52164694D": large.Hex(),
		"10276657743932975437": large.Hex(), "1": id(1), "0x2": id(2), "0000000000000002": id(2),
	} {
		if m, err := v.FindMember(name); err != nil || m.ID != want {
			t.Errorf("%s: %s, %v", name, m.ID, err)
		}
	}

	for _, name := range []string{"cp-9", "", "8e9e05c52164694e"} {
		if _, err := v.FindMember(name); errs.ExitCode(err) != errs.Usage {
			t.Errorf("%q: %v", name, err)
		}
	}
}
