package join

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

const (
	// kubeLimit bounds the first look at Kubernetes.
	kubeLimit = 20 * time.Second
)

// join is one machine on its way into the cluster.
type join struct {
	w       *World
	o       Options
	text    []byte
	config  machineconfig.Config
	started time.Time
	res     Result
	kube    Kube // Nil where Kubernetes plays no part, or cannot be reached.

	heard bool // The configuration's request was answered, or seen to have arrived.

	instead string // The hostname of the node that is replaced.
}

// Add takes one machine into the cluster. The result holds everything that was observed, whatever the end;
// the error says the end again, with its exit code and hint.
func Add(ctx context.Context, w *World, text []byte, o Options) (Result, error) {
	j := newJoin(w, text, o)

	err := j.preflight(ctx)
	if err == nil {
		err = j.gates(ctx, etcd.View.CheckJoin)
	}

	if err == nil && o.DryRun {
		j.res.Status = Planned
		j.stage("preflight", "dry run: nothing is done")
	}

	if err == nil && !o.DryRun {
		err = j.enter(ctx)
	}

	return j.finish(ctx, err)
}

func newJoin(w *World, text []byte, o Options) *join {
	j := &join{w: w, o: o, text: text, started: w.Now()}
	j.res = Result{DryRun: o.DryRun, Warnings: []string{}, Voters: []Voters{}, Gates: []gate.Verdict{}, Stages: []node.Stage{}}
	j.res.SetNode(w.Target)

	return j
}

func (j *join) stage(name, format string, args ...any) {
	now, message := j.w.Now(), fmt.Sprintf(format, args...)
	j.res.Stages = append(j.res.Stages, node.Stage{Time: now.UTC(), Stage: name, Message: message, ElapsedSeconds: now.Sub(j.started).Seconds()})
	j.w.Sink.Emit(progress.Event{Time: now, Node: j.w.Target.Name(), Stage: name, Message: message})
}

// finish gives the error the exit code of the status, and says what an interruption left.
func (j *join) finish(ctx context.Context, err error) (Result, error) {
	if err != nil && j.res.Status == "" {
		j.res.Status = Failed
	}

	if err != nil && ctx.Err() != nil {
		j.res.Status, j.res.Hint = Interrupted, j.leftovers()
	}

	if err != nil {
		j.res.Error = err.Error()
	}

	if hints := errs.Hints(err); j.res.Hint == "" && len(hints) > 0 {
		j.res.Hint = hints[0]
	}

	j.res.ElapsedSeconds = j.w.Now().Sub(j.started).Seconds()

	return j.res, typed(err, j.res.Status, j.res.Hint, j.w.Target)
}

func (j *join) leftovers() string {
	if !j.res.Applied {
		return "the machine was left as it was, in maintenance mode"
	}

	if !j.heard {
		return "the configuration was sent, and not answered: look whether the machine leaves maintenance mode before you send it again"
	}

	return "the machine has its configuration and goes on joining: see `talosmate health`"
}

// typed gives an error the exit code of a status. What was decided nowhere keeps its cause's own code.
func typed(err error, s Status, hint string, t talos.Target) error {
	if err == nil {
		return nil
	}

	var inner *errs.Error

	out := &errs.Error{Exit: s.exit(), Node: t.Address, Hostname: t.Hostname, Hint: hint, Err: err}
	if errors.As(err, &inner) {
		out.GRPCCode, out.Gate, out.Retryable = inner.GRPCCode, inner.Gate, inner.Retryable

		if s == Failed {
			out.Exit, out.Kind = inner.Exit, inner.Kind
		}
	}

	if out.Exit == errs.OK {
		out.Exit = errs.Failed
	}

	return out
}

func (j *join) fail(s Status, format string, args ...any) error {
	j.res.Status = s

	return fmt.Errorf("cannot add %s: %w", j.w.Target.Name(), fmt.Errorf(format, args...))
}

// preflight looks at everything that can be known before the configuration is sent: the machine waits for
// one, Talos's validator and the machine itself take it, and it is this cluster's.
func (j *join) preflight(ctx context.Context) error {
	j.stage("preflight", "looking at the machine")

	var err error
	if j.config, err = machineconfig.Parse(j.text); err != nil {
		return err
	}

	if !j.config.Full() {
		v := gate.New(gate.NotFullConfig, gate.Refuse, j.w.Target.Address, "this is not a full machine configuration: the v1alpha1 document is missing").
			WithRemedy("`talosmate gen config` makes full ones")
		j.res.Gates, j.res.Status = append(j.res.Gates, v), Refused

		return v.Refusal()
	}

	switch j.res.MachineType = j.config.Type(); j.res.MachineType {
	case target.ControlPlane, target.Worker:
	default:
		return errs.Usagef("the configuration's machine.type is %q, want controlplane or worker: any other would start a cluster of its own", j.res.MachineType)
	}

	bare, hangUp := j.w.Bare()
	defer func() { _ = hangUp() }() // the connection served its questions

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

	if err = j.checkName(ctx); err != nil {
		return err
	}

	status, err := bare.MachineStatus(ctx)
	if err != nil {
		return err
	}

	if status.Stage != "maintenance" {
		return errs.Usagef("%s is not in maintenance mode: %s", j.w.Target.Name(), status).
			WithHint("a node that is configured already takes `talosmate machineconfig apply`")
	}

	return j.ask(ctx, bare)
}

