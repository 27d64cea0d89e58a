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

// machine is a node that goes away for two seconds when it is told to.
type machine struct {
	probe.API

	asked   time.Time
	sent    []string
	answer  error         // Of the request.
	ignore  bool          // The request does not arrive.
	outage  time.Duration // How long the network is away from the request on.
	tried   time.Time
	stays   bool // It never comes back.
	offNow  bool // The request is one after which it stays away.
	version string
	returns bool   // It boots although it was to stay away.
	says    string // The error of a sequence, on the event stream.

	separate, arguments, wiped []string
}

func (m *machine) away() bool {
	if !m.tried.IsZero() && time.Since(m.tried) < m.outage {
		return true
	}

	return !m.asked.IsZero() && (m.stays || m.offNow && !m.returns || time.Since(m.asked) < 2*time.Second)
}

func (m *machine) rebooted() bool { return !m.asked.IsZero() && !m.away() }

func (m *machine) act(what string) error {
	m.sent = append(m.sent, what)
	m.tried = time.Now()

	if !m.ignore && !errors.Is(m.answer, errNo) {
		m.asked = time.Now()
	}

	return m.answer
}

func (m *machine) Version(context.Context) (talos.Version, error) {
	if m.away() {
		return talos.Version{}, errAway
	}

	if m.rebooted() && m.version != "" {
		return talos.Version{Tag: m.version}, nil
	}

	return talos.Version{Tag: "v1.13.9"}, nil
}

func (m *machine) Boot(context.Context) (talos.Boot, error) {
	switch {
	case m.away():
		return talos.Boot{}, errAway
	case m.rebooted():
		return talos.Boot{ID: "b", Proof: "boot_id"}, nil
	default:
		return talos.Boot{ID: "a", Proof: "boot_id"}, nil
	}
}

func (m *machine) MachineStatus(context.Context) (talos.MachineStatus, error) {
	if m.away() {
		return talos.MachineStatus{}, errAway
	}

	return talos.MachineStatus{Stage: "running", Ready: true}, nil
}

func (m *machine) Separate(context.Context) ([]string, error) { return m.separate, nil }

func (m *machine) KernelArguments(context.Context) ([]string, error) { return m.arguments, nil }

func (m *machine) System(context.Context) (talos.System, error) { return talos.System{}, nil }

func (m *machine) SequenceErrors(ctx context.Context, opened func(), fn func(string)) error {
	opened()

	if m.says != "" {
		fn(m.says)
	}

	<-ctx.Done()

	return ctx.Err()
}

func (m *machine) InstallerRuns(context.Context) (bool, error) { return false, nil }

func (m *machine) KubernetesName(context.Context) (string, error) { return "n1", nil }
func (m *machine) Reboot(context.Context, string) error           { return m.act("reboot") }
func (m *machine) Rollback(context.Context) error                 { return m.act("rollback") }
func (m *machine) Shutdown(context.Context, bool) error           { m.offNow = true; return m.act("shutdown") }

func (m *machine) Reset(_ context.Context, r talos.Reset) error {
	m.offNow, m.wiped = true, r.SystemLabels

	return m.act("reset")
}

// cluster is Kubernetes: whether the node is cordoned, and what a drain ends with.
type cluster struct {
	probe.Kube

	cordoned bool
	foreign  bool // Somebody else cordoned it.
	drain    func(context.Context) error
	deleted  bool
	silent   bool  // Kubernetes has given the kubelet up.
	away     error // Its API cannot be reached.
	stuck    error // The node cannot be deleted.
}

func (k *cluster) Nodes(context.Context) ([]kube.Node, error) {
	if k.deleted {
		return nil, k.away
	}

	return []kube.Node{{Name: "other", Ready: true, Addresses: []string{"n9"}}, {Name: "n1", Ready: !k.silent, Silent: k.silent, Addresses: []string{"n1"}}}, k.away
}

func (k *cluster) Node(context.Context, string) (kube.Node, bool, error) {
	return kube.Node{Name: "n1", Ready: true, BootID: "b"}, true, nil
}

func (k *cluster) Blockers(context.Context, string) ([]kube.Blocker, error) { return nil, nil }

func (k *cluster) Cordon(context.Context, string, string) (bool, error) {
	k.cordoned = true

	return !k.foreign, nil
}

