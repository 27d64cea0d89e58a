package join_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/generate"
	machinetype "github.com/siderolabs/talos/pkg/machinery/config/machine"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/join"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

var (
	errAway = &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Err: errors.New("connection refused")}
	errNo   = &errs.Error{Exit: errs.Failed, Kind: errs.KindInvalid, Err: errors.New("no such disk")}
)

// configs generates a cluster's configurations, and one of another cluster.
func configs(t *testing.T) (controlPlane, worker, foreign string) {
	t.Helper()

	one := func(kind machinetype.Type, input *generate.Input) string {
		cfg, err := input.Config(kind)
		if err != nil {
			t.Fatal(err)
		}

		text, err := cfg.Bytes()
		if err != nil {
			t.Fatal(err)
		}

		return strings.ReplaceAll(string(text), "    kubelet:\n", "    kubelet:\n        skipNodeRegistration: true\n")
	}

	input, err := generate.NewInput("c", "https://10.0.0.1:6443", "1.35.4", generate.WithInstallDisk("/dev/sda"), generate.WithVersionContract(config.TalosVersion1_13))
	if err != nil {
		t.Fatal(err)
	}

	worker = one(machinetype.TypeWorker, input)
	id := regexp.MustCompile("(?m)^    id: .*$")

	return one(machinetype.TypeControlPlane, input), worker, id.ReplaceAllString(worker, "    id: c29tZWJvZHkgZWxzZQ==")
}

const takes = 5 * time.Second // an installation with its boot

// machine is one in maintenance mode.
func machine() *fake.Machine {
	m := fake.NewMachine("v1.13.9")
	m.Bare, m.BootTakes, m.Name = true, takes, ""

	return m
}

// script sets up a machine.
type script func(*fake.Machine)

func stays(m *fake.Machine)        { m.Never = true }
func sick(m *fake.Machine)         { m.Stage.Ready = false }
func losesAnswer(m *fake.Machine)  { m.LoseReply["apply"] = errAway }
func losesRequest(m *fake.Machine) { m.Fail["apply"] = errAway }
func rejects(m *fake.Machine)      { m.Fail["dry run"] = errNo }

// cluster is etcd: two healthy members, a third, and the machine once it is up, first as a learner.
type cluster struct {
	third   etcd.Member
	removed bool
	m       *fake.Machine
}

func (c *cluster) look(context.Context) (etcd.View, error) {
	v := etcd.View{Known: true, Members: []etcd.Member{{ID: "1", Name: "cp-1", Node: "1.1.1.1", Healthy: true}, {ID: "2", Name: "cp-2", Node: "2.2.2.2", Healthy: true}}}
	if c.third.ID != "" && !c.removed {
		v.Members = append(v.Members, c.third)
	}

	if c.m.Up() {
		v.Members = append(v.Members, etcd.Member{ID: "9", Name: "new", Node: "9.9.9.9", Healthy: true, Learner: time.Since(c.m.DownUntil) < 3*time.Second})
	}

	return v, nil
}

func candidate(c *cluster, reference string) join.Candidate {
	done := func() error { return nil }

	return join.Candidate{
		Node: &probe.Node{
			Target: talos.Target{Address: "9.9.9.9"}, Now: time.Now, Change: c.m, Etcd: c.look,
			Bare:  func() (probe.API, probe.Close) { return fake.Maintenance{Machine: c.m}, done },
			Fresh: func() (probe.API, probe.Close) { return c.m, done },
			Kube:  func(context.Context) (probe.Kube, string, error) { return nil, "", errAway },
		},
		Alive:     func(context.Context, talos.Target) bool { return false },
		Relist:    func(context.Context) ([]talos.Member, error) { return nil, nil },
		Reference: func(context.Context) ([]byte, error) { return []byte(reference), nil },
		Sink:      progress.Discard{},
	}
}

func options() join.Options {
	return join.Options{Wait: true, RebootTimeout: time.Minute, ReadyTimeout: time.Minute, BeforeChange: func() {}}
}