// ask puts the configuration before the machine without applying it: what only the machine knows, such as a
// disk that it does not have, is found before anything is changed.
func (j *join) ask(ctx context.Context, bare Bare) error {
	verdict, err := bare.ApplyConfig(ctx, j.text, talos.ApplyAuto, time.Minute, true)
	if talos.Transient(err) && ctx.Err() == nil { // a question may be repeated
		verdict, err = bare.ApplyConfig(ctx, j.text, talos.ApplyAuto, time.Minute, true)
	}

	if talos.KindOf(err) == errs.KindInvalid {
		return errs.Usagef("%w", err).WithHint("the machine itself does not take this configuration; nothing was changed")
	}

	j.res.Warnings = append(j.res.Warnings, verdict.Warnings...)

	return err
}

// gates asks all gates. quorum is what etcd's membership says about a new voter.
func (j *join) gates(ctx context.Context, quorum func(v etcd.View, node string) []gate.Verdict) error {
	verdicts, err := j.verdicts(ctx, quorum)
	if err != nil {
		return err
	}

	err = gate.Apply(verdicts, j.o.Overrides)
	j.res.Gates = append(j.res.Gates, verdicts...)

	for _, v := range verdicts {
		switch v.Verdict {
		case gate.Warn:
			j.stage("preflight", "warning (%s): %s", v.Gate, v.Message)
		case gate.Overridden:
			j.res.OverriddenGates = append(j.res.OverriddenGates, string(v.Gate))
			j.stage("preflight", "gate %s overridden: %s", v.Gate, v.Message)
		case gate.Pass, gate.Refuse, gate.Skip:
		}
	}

	if err != nil {
		j.res.Status = Refused
	}

	return err
}

func (j *join) verdicts(ctx context.Context, quorum func(v etcd.View, node string) []gate.Verdict) ([]gate.Verdict, error) {
	text, err := j.w.Reference(ctx)
	if err != nil {
		return nil, err
	}

	have, err := machineconfig.Parse(text)
	if err != nil {
		return nil, errs.New(errs.Failed, "cannot read the cluster's machine configuration: %s", err.Error())
	}

	verdicts := []gate.Verdict{gateCluster(j.config, have, j.w.Target.Address)}

	if j.res.MachineType == target.ControlPlane {
		view, err := j.w.Etcd(ctx)
		if err != nil {
			return nil, err
		}

		j.count("before", view)

		if err = j.gateName(view); err != nil {
			return nil, err
		}

		verdicts = append(verdicts, quorum(view, j.w.Target.Address)...)
	}

	return append(verdicts, j.gateKubernetes(ctx)...), nil
}

// gateKubernetes connects where the machine is to be a Kubernetes node. Without Kubernetes the machine's own
// word on its node is taken.
func (j *join) gateKubernetes(ctx context.Context) []gate.Verdict {
	if j.config.At("machine", "kubelet", "skipNodeRegistration") == "true" {
		return nil
	}

	ctx, cancel := context.WithTimeout(ctx, kubeLimit)
	defer cancel()

	k, err := j.w.Kube(ctx)
	if err == nil {
		_, err = k.Nodes(ctx)
	}

	if err != nil {
		return []gate.Verdict{gate.New(gate.KubernetesAway, gate.Warn, j.w.Target.Address,
			"the Kubernetes API cannot be reached, so that Ready is what the machine itself says: %v", err)}
	}

	j.kube = k

	return []gate.Verdict{gate.New(gate.KubernetesAway, gate.Pass, j.w.Target.Address, "the Kubernetes API answers")}
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

// enter sends the configuration, once, and looks what becomes of it.
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
		j.res.Status = Requested

		return nil
	}

	if err = j.awaitConfigured(ctx, lost); err != nil {
		return err
	}

	if err = j.awaitJoined(ctx); err != nil {
		if ctx.Err() != nil {
			return err
		}

		return j.fail(NotJoined, "the machine has its configuration and has not joined: %w", err)
	}

	j.res.Status = OK
	j.stage("joined", "joined after %.1f s", j.w.Now().Sub(j.started).Seconds())

	return nil
}

