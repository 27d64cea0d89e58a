package join

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// join is one machine on its way into the cluster.
type join struct {
	runbook.Run

	m      Candidate
	o      Options
	text   []byte
	config machineconfig.Config
	res    Result
	kube   probe.Kube // Nil where Kubernetes is not involved, or cannot be reached.

	heard   bool // The configuration's request was answered, or observed to have arrived.
	learner bool // Its etcd member does not vote yet.

	instead string // The hostname of the node that is replaced.
	uuid    string // The machine's hardware; empty where it does not tell.
}

// Add adds one machine to the cluster. The result holds everything that was observed, also on error; the error has the
// exit code and the hint.
func Add(ctx context.Context, m Candidate, text []byte, o Options) (Result, error) {
	j := newJoin(m, text, o)
	err := j.Steps(ctx, j.preflight, func(ctx context.Context) error { return j.gates(ctx, etcd.View.CheckJoin) }, j.planned, j.enter)
	err = j.Finish(ctx, err)
	j.res.Status = j.Status

	return j.res, err
}

func newJoin(m Candidate, text []byte, o Options) *join {
	j := &join{m: m, o: o, text: text}
	j.res = Result{DryRun: o.DryRun, Warnings: []string{}, Voters: []Voters{}, Record: runbook.NewRecord()}
	j.res.SetNode(m.Target)

	j.Verb, j.Target, j.Now, j.Sink, j.Rec = "add", m.Target, m.Now, m.Sink, &j.res.Record
	j.Overrides, j.Begin, j.Left = o.Overrides, o.BeforeChange, j.leftovers
	j.Start()

	return j
}

// planned ends a dry run.
func (j *join) planned(context.Context) error {
	if j.o.DryRun {
		return j.Planned()
	}

	return nil
}

func (j *join) leftovers() string {
	if !j.res.Applied {
		return "the machine was left as it was, in maintenance mode"
	}

	if !j.heard {
		return "the configuration was sent and not answered: check whether the machine leaves maintenance mode before you send it again"
	}

	if j.learner {
		return "the machine has its configuration and continues to join, its etcd member as a learner until it has caught up: " +
			"see `talosmate health --scope etcd`"
	}

	return "the machine has its configuration and continues to join: see `talosmate health`"
}

// preflight checks everything that can be known before the configuration is sent: the machine waits for
// one, Talos's validator and the machine itself take it, and it is this cluster's.
func (j *join) preflight(ctx context.Context) error {
	j.Stage("preflight", "observing the machine")

	var err error
	if j.config, err = machineconfig.Parse(j.text); err != nil {
		return err
	}

	if !j.config.Full() {
		v := gate.New(gate.NotFullConfig, gate.Refuse, j.Target.Address, "this is not a full machine configuration: the v1alpha1 document is missing").
			WithRemedy("`talosmate gen config` makes full ones")

		return j.Check(v)
	}

	switch j.res.MachineType = j.config.Type(); j.res.MachineType {
	case target.ControlPlane, target.Worker:
	default:
		return errs.Usagef("the configuration's machine.type is %q, want controlplane or worker: any other would start a cluster of its own", j.res.MachineType)
	}

	bare, closeBare := j.m.Bare()
	defer func() { _ = closeBare() }() // the connection served its questions

	version, err := bare.Version(ctx)
	if err != nil {
		return err
	}

	j.res.ServerTag = version.Tag

	warnings, err := machineconfig.Judge(j.text, version)
	j.res.Warnings = append(j.res.Warnings, warnings...)

	if err != nil {
		return err
	}

	if err = j.Check(j.gateName(ctx)...); err != nil {
		return err
	}

	status, err := bare.MachineStatus(ctx)
	if err != nil {
		return err
	}

	if status.Stage != "maintenance" {
		return errs.Usagef("%s is not in maintenance mode: %s", j.Target.Name(), status).
			WithHint("%s", errs.CommandLine("machineconfig", "apply", "-n", j.Target.Address, "-f", "FILE"))
	}

	if j.uuid, err = bare.SystemUUID(ctx); conn.Transient(err) {
		return err
	}

	return j.ask(ctx, bare)
}

