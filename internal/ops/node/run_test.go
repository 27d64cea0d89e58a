package node_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

var (
	errAway = &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Err: errors.New("connection refused")}
	errNo   = &errs.Error{Exit: errs.Failed, Kind: errs.KindPrecondition, Err: errors.New("no")}
)

// newWorld is a node with its cluster.
func newWorld(name string) (*probe.Node, *fake.Machine, *fake.Kubernetes) {
	m, k := fake.NewMachine("v1.13.9"), fake.NewKubernetes(name, "other")
	m.Name, m.Kube, k.DrainTakes = name, k, 0
	k.Members[name].Addresses, k.Members["other"].Addresses = []string{name}, []string{"n9"}

	return &probe.Node{
		Target: talos.Target{Address: name, Hostname: name}, Change: m, Members: fake.Members("n1", "n2", "n3", "other"), Now: time.Now, Endpoints: []string{"other"},
		Fresh: func() (probe.API, probe.Close) { return m, func() error { return nil } },
		Etcd: func(context.Context) (etcd.View, error) {
			return etcd.View{Known: true, Members: []etcd.Member{
				{ID: "1", Node: name, Healthy: m.Up()}, {ID: "2", Node: "x", Healthy: true}, {ID: "3", Node: "y", Healthy: true},
			}}, nil
		},
		Kube: func(context.Context) (probe.Kube, string, error) { return k, "test", nil },
		Bare: func() (probe.API, probe.Close) { return fake.Maintenance{Machine: m}, func() error { return nil } },
	}, m, k
}

// script sets up a machine and its cluster.
type script func(*fake.Machine, *fake.Kubernetes)

// scripts plays several.
func scripts(all ...script) script {
	return func(m *fake.Machine, k *fake.Kubernetes) {
		for _, s := range all {
			s(m, k)
		}
	}
}

func fails(call string, err error) script {
	return func(m *fake.Machine, _ *fake.Kubernetes) { m.Fail[call] = err }
}

func loses(call string) script {
	return func(m *fake.Machine, _ *fake.Kubernetes) { m.LoseReply[call] = errAway }
}

func ignores(m *fake.Machine, _ *fake.Kubernetes) { m.Ignore = true }
func stays(m *fake.Machine, _ *fake.Kubernetes)   { m.Never = true }

func foreignCordon(_ *fake.Machine, k *fake.Kubernetes) { k.Members["n1"].Unschedulable = true }

func stuckDrain(_ *fake.Machine, k *fake.Kubernetes) { k.Fail["drain"] = errors.New("a pod stays") }
func longDrain(_ *fake.Machine, k *fake.Kubernetes)  { k.DrainTakes = time.Hour }

func options(a node.Action) node.Options {
	return node.Options{
		Options: disruption.Options{Drain: true, DrainTimeout: time.Minute, Wait: true, RebootTimeout: time.Minute, ReadyTimeout: time.Minute, Silence: 2 * time.Second},
		Action:  a, Mode: talos.RebootDefault,
		Reset: talos.Reset{Graceful: true, SystemLabels: []string{"STATE", "EPHEMERAL"}},
	}
}