func (k *cluster) Uncordon(ctx context.Context, _ string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}

	k.cordoned = k.foreign

	return nil
}

func (k *cluster) Drain(ctx context.Context, _ string, _ kube.DrainOptions) (int, error) {
	if k.drain != nil {
		return 0, k.drain(ctx)
	}

	return 3, nil
}

func (k *cluster) DeleteNode(context.Context, string) error {
	if k.stuck == nil {
		k.deleted = true
	}

	return k.stuck
}

// bare is a machine in maintenance mode.
type bare struct {
	probe.API

	status talos.MachineStatus
	err    error
}

func (b bare) MachineStatus(context.Context) (talos.MachineStatus, error) { return b.status, b.err }

func world(name string, m *machine, k *cluster) *probe.Node {
	return &probe.Node{
		Target: talos.Target{Address: name, Hostname: name}, Change: m, Members: fake.Members("n1", "n2", "n3", "other"), Now: time.Now, Endpoints: []string{"other"},
		Fresh: func() (probe.API, probe.Close) { return m, func() error { return nil } },
		Etcd: func(context.Context) (etcd.View, error) {
			return etcd.View{Known: true, Members: []etcd.Member{
				{ID: "1", Node: name, Healthy: !m.away()}, {ID: "2", Node: "x", Healthy: true}, {ID: "3", Node: "y", Healthy: true},
			}}, nil
		},
		Kube: func(context.Context) (probe.Kube, string, error) { return k, "test", nil },
		Bare: func() (probe.API, probe.Close) { return bare{err: errAway}, func() error { return nil } },
	}
}

func options(a node.Action) node.Options {
	return node.Options{
		Options: disruption.Options{Drain: true, DrainTimeout: time.Minute, Wait: true, RebootTimeout: time.Minute, ReadyTimeout: time.Minute, Silence: 2 * time.Second},
		Action:  a, Mode: talos.RebootDefault,
		Reset: talos.Reset{Graceful: true, SystemLabels: []string{"STATE", "EPHEMERAL"}},
	}
}