func TestAdd(t *testing.T) {
	t.Parallel()

	controlPlane, worker, foreign := configs(t)

	for _, c := range []struct {
		name   string
		text   string
		script script
		third  etcd.Member
		o      func(*join.Options)
		want   runbook.Status
		code   errs.Code
		sent   int
	}{
		{name: "worker", text: worker, want: runbook.OK, sent: 1},
		{name: "control plane", text: controlPlane, third: etcd.Member{ID: "3", Healthy: true}, want: runbook.OK, sent: 1},
		{name: "not waited for", text: worker, o: func(o *join.Options) { o.Wait = false }, want: runbook.Requested, sent: 1},
		{name: "dry run", text: worker, o: func(o *join.Options) { o.DryRun = true }, want: runbook.Planned},
		{name: "another cluster's", text: foreign, want: runbook.Refused, code: errs.Refused},
		{name: "a fragment", text: "apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: x\n", want: runbook.Refused, code: errs.Refused},
		{name: "not valid", text: strings.ReplaceAll(worker, "type: worker", "type: controlplane"), want: runbook.Failed, code: errs.Usage},
		{name: "the machine does not take it", text: worker, script: rejects, want: runbook.Failed, code: errs.Usage},
		{name: "a dead member", text: controlPlane, third: etcd.Member{ID: "3"}, want: runbook.Refused, code: errs.Refused},
		{
			name: "a dead member, overridden", text: controlPlane, third: etcd.Member{ID: "3"},
			o: func(o *join.Options) { o.Overrides = []string{"TM121"} }, want: runbook.OK, sent: 1,
		},
		{name: "the answer is lost and it arrived", text: worker, script: losesAnswer, want: runbook.OK, sent: 1},
		{name: "the answer is lost and it did not arrive", text: worker, script: losesRequest, want: runbook.Unknown, code: errs.Unknown, sent: 1},
		{name: "the answer is lost and the machine too", text: worker, script: func(m *fake.Machine) { losesAnswer(m); stays(m) }, want: runbook.Unknown, code: errs.Unknown, sent: 1},
		{name: "it does not come back", text: worker, script: stays, want: runbook.NotJoined, code: errs.Lost, sent: 1},
		{name: "it is not well", text: worker, script: sick, want: runbook.NotJoined, code: errs.Lost, sent: 1},
		{name: "it refuses", text: worker, script: func(m *fake.Machine) { m.Fail["apply"] = errNo }, want: runbook.Failed, code: errs.Failed, sent: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := machine()
				if c.script != nil {
					c.script(m)
				}

				o := options()

				if c.o != nil {
					c.o(&o)
				}

				res, err := join.Add(t.Context(), candidate(&cluster{third: c.third, m: m}, controlPlane), []byte(c.text), o)
				if res.Status != c.want || errs.ExitCode(err) != c.code {
					t.Errorf("status %s, exit %d, want %s, %d: %v", res.Status, errs.ExitCode(err), c.want, c.code, err)
				}

				if m.Count("apply") != c.sent {
					t.Errorf("%d requests, want %d", m.Count("apply"), c.sent)
				}
			})
		})
	}
}