func TestRun(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name     string
		act      node.Action
		script   script
		want     runbook.Status
		code     errs.Code
		sent     int
		cordoned bool // Afterwards.
	}{
		{name: "reboot", act: node.Reboot, want: runbook.OK, sent: 1},
		{name: "a foreign cordon stays", act: node.Reboot, script: foreignCordon, want: runbook.OK, sent: 1, cordoned: true},
		{name: "the drain fails", act: node.Reboot, script: stuckDrain, want: runbook.DrainFailed, code: errs.Failed},
		{name: "the node refuses", act: node.Reboot, script: fails("reboot", errNo), want: runbook.Failed, code: errs.Failed, sent: 1},
		{name: "it does not come back", act: node.Reboot, script: stays, want: runbook.DidNotReturn, code: errs.Lost, sent: 1},
		{name: "the answer is lost and it was done", act: node.Reboot, script: loses("reboot"), want: runbook.OK, sent: 1},
		{name: "the answer is lost and it was not done", act: node.Reboot, script: fails("reboot", errAway), want: runbook.Unknown, code: errs.Unknown, sent: 1},
		{name: "it is ignored", act: node.Reboot, script: ignores, want: runbook.DidNotReturn, code: errs.Lost, sent: 1},
		{name: "rollback", act: node.Rollback, want: runbook.OK, sent: 1},
		{
			name: "rollback to the same", act: node.Rollback, script: func(m *fake.Machine, _ *fake.Kubernetes) { m.Previous = "v1.13.9" },
			want: runbook.VerifyFailed, code: errs.Lost, sent: 1,
		},
		{name: "reset powers off", act: node.Reset, want: runbook.OK, sent: 1, cordoned: true},
		{name: "a node that is off stays cordoned", act: node.Shutdown, want: runbook.OK, sent: 1, cordoned: true},
		{name: "the node refuses to go off", act: node.Shutdown, script: fails("shutdown", errNo), want: runbook.Failed, code: errs.Failed, sent: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, m, k := newWorld("n1")
				if c.script != nil {
					c.script(m, k)
				}

				res, err := node.Run(t.Context(), n, options(c.act), progress.Discard{})
				if res.Status != c.want || errs.ExitCode(err) != c.code {
					t.Errorf("status %s, exit %d, want %s, %d: %v", res.Status, errs.ExitCode(err), c.want, c.code, err)
				}

				if len(m.Calls) != c.sent {
					t.Errorf("sent %v, want %d requests", m.Calls, c.sent)
				}

				if k.Cordoned("n1") != c.cordoned {
					t.Errorf("cordoned afterwards: %t, want %t", k.Cordoned("n1"), c.cordoned)
				}
			})
		})
	}
}

// TestRunAnswerLost loses the answer: what was carried out is seen to the end, and what was not is found out
// long before the deadline, also when the network was away for a moment. Nothing is sent twice.
func TestRunAnswerLost(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name     string
		act      node.Action
		not      bool // It was not carried out.
		stays    bool
		outage   time.Duration
		o        func(*node.Options)
		want     runbook.Status
		code     errs.Code
		cordoned bool
	}{
		{name: "reboot, done", act: node.Reboot, want: runbook.OK},
		{name: "reboot, done behind an outage", act: node.Reboot, outage: 20 * time.Second, want: runbook.OK},
		{name: "reboot, not done", act: node.Reboot, not: true, want: runbook.Unknown, code: errs.Unknown},
		{name: "reboot, not done, outage", act: node.Reboot, not: true, outage: 5 * time.Second, want: runbook.Unknown, code: errs.Unknown},
		{name: "reboot, gone for good", act: node.Reboot, stays: true, want: runbook.DidNotReturn, code: errs.Lost},
		{name: "rollback, not done", act: node.Rollback, not: true, outage: 5 * time.Second, want: runbook.Unknown, code: errs.Unknown},
		{name: "shutdown, done", act: node.Shutdown, want: runbook.OK, cordoned: true},
		{name: "shutdown, not done", act: node.Shutdown, not: true, want: runbook.Unknown, code: errs.Unknown},
		{name: "shutdown, not done, outage", act: node.Shutdown, not: true, outage: 5 * time.Second, want: runbook.Unknown, code: errs.Unknown},
		{name: "reset, not done, outage", act: node.Reset, not: true, outage: 5 * time.Second, want: runbook.Unknown, code: errs.Unknown},
		{
			name: "reset to maintenance, not done, outage", act: node.Reset, not: true, outage: 5 * time.Second,
			o: func(o *node.Options) { o.Reset.Reboot = true }, want: runbook.Unknown, code: errs.Unknown,
		},
		{name: "not waited for, done", act: node.Reboot, o: func(o *node.Options) { o.Wait = false }, want: runbook.Requested},
		{
			name: "not waited for, not done, outage", act: node.Reboot, not: true, outage: 5 * time.Second,
			o: func(o *node.Options) { o.Wait = false }, want: runbook.Unknown, code: errs.Unknown,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, m, k := newWorld("n1")
				m.Never, m.Outage = c.stays, c.outage

				if c.not {
					m.Fail[string(c.act)] = errAway
				} else {
					m.LoseReply[string(c.act)] = errAway
				}

				o := options(c.act)
				o.RebootTimeout = 15 * time.Minute

				if c.o != nil {
					c.o(&o)
				}

				started := time.Now()

				res, err := node.Run(t.Context(), n, o, progress.Discard{})
				if res.Status != c.want || errs.ExitCode(err) != c.code || !res.AnswerLost {
					t.Errorf("status %s, exit %d, want %s, %d: %v", res.Status, errs.ExitCode(err), c.want, c.code, err)
				}

				if took := time.Since(started); c.want != runbook.DidNotReturn && took > 45*time.Second {
					t.Errorf("took %s", took)
				}

				if len(m.Calls) != 1 || k.Cordoned("n1") != c.cordoned {
					t.Errorf("sent %v, cordoned %t, want %t", m.Calls, k.Cordoned("n1"), c.cordoned)
				}
			})
		})
	}
}