// apply sends the request. lost is the error of an answer that was lost.
func (j *join) apply(ctx context.Context) (lost, err error) {
	bare, hangUp := j.w.Bare()
	defer func() { _ = hangUp() }() // its one request is answered, or will never be

	sent := runbook.Request{Limit: min(runbook.AnswerWithin, j.o.BootTimeout), Begin: j.o.BeforeChange, Send: func(ctx context.Context) error {
		j.stage("apply", "applying the configuration")

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
		j.stage("wait", "the answer was lost (%v): reading the state back", sent.Err)

		return sent.Err, nil
	default:
		return nil, sent.Err
	}
}

// awaitBegun reads back whether a configuration whose answer was lost arrived: the machine leaves maintenance
// mode. It is never sent again.
func (j *join) awaitBegun(ctx context.Context, lost error) error {
	err := poll.Until(ctx, j.w.Target.Name()+" to leave maintenance mode", boot.Poll, runbook.ShownWithin, func(ctx context.Context) (bool, string, error) {
		ctx, cancel := context.WithTimeout(ctx, boot.ProbeLimit)
		defer cancel()

		bare, hangUp := j.w.Bare()
		defer func() { _ = hangUp() }()

		status, err := bare.MachineStatus(ctx)

		return err != nil || status.Stage != "maintenance", status.String(), nil
	})
	if err == nil || ctx.Err() != nil {
		return err
	}

	j.res.Hint = "whether the configuration arrived is not known; look at the machine before you send it again"

	return j.fail(Unknown, "the answer was lost and the machine is still in maintenance mode: %w", lost)
}

// awaitConfigured waits until the machine answers as one of the cluster.
func (j *join) awaitConfigured(ctx context.Context, lost error) error {
	j.stage("wait", "waiting until the machine answers with the cluster's certificate, for at most %s", j.o.BootTimeout)

	err := poll.Until(ctx, j.w.Target.Name()+" to answer with the cluster's certificate", boot.VerifyPoll, j.o.BootTimeout,
		func(ctx context.Context) (bool, string, error) {
			return j.w.witness().Ask(ctx, func(ctx context.Context, n Machine) (string, bool, error) {
				status, err := n.MachineStatus(ctx)
				if err != nil || status.Stage == "maintenance" {
					return status.String(), false, err
				}

				version, err := n.Version(ctx)
				j.res.RunningTag = version.Tag

				return "", err == nil, err
			})
		})

	switch {
	case err == nil:
		j.res.Configured = true
		j.stage("wait", "it answers after %.1f s", j.w.Now().Sub(j.started).Seconds())

		return nil
	case ctx.Err() != nil:
		return err
	case lost != nil:
		// Nothing was ever seen of the configuration: it may be that the machine is out of reach with none.
		j.res.Hint = "whether the configuration arrived is not known; look at the machine's console"

		return j.fail(Unknown, "the answer was lost, and the machine was not seen again: %w", err)
	default:
		j.res.Hint = "look at the machine's console: the installation may have failed, or it boots another medium"

		return j.fail(NotJoined, "%w", err)
	}
}

// awaitJoined waits for what makes a machine one of the cluster.
func (j *join) awaitJoined(ctx context.Context) error {
	if j.res.MachineType == target.ControlPlane {
		if err := j.awaitVoter(ctx); err != nil {
			return err
		}
	}

	j.stage("wait", "waiting until it is settled, for at most %s", j.o.ReadyTimeout)

	if err := boot.AwaitSettled(ctx, j.w.witness(), j.o.ReadyTimeout); err != nil {
		return err
	}

	j.res.Settled = true

	return j.awaitKubernetes(ctx)
}

func (j *join) awaitVoter(ctx context.Context) error {
	j.stage("etcd", "waiting until its etcd member votes, for at most %s", max(j.o.ReadyTimeout, boot.EtcdMinimum))

	var last etcd.View

	err := boot.AwaitEtcd(ctx, j.w.Target, func(ctx context.Context) (etcd.View, error) {
		view, err := j.w.Etcd(ctx)
		if err == nil {
			last = view
			j.count("joining", view)
		}

		return view, err
	}, j.o.ReadyTimeout)
	if err != nil {
		return err
	}

	m, _ := last.MemberOn(j.w.Target)
	j.res.MemberID = m.ID
	j.count("joined", last)

	now := j.res.Voters[len(j.res.Voters)-1]
	j.stage("etcd", "member %s votes: %d voters, %d of them healthy, %d must agree", m.ID, now.Voters, now.Healthy, now.Quorum)

	return nil
}

func (j *join) awaitKubernetes(ctx context.Context) error {
	if j.kube == nil {
		return nil
	}

	err := poll.Until(ctx, "the Kubernetes name of "+j.w.Target.Name(), boot.VerifyPoll, j.o.ReadyTimeout, func(ctx context.Context) (bool, string, error) {
		return j.w.witness().Ask(ctx, func(ctx context.Context, n Machine) (string, bool, error) {
			var err error
			j.res.K8sNodeName, err = n.KubernetesName(ctx)

			return "the machine has none", j.res.K8sNodeName != "", err
		})
	})
	if err != nil {
		return err
	}

	j.stage("kubernetes", "waiting until the Kubernetes node %s is Ready, for at most %s", j.res.K8sNodeName, j.o.ReadyTimeout)

	if err = boot.AwaitKubernetes(ctx, j.kube, j.res.K8sNodeName, func(string) bool { return true }, j.o.ReadyTimeout); err != nil {
		return err
	}

	j.res.K8sReady = true

	return nil
}