// ask lets the machine check the configuration without applying it: what only the machine knows, such as a disk that
// it does not have, is found before anything is changed.
func (j *join) ask(ctx context.Context, bare probe.API) error {
	verdict, err := bare.ApplyConfig(ctx, j.text, talos.ApplyAuto, time.Minute, true)
	if conn.Transient(err) && ctx.Err() == nil { // a question may be repeated
		verdict, err = bare.ApplyConfig(ctx, j.text, talos.ApplyAuto, time.Minute, true)
	}

	if conn.KindOf(err) == errs.KindInvalid {
		return errs.Usagef("%w", err).WithHint("the machine itself does not take this configuration; nothing was changed")
	}

	j.res.Warnings = append(j.res.Warnings, verdict.Warnings...)

	return err
}

// gates checks all gates. quorum is what etcd's membership says about a new voter.
func (j *join) gates(ctx context.Context, quorum func(v etcd.View, node string) []gate.Verdict) error {
	verdicts, err := j.verdicts(ctx, quorum)
	if err != nil {
		return err
	}

	return j.Check(verdicts...)
}

func (j *join) verdicts(ctx context.Context, quorum func(v etcd.View, node string) []gate.Verdict) ([]gate.Verdict, error) {
	text, err := j.m.Reference(ctx)
	if err != nil {
		return nil, err
	}

	have, err := machineconfig.Parse(text)
	if err != nil {
		return nil, errs.New(errs.Failed, "cannot read the cluster's machine configuration: %s", err.Error())
	}

	verdicts := []gate.Verdict{machineconfig.GateCluster(j.config, have, j.Target.Address)}

	if j.res.MachineType == target.ControlPlane {
		view, err := j.m.Etcd(ctx)
		if err != nil {
			return nil, err
		}

		j.count("before", view)

		verdicts = append(verdicts, j.gateMember(view)...)
		verdicts = append(verdicts, quorum(view, j.Target.Address)...)
	}

	return append(verdicts, j.gateKubernetes(ctx)...), nil
}

// gateKubernetes connects where the machine is to be a Kubernetes node. Without Kubernetes the machine's own
// word on its node is taken.
func (j *join) gateKubernetes(ctx context.Context) []gate.Verdict {
	if j.config.Value("machine.kubelet.skipNodeRegistration", "KubeNodeConfig", "skipNodeRegistration") == "true" {
		return nil
	}

	ctx, cancel := context.WithTimeout(ctx, disruption.ConnectOnce)
	defer cancel()

	k, _, err := j.m.Kube(ctx)
	if err == nil {
		_, err = k.Nodes(ctx)
	}

	if err != nil {
		return []gate.Verdict{gate.New(gate.KubernetesAway, gate.Warn, j.Target.Address,
			"the Kubernetes API cannot be reached, so that Ready is what the machine itself says: %v", err)}
	}

	j.kube = k

	return []gate.Verdict{gate.New(gate.KubernetesAway, gate.Pass, j.Target.Address, "the Kubernetes API answers")}
}

// count notes etcd's membership. Between two steps it is noted when it changed.
func (j *join) count(step string, v etcd.View) {
	now := countOf(step, v)
	if last := len(j.res.Voters) - 1; step == "joining" && (!v.Known || last < 0 || same(j.res.Voters[last], now)) {
		return
	}

	j.res.Voters = append(j.res.Voters, now)
}

func countOf(step string, v etcd.View) Voters {
	out := Voters{Step: step, Members: []string{}}

	for _, m := range v.Members {
		name := m.Name
		if name == "" {
			name = m.ID
		}

		out.Members = append(out.Members, name)

		switch {
		case m.Learner:
			out.Learners++
		case m.Healthy:
			out.Voters++
			out.Healthy++
		default:
			out.Voters++
		}
	}

	out.Quorum = etcd.Quorum(out.Voters)

	return out
}