// TestRunInterrupted cancels in every phase and looks at what is left.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name   string
		after  time.Duration
		script script
		sent   int
	}{
		{"in the drain", time.Second, longDrain, 0},
		{"while it is away", time.Second, nil, 1},
		{"while it stays away", 20 * time.Second, stays, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())

				n, m, k := newWorld("n1")
				if c.script != nil {
					c.script(m, k)
				}

				time.AfterFunc(c.after, func() { cancel(errs.New(errs.Interrupted, "interrupted")) })

				res, err := node.Run(ctx, n, options(node.Reboot), progress.Discard{})
				if res.Status != runbook.Interrupted || errs.ExitCode(err) != errs.Interrupted || res.Hint == "" {
					t.Errorf("status %s, exit %d, hint %q: %v", res.Status, errs.ExitCode(err), res.Hint, err)
				}

				if len(m.Calls) != c.sent || k.Cordoned("n1") {
					t.Errorf("sent %v, cordoned %t", m.Calls, k.Cordoned("n1"))
				}
			})
		})
	}
}

func TestSequence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ms := make([]*fake.Machine, 3)
		worlds := make([]*probe.Node, 3)

		for i, name := range []string{"n1", "n2", "n3"} {
			worlds[i], ms[i], _ = newWorld(name)
			worlds[i].ControlPlane = true
		}

		ms[1].Never = true

		results, err := node.Sequence(t.Context(), worlds, options(node.Reboot), 16, progress.Discard{})

		var got []runbook.Status
		for _, r := range results {
			got = append(got, r.Status)
		}

		if want := []runbook.Status{runbook.OK, runbook.DidNotReturn, runbook.NotStarted}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}

		if errs.ExitCode(err) != errs.Partial || len(ms[2].Calls) > 0 {
			t.Errorf("exit %d, third node: %v", errs.ExitCode(err), ms[2].Calls)
		}
	})
}