// TestAddCounts follows the voters: a learner does not vote.
func TestAddCounts(t *testing.T) {
	t.Parallel()

	controlPlane, _, _ := configs(t)

	synctest.Test(t, func(t *testing.T) {
		res, err := join.Add(t.Context(), candidate(&cluster{third: etcd.Member{ID: "3", Healthy: true}, m: machine()}, controlPlane), []byte(controlPlane), options())
		if err != nil {
			t.Fatal(err)
		}

		if got, want := steps(res.Voters), []string{"before 3+0", "joining 3+1", "joining 4+0", "joined 4+0"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func steps(all []join.Voters) []string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = fmt.Sprintf("%s %d+%d", v.Step, v.Voters, v.Learners)
	}

	return out
}

// TestInterrupted cancels in every phase and looks at what is left.
func TestInterrupted(t *testing.T) {
	t.Parallel()

	controlPlane, _, _ := configs(t)

	for _, c := range []struct {
		name   string
		after  time.Duration
		script script
		sent   int
		hint   string
	}{
		{"before", 0, nil, 0, "left as it was"},
		{"while it installs", 2 * time.Second, nil, 1, "continues to join"},
		{"while it is a learner", 6 * time.Second, nil, 1, "as a learner until it has caught up"},
		{"while it is not well", 30 * time.Second, sick, 1, "continues to join"},
		{"while a lost answer is read back", 2 * time.Second, losesRequest, 1, "was sent and not answered"},
		{"while Kubernetes does not know it", 30 * time.Second, func(m *fake.Machine) { m.Name = "new" }, 1, "continues to join"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				m := machine()
				if c.script != nil {
					c.script(m)
				}

				stop := func() { cancel(errs.New(errs.Interrupted, "interrupted")) }

				if c.after == 0 {
					stop()
				} else {
					time.AfterFunc(c.after, stop)
				}

				text, w := controlPlane, candidate(&cluster{m: m}, controlPlane)
				if m.Name != "" {
					text = strings.ReplaceAll(text, "        skipNodeRegistration: true\n", "")
					w.Kube = func(context.Context) (probe.Kube, string, error) { return fake.NewKubernetes(), "test", nil }
				}

				res, err := join.Add(ctx, w, []byte(text), options())
				if res.Status != runbook.Interrupted || errs.ExitCode(err) != errs.Interrupted || !strings.Contains(res.Hint, c.hint) {
					t.Errorf("status %s, exit %d, hint %q: %v", res.Status, errs.ExitCode(err), res.Hint, err)
				}

				if m.Count("apply") != c.sent {
					t.Errorf("%d requests, want %d", m.Count("apply"), c.sent)
				}
			})
		})
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()

	controlPlane, worker, _ := configs(t)
	dead := etcd.Member{ID: "3", Name: "cp-3", Node: "3.3.3.3"}

	for _, c := range []struct {
		name    string
		text    string
		script  script
		third   etcd.Member
		answers bool  // The old one's Talos API.
		removal error // Of the member.
		stop    bool  // Interrupted once the old one is out.
		doubt   bool  // Interrupted while nobody can say whether it is.
		pass    []string
		want    runbook.Status
		code    errs.Code
		removed bool
		sent    int
		voters  []string
		hint    string
	}{
		{
			name: "a dead one", text: controlPlane, third: dead, want: runbook.OK, removed: true, sent: 1,
			voters: []string{"before 3+0", "removed 2+0", "joining 2+1", "joining 3+0", "joined 3+0"},
		},
		{name: "a healthy one", text: controlPlane, third: etcd.Member{ID: "3", Healthy: true}, want: runbook.Refused, code: errs.Refused},
		{
			name: "a healthy one, overridden", text: controlPlane, third: etcd.Member{ID: "3", Healthy: true}, answers: true,
			pass: []string{"TM122"}, want: runbook.OK, removed: true, sent: 1,
		},
		{name: "by a worker", text: worker, third: dead, want: runbook.Failed, code: errs.Usage},
		{name: "the new one does not take it", text: controlPlane, third: dead, script: rejects, want: runbook.Failed, code: errs.Usage},
		{name: "the removal fails", text: controlPlane, third: dead, removal: errNo, want: runbook.Failed, code: errs.Failed},
		{
			name: "the new one does not come", text: controlPlane, third: dead, script: stays,
			want: runbook.NotReplaced, code: errs.Lost, removed: true, sent: 1, hint: "cp-3 is out of etcd",
		},
		{
			name: "interrupted between the two", text: controlPlane, third: dead, stop: true,
			want: runbook.Interrupted, code: errs.Interrupted, removed: true, hint: "continue with `talosmate node add -n 9.9.9.9`",
		},
		{
			name: "interrupted while the removal is in doubt", text: controlPlane, third: dead, doubt: true,
			want: runbook.Interrupted, code: errs.Interrupted, hint: "whether it was done is not known",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)

				m := machine()
				if c.script != nil {
					c.script(m)
				}
				k := &cluster{third: c.third, m: m}
				w := candidate(k, controlPlane)
				w.Alive = func(context.Context, talos.Target) bool { return c.answers }

				view, _ := k.look(ctx)
				remove := func(plan etcd.MembershipChange) (etcd.MembershipChange, error) {
					if c.removal != nil {
						plan.Status = runbook.Failed

						return plan, c.removal
					}

					if c.doubt {
						cancel(errs.New(errs.Interrupted, "interrupted"))

						plan.Status = runbook.Unknown

						return plan, errs.New(errs.Unknown, "it could not be read back")
					}

					if c.stop {
						cancel(errs.New(errs.Interrupted, "interrupted"))
					}

					k.removed, plan.Status = true, runbook.Done

					return plan, nil
				}
				old := join.Old{
					Target: talos.Target{Address: "3.3.3.3", Hostname: "cp-3"}, Member: c.third, View: view,
					RemoveMember: func(_ context.Context, _ etcd.View, plan etcd.MembershipChange, _ func()) (etcd.MembershipChange, error) {
						return remove(plan)
					},
					Remove: func(context.Context, node.Options) (node.Result, error) {
						change, err := remove(view.PlanLeave(c.third))

						return node.Result{Status: runbook.OK, Etcd: &change}, err
					},
				}

				o := options()
				o.Overrides = c.pass

				x, err := join.Plan(ctx, w, old, []byte(c.text), o)
				if err == nil {
					_, err = x.Run(ctx)
				}

				res := x.Result()
				if res.Status != c.want || errs.ExitCode(err) != c.code || !strings.Contains(res.Hint, c.hint) {
					t.Errorf("status %s, exit %d, want %s, %d, hint %q: %v", res.Status, errs.ExitCode(err), c.want, c.code, res.Hint, err)
				}

				if k.removed != c.removed || m.Count("apply") != c.sent {
					t.Errorf("removed %t, %d requests, want %t, %d", k.removed, m.Count("apply"), c.removed, c.sent)
				}

				if c.voters != nil && !slices.Equal(steps(res.Voters), c.voters) {
					t.Errorf("got %v, want %v", steps(res.Voters), c.voters)
				}

				if c.answers && (res.Removal == nil || !res.OldAnswers) {
					t.Errorf("the old one was not removed by itself")
				}
			})
		})
	}
}