func same(a, b Voters) bool {
	return a.Voters == b.Voters && a.Learners == b.Learners && len(a.Members) == len(b.Members)
}

// enter sends the configuration, once, and waits until the machine has joined.
func (j *join) enter(ctx context.Context) error {
	lost, err := j.apply(ctx)
	if err != nil {
		return err
	}

	if lost != nil {
		if err = j.awaitBegun(ctx, lost); err != nil {
			return err
		}
	}

	j.heard = true

	if !j.o.Wait {
		j.Status = runbook.Requested

		return nil
	}

	if err = j.awaitConfigured(ctx, lost); err != nil {
		return err
	}

	if err = j.awaitJoined(ctx); err != nil {
		if ctx.Err() != nil {
			return err
		}

		return j.Fail(runbook.NotJoined, "the machine has its configuration and has not joined: %w", err)
	}

	j.Status = runbook.OK
	j.Stage("joined", "joined after %.1f s", j.Elapsed())

	return nil
}

// apply sends the request. lost is the error of an answer that was lost.
func (j *join) apply(ctx context.Context) (lost, err error) {
	bare, closeBare := j.m.Bare()
	defer func() { _ = closeBare() }() // its one request is answered, or will never be

	sent := runbook.Request{Limit: min(runbook.AnswerWithin, j.o.RebootTimeout), Begin: j.BeforeChange, Send: func(ctx context.Context) error {
		j.Stage("apply", "applying the configuration")

		reply, err := bare.ApplyConfig(ctx, j.text, talos.ApplyAuto, time.Minute, false)
		j.res.Warnings = append(j.res.Warnings, reply.Warnings...)

		return err
	}}.Once(ctx)

	j.res.Applied = sent.Answer == runbook.Accepted || sent.Answer == runbook.Lost

	switch {
	case ctx.Err() != nil && sent.Err != nil:
		return nil, context.Cause(ctx)
	case sent.Answer == runbook.Lost:
		j.res.AnswerLost = true
		j.Stage("wait", "the answer was lost (%v): reading the state back", sent.Err)

		return sent.Err, nil
	default:
		return nil, sent.Err
	}
}

// awaitBegun reads back whether a configuration whose answer was lost arrived: the machine leaves maintenance
// mode. It is never sent again.
func (j *join) awaitBegun(ctx context.Context, lost error) error {
	err := poll.Until(ctx, j.Target.Name()+" to leave maintenance mode", probe.Poll, runbook.ShownWithin, func(ctx context.Context) (bool, string, error) {
		ctx, cancel := context.WithTimeout(ctx, probe.Limit)
		defer cancel()

		bare, closeBare := j.m.Bare()
		defer func() { _ = closeBare() }()

		status, err := bare.MachineStatus(ctx)

		return err != nil || status.Stage != "maintenance", status.String(), nil
	})
	if err == nil || ctx.Err() != nil {
		return err
	}

	j.Rec.Hint = "whether the configuration arrived is not known; check the machine before you send it again"

	return j.Fail(runbook.Unknown, "the answer was lost and the machine is still in maintenance mode: %w", lost)
}