func TestGates(t *testing.T) {
	t.Parallel()

	sick := etcd.View{Known: true, Members: []etcd.Member{{ID: "1", Node: "n1", Healthy: true}, {ID: "2", Node: "x", Healthy: true}, {ID: "3", Node: "y"}}}
	alone := etcd.View{Known: true, Members: []etcd.Member{{ID: "1", Node: "n1", Healthy: true}}}

	for _, c := range []struct {
		name  string
		view  etcd.View
		o     func(*node.Options)
		gate  gate.Code
		pass  []string
		want  runbook.Status
		asked int
	}{
		{"quorum", sick, func(*node.Options) {}, gate.EtcdQuorum, nil, runbook.Refused, 0},
		{"quorum overridden", sick, func(*node.Options) {}, "", []string{"TM120", "TM121"}, runbook.OK, 1},
		{"the last voter leaves", alone, func(o *node.Options) { o.Action = node.Reset }, gate.LastVoter, []string{"TM120"}, runbook.Refused, 0},
		{"the last voter is wiped", alone, func(o *node.Options) { o.Action, o.Reset.Graceful = node.Reset, false }, gate.LastVoter, nil, runbook.Refused, 0},
		{"the whole disk", etcd.View{}, func(o *node.Options) { o.Action, o.Reset.WholeDisk = node.Reset, true }, gate.FullWipe, nil, runbook.Refused, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, m, _ := newWorld("n1")
				w.ControlPlane = true
				w.Etcd = func(context.Context) (etcd.View, error) { return c.view, nil }

				o := options(node.Reboot)
				o.Overrides = c.pass
				c.o(&o)

				res, err := node.Run(t.Context(), w, o, progress.Discard{})

				var typed *errs.Error
				if res.Status != c.want || len(m.Calls) != c.asked {
					t.Errorf("status %s, sent %v: %v", res.Status, m.Calls, err)
				}

				if c.gate != "" && (!errors.As(err, &typed) || typed.Gate != string(c.gate)) {
					t.Errorf("refused with %v, want %s", err, c.gate)
				}
			})
		})
	}
}

// TestRemove takes a control plane out, and breaks it off in every phase.
func TestRemove(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name     string
		script   script
		leave    error
		hang     bool // The leave does not come to an end.
		none     bool // The node has no member any more.
		after    time.Duration
		want     runbook.Status
		code     errs.Code
		left     bool
		sent     int
		cordoned bool
		deleted  bool
		hint     string
	}{
		{name: "control plane", want: runbook.OK, left: true, sent: 1, cordoned: true, deleted: true},
		{name: "a second run", none: true, want: runbook.OK, sent: 1, cordoned: true, deleted: true},
		{name: "etcd refuses", leave: errNo, want: runbook.Failed, code: errs.Failed},
		{name: "the leave cannot be read back", leave: &errs.Error{Exit: errs.Unknown, Err: errAway}, want: runbook.Unknown, code: errs.Unknown},
		{name: "the node refuses the reset", script: fails("reset", errNo), want: runbook.Failed, code: errs.Failed, left: true, sent: 1, cordoned: true},
		{
			name: "interrupted in the drain", script: longDrain, after: time.Second, want: runbook.Interrupted, code: errs.Interrupted,
			hint: "left as it was",
		},
		{name: "interrupted in the leave", hang: true, after: time.Second, want: runbook.Interrupted, code: errs.Interrupted, hint: "run `talosmate node remove` again"},
		{
			name: "interrupted while it goes off", after: 500 * time.Millisecond, want: runbook.Interrupted, code: errs.Interrupted, left: true, sent: 1,
			cordoned: true, hint: "kubectl delete node n1",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)

				if c.after > 0 {
					time.AfterFunc(c.after, func() { cancel(errs.New(errs.Interrupted, "interrupted")) })
				}

				left := false

				w, m, k := newWorld("n1")
				w.ControlPlane = true

				if c.script != nil {
					c.script(m, k)
				}

				if c.none {
					w.Etcd = func(context.Context) (etcd.View, error) {
						return etcd.View{Known: true, Members: []etcd.Member{{ID: "2", Node: "x", Healthy: true}}}, nil
					}
				}

				w.Leave = func(ctx context.Context, v etcd.View, member etcd.Member, begin func(), _ progress.Sink) (etcd.MembershipChange, error) {
					begin()

					if c.hang {
						<-ctx.Done()

						return v.PlanLeave(member), context.Cause(ctx)
					}

					left = c.leave == nil

					return v.PlanLeave(member), c.leave
				}

				o := options(node.Remove)
				o.DeleteKubernetesNode = true

				res, err := node.Run(ctx, w, o, progress.Discard{})
				if res.Status != c.want || errs.ExitCode(err) != c.code || !strings.Contains(res.Hint, c.hint) {
					t.Errorf("status %s, exit %d, want %s, %d, hint %q: %v", res.Status, errs.ExitCode(err), c.want, c.code, res.Hint, err)
				}

				cordoned := slices.Contains(k.Calls, "cordon") && !slices.Contains(k.Calls, "uncordon")
				if left != c.left || len(m.Calls) != c.sent || cordoned != c.cordoned || k.Has("n1") == c.deleted {
					t.Errorf("left %t, sent %v, cordoned %t, deleted %t", left, m.Calls, cordoned, !k.Has("n1"))
				}
			})
		})
	}
}