func TestRun(t *testing.T) {
	t.Parallel()

	stuck := func(context.Context) error { return errors.New("a pod stays") }

	for _, c := range []struct {
		name     string
		act      node.Action
		m        machine
		k        cluster
		want     runbook.Status
		code     errs.Code
		sent     int
		cordoned bool // Afterwards.
	}{
		{name: "reboot", act: node.Reboot, want: runbook.OK, sent: 1},
		{name: "a foreign cordon stays", act: node.Reboot, k: cluster{foreign: true, cordoned: true}, want: runbook.OK, sent: 1, cordoned: true},
		{name: "the drain fails", act: node.Reboot, k: cluster{drain: stuck}, want: runbook.DrainFailed, code: errs.Failed},
		{name: "the node refuses", act: node.Reboot, m: machine{answer: errNo}, want: runbook.Failed, code: errs.Failed, sent: 1},
		{name: "it does not come back", act: node.Reboot, m: machine{stays: true}, want: runbook.DidNotReturn, code: errs.Lost, sent: 1},
		{name: "the answer is lost and it was done", act: node.Reboot, m: machine{answer: errAway}, want: runbook.OK, sent: 1},
		{name: "the answer is lost and it was not done", act: node.Reboot, m: machine{answer: errAway, ignore: true}, want: runbook.Unknown, code: errs.Unknown, sent: 1},
		{name: "it is ignored", act: node.Reboot, m: machine{ignore: true}, want: runbook.DidNotReturn, code: errs.Lost, sent: 1},
		{name: "rollback", act: node.Rollback, m: machine{version: "v1.13.8"}, want: runbook.OK, sent: 1},
		{name: "rollback to the same", act: node.Rollback, want: runbook.VerifyFailed, code: errs.Lost, sent: 1},
		{name: "reset powers off", act: node.Reset, want: runbook.OK, sent: 1, cordoned: true},
		{name: "a node that is off stays cordoned", act: node.Shutdown, want: runbook.OK, sent: 1, cordoned: true},
		{name: "the node refuses to go off", act: node.Shutdown, m: machine{answer: errNo}, want: runbook.Failed, code: errs.Failed, sent: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m, k := c.m, c.k

				res, err := node.Run(t.Context(), world("n1", &m, &k), options(c.act), progress.Discard{})
				if res.Status != c.want || errs.ExitCode(err) != c.code {
					t.Errorf("status %s, exit %d, want %s, %d: %v", res.Status, errs.ExitCode(err), c.want, c.code, err)
				}

				if len(m.sent) != c.sent {
					t.Errorf("sent %v, want %d requests", m.sent, c.sent)
				}

				if k.cordoned != c.cordoned {
					t.Errorf("cordoned afterwards: %t, want %t", k.cordoned, c.cordoned)
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
		m        machine
		o        func(*node.Options)
		want     runbook.Status
		code     errs.Code
		cordoned bool
	}{
		{name: "reboot, done", act: node.Reboot, want: runbook.OK},
		{name: "reboot, done behind an outage", act: node.Reboot, m: machine{outage: 20 * time.Second}, want: runbook.OK},
		{name: "reboot, not done", act: node.Reboot, m: machine{ignore: true}, want: runbook.Unknown, code: errs.Unknown},
		{name: "reboot, not done, outage", act: node.Reboot, m: machine{ignore: true, outage: 5 * time.Second}, want: runbook.Unknown, code: errs.Unknown},
		{name: "reboot, gone for good", act: node.Reboot, m: machine{stays: true}, want: runbook.DidNotReturn, code: errs.Lost},
		{name: "rollback, not done", act: node.Rollback, m: machine{ignore: true, outage: 5 * time.Second}, want: runbook.Unknown, code: errs.Unknown},
		{name: "shutdown, done", act: node.Shutdown, want: runbook.OK, cordoned: true},
		{name: "shutdown, not done", act: node.Shutdown, m: machine{ignore: true}, want: runbook.Unknown, code: errs.Unknown},
		{name: "shutdown, not done, outage", act: node.Shutdown, m: machine{ignore: true, outage: 5 * time.Second}, want: runbook.Unknown, code: errs.Unknown},
		{name: "reset, not done, outage", act: node.Reset, m: machine{ignore: true, outage: 5 * time.Second}, want: runbook.Unknown, code: errs.Unknown},
		{
			name: "reset to maintenance, not done, outage", act: node.Reset, m: machine{ignore: true, outage: 5 * time.Second},
			o: func(o *node.Options) { o.Reset.Reboot = true }, want: runbook.Unknown, code: errs.Unknown,
		},
		{name: "not waited for, done", act: node.Reboot, o: func(o *node.Options) { o.Wait = false }, want: runbook.Requested},
		{
			name: "not waited for, not done, outage", act: node.Reboot, m: machine{ignore: true, outage: 5 * time.Second},
			o: func(o *node.Options) { o.Wait = false }, want: runbook.Unknown, code: errs.Unknown,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m, k, o := c.m, cluster{}, options(c.act)
				m.answer, o.RebootTimeout, m.version = errAway, 15*time.Minute, "v1.13.8"

				if c.o != nil {
					c.o(&o)
				}

				started := time.Now()

				res, err := node.Run(t.Context(), world("n1", &m, &k), o, progress.Discard{})
				if res.Status != c.want || errs.ExitCode(err) != c.code || !res.AnswerLost {
					t.Errorf("status %s, exit %d, want %s, %d: %v", res.Status, errs.ExitCode(err), c.want, c.code, err)
				}

				if took := time.Since(started); c.want != runbook.DidNotReturn && took > 45*time.Second {
					t.Errorf("took %s", took)
				}

				if len(m.sent) != 1 || k.cordoned != c.cordoned {
					t.Errorf("sent %v, cordoned %t, want %t", m.sent, k.cordoned, c.cordoned)
				}
			})
		})
	}
}