// awaitConfigured waits until the machine answers as one of the cluster.
func (j *join) awaitConfigured(ctx context.Context, lost error) error {
	j.Stage("wait", "waiting until the machine answers with the cluster's certificate, for at most %s", j.o.RebootTimeout)

	err := poll.Until(ctx, j.Target.Name()+" to answer with the cluster's certificate", probe.VerifyPoll, j.o.RebootTimeout,
		func(ctx context.Context) (bool, string, error) {
			done, saw, err := j.m.Prober().Ask(ctx, func(ctx context.Context, n probe.API) (string, bool, error) {
				status, err := n.MachineStatus(ctx)
				if err != nil || status.Stage == "maintenance" {
					return status.String(), false, err
				}

				if uuid, err := n.SystemUUID(ctx); err != nil || !j.sameHardware(uuid) {
					return "another machine has the address " + j.Target.Address, false, err
				}

				version, err := n.Version(ctx)
				j.res.RunningTag = version.Tag

				return "", err == nil, err
			})
			if !done && err == nil {
				j.follow(ctx)
			}

			return done, saw, err
		})

	switch {
	case err == nil:
		j.res.Configured = true
		j.Stage("wait", "it answers after %.1f s", j.Elapsed())

		return nil
	case ctx.Err() != nil:
		return err
	case lost != nil:
		// Nothing was ever seen of the configuration: it may be that the machine is out of reach with none.
		j.Rec.Hint = "whether the configuration arrived is not known; check the machine's console"

		return j.Fail(runbook.Unknown, "the answer was lost, and the machine did not answer again: %w", err)
	default:
		j.Rec.Hint = "check the machine's console: the installation may have failed, or it boots another medium"

		return j.Fail(runbook.NotJoined, "%w", err)
	}
}

// awaitJoined waits for what makes a machine one of the cluster.
func (j *join) awaitJoined(ctx context.Context) error {
	if j.res.MachineType == target.ControlPlane {
		if err := j.awaitVoter(ctx); err != nil {
			return err
		}
	}

	j.Stage("wait", "waiting until it is settled, for at most %s", j.o.ReadyTimeout)

	if err := j.m.Prober().AwaitSettled(ctx, j.o.ReadyTimeout); err != nil {
		return err
	}

	j.res.Settled = true

	return j.awaitKubernetes(ctx)
}

func (j *join) awaitVoter(ctx context.Context) error {
	j.Stage("etcd", "waiting until its etcd member votes, for at most %s", max(j.o.ReadyTimeout, probe.EtcdMinimum))

	var last etcd.View

	err := probe.AwaitEtcd(ctx, j.Target, func(ctx context.Context) (etcd.View, error) {
		view, err := j.m.Etcd(ctx)
		if err == nil {
			last = view
			j.count("joining", view)
			j.learns(view)
		}

		return view, err
	}, j.o.ReadyTimeout)
	if err != nil {
		return err
	}

	m, _ := last.MemberOn(j.Target)
	j.res.MemberID = m.ID
	j.count("joined", last)

	now := j.res.Voters[len(j.res.Voters)-1]
	j.Stage("etcd", "member %s votes: %d voters, %d of them healthy, %d must agree", m.ID, now.Voters, now.Healthy, now.Quorum)

	return nil
}

// learns notes whether the machine's etcd member is a learner.
func (j *join) learns(v etcd.View) {
	m, ok := v.MemberOn(j.Target)
	if ok && m.Learner && !j.learner {
		j.Stage("etcd", "member %s is a learner until it has caught up", m.ID)
	}

	j.learner = ok && m.Learner
}

func (j *join) awaitKubernetes(ctx context.Context) error {
	if j.kube == nil {
		return nil
	}

	err := poll.Until(ctx, "the Kubernetes name of "+j.Target.Name(), probe.VerifyPoll, j.o.ReadyTimeout, func(ctx context.Context) (bool, string, error) {
		return j.m.Prober().Ask(ctx, func(ctx context.Context, n probe.API) (string, bool, error) {
			var err error
			j.res.K8sNodeName, err = n.KubernetesName(ctx)

			return "the machine has none", j.res.K8sNodeName != "", err
		})
	})
	if err != nil {
		return err
	}

	j.Stage("kubernetes", "waiting until the Kubernetes node %s is Ready, for at most %s", j.res.K8sNodeName, j.o.ReadyTimeout)

	if err = probe.AwaitKubernetes(ctx, j.kube, j.res.K8sNodeName, talos.Boot{}, j.o.ReadyTimeout); err != nil {
		return err
	}

	j.res.K8sReady = true

	return nil
}