// TestSilenceProvesNothing has nodes whose sequence fails in Talos: they come back with all their data.
func TestSilenceProvesNothing(t *testing.T) {
	t.Parallel()

	const failure = "sequence failed: error running phase 3 in reset sequence: etcdserver: unhealthy cluster"

	for _, c := range []struct {
		name    string
		act     node.Action
		returns bool   // It boots although it was to stay off.
		failure string // Of its sequence.
		silence time.Duration
		want    runbook.Status
		code    errs.Code
		off     bool
		says    string
	}{
		{"off", node.Shutdown, false, "", 10 * time.Second, runbook.OK, errs.OK, true, ""},
		{"off after a sequence that failed", node.Shutdown, false, failure, 10 * time.Second, runbook.OK, errs.OK, true, failure},
		{"a shutdown that reboots", node.Shutdown, true, "", 10 * time.Second, runbook.VerifyFailed, errs.Lost, false, ""},
		{"a reset that reboots", node.Reset, true, failure, 10 * time.Second, runbook.VerifyFailed, errs.Lost, false, failure},
		{"silent for less than a boot", node.Shutdown, false, "", 10 * time.Minute, runbook.Unknown, errs.Unknown, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, m, k := newWorld("n1")
				m.PowersOn, m.Sequence = c.returns, c.failure

				o := options(c.act)
				o.Silence, o.DeleteKubernetesNode = c.silence, c.act == node.Reset

				res, err := node.Run(t.Context(), n, o, progress.Discard{})
				if res.Status != c.want || errs.ExitCode(err) != c.code || res.PoweredOff != c.off || res.SequenceError != c.says {
					t.Errorf("%s, exit %d, off %t, %q: %v", res.Status, errs.ExitCode(err), res.PoweredOff, res.SequenceError, err)
				}

				if !k.Has("n1") {
					t.Error("the Kubernetes node of a living node was deleted")
				}
			})
		})
	}
}

// panickingDrain is a cluster whose drain has a bug.
type panickingDrain struct{ *fake.Kubernetes }

func (panickingDrain) Drain(context.Context, string, kube.DrainOptions) (int, error) { panic("a bug") }

// A panic leaves no cordon behind.
func TestRunThatPanics(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		n, m, k := newWorld("n1")
		n.Kube = func(context.Context) (probe.Kube, string, error) { return panickingDrain{k}, "test", nil }

		res, err := node.Run(t.Context(), n, options(node.Reboot), progress.Discard{})
		if res.Status != runbook.Unknown || errs.ExitCode(err) != errs.Unknown || !res.Cordoned || !res.Uncordoned {
			t.Errorf("%s, cordoned %t, uncordoned %t: %v", res.Status, res.Cordoned, res.Uncordoned, err)
		}

		if k.Cordoned("n1") || m.Count("reboot") != 0 {
			t.Errorf("the node is cordoned: %t, %d reboots", k.Cordoned("n1"), m.Count("reboot"))
		}
	})
}