// TestRunInterrupted cancels in every phase and looks at what is left.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()

	hang := func(ctx context.Context) error {
		<-ctx.Done()

		return context.Cause(ctx)
	}

	for _, c := range []struct {
		name  string
		after time.Duration
		k     cluster
		m     machine
		sent  int
	}{
		{"in the drain", time.Second, cluster{drain: hang}, machine{}, 0},
		{"while it is away", time.Second, cluster{}, machine{}, 1},
		{"while it stays away", 20 * time.Second, cluster{}, machine{stays: true}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				m, k := c.m, c.k

				time.AfterFunc(c.after, func() { cancel(errs.New(errs.Interrupted, "interrupted")) })

				res, err := node.Run(ctx, world("n1", &m, &k), options(node.Reboot), progress.Discard{})
				if res.Status != runbook.Interrupted || errs.ExitCode(err) != errs.Interrupted || res.Hint == "" {
					t.Errorf("status %s, exit %d, hint %q: %v", res.Status, errs.ExitCode(err), res.Hint, err)
				}

				if len(m.sent) != c.sent || k.cordoned {
					t.Errorf("sent %v, cordoned %t", m.sent, k.cordoned)
				}
			})
		})
	}
}

func TestSequence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ms := []*machine{{}, {stays: true}, {}}
		worlds := make([]*probe.Node, 3)

		for i, m := range ms {
			worlds[i] = world([]string{"n1", "n2", "n3"}[i], m, &cluster{})
			worlds[i].ControlPlane = true
		}

		results, err := node.Sequence(t.Context(), worlds, options(node.Reboot), 16, progress.Discard{})

		var got []runbook.Status
		for _, r := range results {
			got = append(got, r.Status)
		}

		if want := []runbook.Status{runbook.OK, runbook.DidNotReturn, runbook.NotStarted}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}

		if errs.ExitCode(err) != errs.Partial || len(ms[2].sent) > 0 {
			t.Errorf("exit %d, third node: %v", errs.ExitCode(err), ms[2].sent)
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
				var m machine

				w := world("n1", &m, &cluster{})
				w.ControlPlane = true
				w.Etcd = func(context.Context) (etcd.View, error) { return c.view, nil }

				o := options(node.Reboot)
				o.Overrides = c.pass
				c.o(&o)

				res, err := node.Run(t.Context(), w, o, progress.Discard{})

				var typed *errs.Error
				if res.Status != c.want || len(m.sent) != c.asked {
					t.Errorf("status %s, sent %v: %v", res.Status, m.sent, err)
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

	stuck := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) } //nolint:nlreturn // short

	for _, c := range []struct {
		name     string
		k        cluster
		m        machine
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
		{name: "the node refuses the reset", m: machine{answer: errNo}, want: runbook.Failed, code: errs.Failed, left: true, sent: 1, cordoned: true},
		{
			name: "interrupted in the drain", k: cluster{drain: stuck}, after: time.Second, want: runbook.Interrupted, code: errs.Interrupted,
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

				m, k, left := c.m, c.k, false

				w := world("n1", &m, &k)
				w.ControlPlane = true

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

				if left != c.left || len(m.sent) != c.sent || k.cordoned != c.cordoned || k.deleted != c.deleted {
					t.Errorf("left %t, sent %v, cordoned %t, deleted %t", left, m.sent, k.cordoned, k.deleted)
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
		m       machine
		silence time.Duration
		want    runbook.Status
		code    errs.Code
		off     bool
		says    string
	}{
		{"off", node.Shutdown, machine{}, 10 * time.Second, runbook.OK, errs.OK, true, ""},
		{"off after a sequence that failed", node.Shutdown, machine{says: failure}, 10 * time.Second, runbook.OK, errs.OK, true, failure},
		{"a shutdown that reboots", node.Shutdown, machine{returns: true}, 10 * time.Second, runbook.VerifyFailed, errs.Lost, false, ""},
		{"a reset that reboots", node.Reset, machine{returns: true, says: failure}, 10 * time.Second, runbook.VerifyFailed, errs.Lost, false, failure},
		{"silent for less than a boot", node.Shutdown, machine{}, 10 * time.Minute, runbook.Unknown, errs.Unknown, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m, k, o := c.m, cluster{}, options(c.act)
				o.Silence, o.DeleteKubernetesNode = c.silence, c.act == node.Reset

				res, err := node.Run(t.Context(), world("n1", &m, &k), o, progress.Discard{})
				if res.Status != c.want || errs.ExitCode(err) != c.code || res.PoweredOff != c.off || res.SequenceError != c.says {
					t.Errorf("%s, exit %d, off %t, %q: %v", res.Status, errs.ExitCode(err), res.PoweredOff, res.SequenceError, err)
				}

				if k.deleted {
					t.Error("the Kubernetes node of a living node was deleted")
				}
			})
		})
	}
}
