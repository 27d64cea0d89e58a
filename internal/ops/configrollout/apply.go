package configrollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// Names of what is kept about a node, beside its former configurations.
const (
	appliedName = ".applied.json"
	recordName  = ".rollout.json"
)

// lastApplied is what was applied last from this machine.
type lastApplied struct {
	Text   string    `json:"text"`   // The configuration.
	SHA256 string    `json:"sha256"` // Of the file.
	Time   time.Time `json:"time"`   // When it was verified.
}

// record is what a run that was broken off leaves for the next one: it is written before a configuration is sent, and
// removed when the node is verified or has its former configuration back.
type record struct {
	File    string     `json:"file"`              // The former configuration.
	Sent    string     `json:"sent"`              // The configuration that was sent.
	Action  string     `json:"action"`            // try, apply or reboot.
	Reverts *time.Time `json:"reverts,omitempty"` // When Talos reverts a configuration that is tried.
	Known   []string   `json:"known"`             // The node's problems before.
}

// Options are what the user decides.
type Options struct {
	rollout.ApplyOptions // Of these pause, soak, window, journal, gates of the user, and the overrides and dry run of a node count.

	TryTimeout    time.Duration // After which Talos reverts a configuration that is tried.
	SettleTime    time.Duration // How long a node must be seen healthy until its configuration is kept.
	ReadyTimeout  time.Duration // How long a node may take to be healthy, and to be back after Talos reverted.
	RebootTimeout time.Duration
	DrainTimeout  time.Duration
	Revert        bool // Give a failed node its former configuration.
}

// How a change ended.
const (
	HowApplied   = "applied"   // Without a trial: nothing in it could cut the node off.
	HowConfirmed = "confirmed" // It was tried, the node was seen again, and the configuration was made permanent.
	HowRebooted  = "rebooted"  // The node rebooted into it.
	HowReverted  = "reverted"  // It was tried, and Talos reverted it by its own timer.
	HowFellBack  = "fell_back" // It was tried, and the node rebooted meanwhile: it boots with the former one.
	HowRestored  = "restored"  // The node was given its former configuration.
)

// Seen is one way by which a node was seen with its new configuration.
type Seen struct {
	By      string `json:"by"`      // endpoint, direct, machine, etcd, members or kubernetes.
	OK      bool   `json:"ok"`      // Whether it was.
	Message string `json:"message"` // What was seen, or why not.
}

// Applied is what became of one node.
type Applied struct {
	talos.NodeRef

	Status         runbook.Status `json:"status"`                    // ok, unchanged, refused, failed, rolled_back, verify_failed, lost, unknown, interrupted or not_started.
	File           string         `json:"file"`                      // Its file in the directory.
	How            string         `json:"how,omitempty"`             // applied, confirmed, rebooted, reverted (by Talos's timer), fell_back (it rebooted while it was tried) or restored (by this run).
	Resumed        bool           `json:"resumed,omitempty"`         // Whether an earlier run had sent the configuration.
	RevertsAt      *time.Time     `json:"reverts_at,omitempty"`      // When Talos reverts, or has reverted, what was tried.
	Seen           []Seen         `json:"seen"`                      // Who saw the node with the new configuration, at the last look; never null.
	RestoreFile    string         `json:"restore_file,omitempty"`    // The file with the former configuration, readable by its owner only.
	RestoreCommand string         `json:"restore_command,omitempty"` // The command line that gives the node its former configuration back.

	runbook.Record
}

// Result is everything that was observed.
type Result struct {
	Status         runbook.Status  `json:"status"`          // ok, unchanged, planned, halted, failed, refused or interrupted.
	DryRun         bool            `json:"dry_run"`         // Whether nothing was to be done.
	StartedAt      time.Time       `json:"started_at"`      // When it began.
	ElapsedSeconds float64         `json:"elapsed_seconds"` // How long it took.
	Locked         bool            `json:"locked"`          // Whether the cluster's lock was held.
	Nodes          []Applied       `json:"nodes"`           // What became of the nodes, in the order in which they ended; never null.
	Remaining      []string        `json:"remaining"`       // Nodes that were not started; never null.
	Gates          []gate.Verdict  `json:"gates"`           // What the gates said of the cluster; never null.
	Checks         []rollout.Check `json:"checks"`          // What was waited for between nodes; never null.
	Hint           string          `json:"hint,omitempty"`  // What to do now.
	Error          string          `json:"error,omitempty"` // What went wrong.
	Plan           Plan            `json:"plan"`            // What was to be done.
}

// Apply runs a plan that Make or Replan has just made. The result holds everything that was observed, also on error.
func (p Planner) Apply(ctx context.Context, plan Plan, o Options, sink progress.Sink) (Result, error) {
	s := &session{Planner: p, o: o, sink: o.Journal.Sink(sink)}
	began := p.Cluster.Now()
	s.res = Result{
		DryRun: o.Node.DryRun, StartedAt: began.UTC(), Plan: plan, Nodes: []Applied{}, Remaining: []string{},
		Gates: append([]gate.Verdict{}, plan.Gates...), Checks: []rollout.Check{},
	}

	err := s.run(ctx, plan)

	s.res.ElapsedSeconds = runbook.Seconds(p.Cluster.Now().Sub(began))

	if err != nil {
		s.res.Error = err.Error()
	}

	return s.res, err
}

// AwaitTrials waits for nodes on which an earlier run has left a configuration on trial and which do not answer: they do
// again at the latest some time after Talos has reverted it.
func (p Planner) AwaitTrials(ctx context.Context, wait time.Duration, sink progress.Sink) {
	var group errs.Group

	for _, m := range p.Cluster.Members {
		var rec record

		found, err := p.Store.Read(m.Target(), recordName, &rec)
		if err != nil || !found || rec.Reverts == nil {
			continue
		}

		n, until := p.Cluster.Node(m.Target()), rec.Reverts.Add(wait)

		group.Go(func() {
			told := false

			_ = poll.Until(ctx, m.NodeName()+" to answer", probe.VerifyPoll, max(until.Sub(n.Now()), 0), func(ctx context.Context) (bool, string, error) { // the plan says what is wrong
				_, err := n.Prober().Boot(ctx, "")
				if err != nil && !told {
					told = true
					sink.Emit(progress.Event{
						Time: n.Now(), Node: m.NodeName(), Stage: "wait", Message: "an earlier run left a configuration on trial, which reverts at " + rec.Reverts.UTC().Format(time.RFC3339),
					})
				}

				return err == nil, "it does not answer", nil
			})
		})
	}

	group.Wait()
}

// session is one run over the cluster.
type session struct {
	Planner

	o    Options
	sink progress.Sink

	mu  sync.Mutex
	res Result
}

func (s *session) run(ctx context.Context, plan Plan) error {
	switch {
	case plan.Refused:
		s.res.Status = runbook.Refused

		return plan.settle(s.Overrides)
	case plan.failed(false) != nil:
		s.res.Status = runbook.Failed

		return plan.failed(false)
	case s.o.Node.DryRun:
		s.res.Status = runbook.Planned

		return nil
	}

	byAddress, nodes := map[string]NodePlan{}, []rollout.NodePlan{}

	for _, n := range plan.Nodes {
		if n.Action == ActNone {
			if err := s.unchanged(n); err != nil {
				s.res.Status = runbook.Failed

				return err
			}

			continue
		}

		byAddress[n.Node] = n
		nodes = append(nodes, rollout.NodePlan{NodeRef: n.NodeRef, Role: n.Role, K8sNodeName: n.K8sNodeName})
	}

	if len(nodes) == 0 {
		s.res.Status = runbook.Unchanged

		return nil
	}

	round, err := rollout.RunRound(ctx, s.Cluster, rollout.Round{
		Nodes: nodes, Workers: plan.Workers, Canary: plan.Request.Canary,
		Do: func(ctx context.Context, n rollout.NodePlan) error { return s.node(ctx, byAddress[n.Node]) },
	}, s.o.ApplyOptions, s.sink)

	s.res.Status, s.res.Locked, s.res.Checks, s.res.Remaining, s.res.Hint = round.Status, round.Locked, round.Checks, round.Remaining, round.Hint
	s.res.Gates = append(slices.DeleteFunc(s.res.Gates, func(v gate.Verdict) bool { return v.Gate == gate.LockHeld }), round.Gates...)

	for _, n := range plan.Nodes {
		if slices.Contains(round.Remaining, n.NodeName()) {
			s.res.Nodes = append(s.res.Nodes, n.applied(runbook.NotStarted))
		}
	}

	if s.res.Hint == "" && err != nil {
		s.res.Hint = "see to the node that failed, then run the same command again: what is done is unchanged"
	}

	return err
}

// applied is what became of a node, as far as it is known at once.
func (n NodePlan) applied(status runbook.Status) Applied {
	return Applied{NodeRef: n.NodeRef, Status: status, File: n.File, Seen: []Seen{}, Record: runbook.NewRecord()}
}

// unchanged notes a node that has the configuration already.
func (s *session) unchanged(n NodePlan) error {
	s.res.Nodes = append(s.res.Nodes, n.applied(runbook.Unchanged))

	return s.settled(s.Cluster.Target(n.NodeRef), n.source)
}

// settled notes what was applied last, and that no run on the node was broken off.
func (s *session) settled(t talos.Target, from source) error {
	if s.Store.Dir == "" {
		return nil
	}

	return errors.Join(
		s.Store.Write(t, appliedName, lastApplied{Text: string(from.text), SHA256: digest(from.text), Time: s.Cluster.Now().UTC()}),
		s.Store.Remove(t, recordName),
	)
}

// run is the change of one node.
type run struct {
	runbook.Run

	s    *session
	n    *probe.Node
	plan NodePlan
	res  *Applied

	former  []byte     // The configuration of the next boot, before.
	boot    talos.Boot // Before.
	known   []string   // The node's problems before.
	direct  bool       // Whether the node answered directly before.
	k8s     string
	reverts time.Time // RevertsAt, as a clock counts that nobody sets.
	trying  bool      // It is on trial on the node, or may be.
	restore bool

	rebooted bool // An earlier run sent it that was broken off before it had verified the node after the reboot.
	cordoned bool // An earlier run was broken off that cordons the node, for this file or another.
}

func (s *session) node(ctx context.Context, plan NodePlan) error {
	t := s.Cluster.Target(plan.NodeRef)
	did := plan.applied("")
	res := &did
	r := &run{s: s, n: s.Cluster.Node(t), plan: plan, res: res}
	r.Verb, r.Target, r.Now, r.Locks, r.Rec, r.Sink = "roll out the configuration to", t, r.n.Now, r.n.Locks, &res.Record, s.sink
	r.Overrides, r.Begin, r.Left = s.Overrides, s.o.Node.BeforeChange, r.left
	r.Summary = func() string { return fmt.Sprintf("%s, took %.1f s", res.How, res.ElapsedSeconds) }
	r.Start()

	err := r.Finish(ctx, r.steps(ctx))
	res.Status = r.Status

	s.mu.Lock()
	defer s.mu.Unlock()

	s.res.Nodes = append(s.res.Nodes, *res)

	return err
}

// left says what an interruption leaves on the node.
func (r *run) left() string {
	switch {
	case r.restore:
		return "the former configuration was being restored, and is not verified: restore it with " + r.res.RestoreCommand
	case r.trying:
		return fmt.Sprintf("the configuration is on trial, and Talos reverts it at %s: run the same command again before that to keep it",
			r.res.RevertsAt.UTC().Format(time.RFC3339))
	case r.Sent:
		return "the configuration was sent, and is not verified: run the same command again to verify it; the way back is " + r.res.RestoreCommand
	default:
		return "the node was left as it was"
	}
}

// steps is the runbook. A step that settles the status ends it.
func (r *run) steps(ctx context.Context) error {
	return r.Steps(ctx, r.Exclusive, r.look, r.gates, r.keep, r.send, r.prove, r.confirm)
}

// look reads what the node has. One on which an earlier run left the configuration on trial is proved and kept.
func (r *run) look(ctx context.Context) error {
	r.Stage("preflight", "observing the node")

	text, err := r.n.Change.MachineConfig(ctx)
	if err != nil {
		return err
	}

	r.former = text

	next, known, err := r.n.Change.PersistedConfig(ctx)
	if err != nil {
		return err
	}

	if known {
		r.former = next
	}

	var rec record

	found, err := r.s.Store.Read(r.Target, recordName, &rec)
	if err != nil {
		return err
	}

	runs, keeps := machineconfig.Same(text, r.plan.source.text), machineconfig.Same(r.former, r.plan.source.text)
	ours := found && rec.Sent == string(r.plan.source.text)
	r.cordoned = found && rec.Action == ActReboot

	switch {
	case runs && keeps && (!ours || rec.Action == ActTry):
		if err = r.uncordon(ctx); err != nil {
			return err
		}

		r.Status = runbook.Unchanged

		return r.s.settled(r.Target, r.plan.source)
	case runs && keeps: // it was sent, and not verified
		if former, err := fsutil.ReadFile(rec.File, fsutil.MaxText); err == nil {
			r.former = former
		}

		r.plan.Action, r.rebooted = ActApply, rec.Action == ActReboot
		r.resumed(rec)
	case runs:
		at := r.Now().Add(r.s.o.TryTimeout)
		if ours && rec.Reverts != nil {
			at = *rec.Reverts
		}

		r.plan.Action, r.trying, r.res.RevertsAt = ActTry, true, r.revertsAt(at)
		r.resumed(rec)
	case known && !machineconfig.Same(text, next):
		r.former = text // what Talos reverts to

		if ours && keeps && rec.Action == ActReboot {
			break // an earlier run was broken off before the reboot
		}

		if err = r.Check(gate.New(gate.UnmetBefore, gate.Refuse, r.Target.Address, "another configuration is staged on the node, or on trial").
			WithRemedy("reboot the node, or wait until it has reverted")); err != nil {
			return err
		}
	}

	return r.observe(ctx)
}

func (r *run) resumed(rec record) {
	r.Sent, r.res.Resumed = true, true
	r.known = rec.Known

	if rec.File != "" {
		r.restorable(rec.File)
	}

	r.Stage("preflight", "an earlier run has sent the configuration, and has not verified it")
}

// observe reads what proves the node's identity, and by which ways it answers.
func (r *run) observe(ctx context.Context) (err error) {
	if r.boot, err = r.n.Change.Boot(ctx, ""); err != nil {
		return err
	}

	if r.k8s, err = r.n.Change.KubernetesName(ctx); err != nil {
		return err
	}

	fresh, closeFresh := r.n.Fresh()
	defer func() { _ = closeFresh() }() // the connection served its one question

	asking, cancel := context.WithTimeout(ctx, probe.Limit)
	defer cancel()

	_, err = fresh.Boot(asking, r.boot.Proof)
	r.direct = err == nil

	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	return nil
}

// gates checks what must hold before the change. What was sent already is only verified.
func (r *run) gates(ctx context.Context) error {
	if r.Sent {
		return nil
	}

	status, err := r.n.Change.MachineStatus(ctx)
	if err != nil {
		return err
	}

	r.known = status.Problems()
	verdicts := []gate.Verdict{r.n.GateSettled(status, "change")}

	if r.plan.Action == ActTry {
		verdicts = append(verdicts, r.n.GateEndpoints())
	}

	if r.n.ControlPlane {
		view, err := r.n.Etcd(ctx)
		if err != nil {
			return err
		}

		verdicts = append(verdicts, view.Check(etcd.Restart, r.Target)...)
	}

	return r.Check(verdicts...)
}

// keep writes the former configuration to a durable file.
func (r *run) keep(context.Context) error {
	if r.Sent {
		return nil
	}

	file, err := r.s.Store.Keep(r.Target, r.former)
	if err != nil {
		return err
	}

	r.restorable(file)
	r.Stage("backup", "the former configuration is in %s", file)

	rec := record{File: file, Sent: string(r.plan.source.text), Action: r.plan.Action, Known: r.known}

	if r.plan.Action == ActTry {
		rec.Reverts = r.revertsAt(r.Now().Add(r.s.o.TryTimeout))
		r.res.RevertsAt = rec.Reverts
	}

	return r.s.Store.Write(r.Target, recordName, rec)
}

func (r *run) restorable(file string) {
	r.res.RestoreFile, r.res.RestoreCommand = file, machineconfig.RestoreCommand(r.Target, file)
}

// revertsAt notes when Talos reverts what is tried, and returns it for documents. What is left of that time is not read from
// the wall clock, which may be set meanwhile.
func (r *run) revertsAt(at time.Time) *time.Time {
	shown := at.UTC()
	r.reverts = at

	return &shown
}

// give sends a configuration once and reads it back.
func (r *run) give(ctx context.Context, text []byte, mode string) (machineconfig.Applied, error) {
	return machineconfig.Within(ctx, &r.Run, r.n, text, machineconfig.ApplyOptions{
		Mode: mode, TryTimeout: r.s.o.TryTimeout, Wait: true, RebootTimeout: r.s.o.RebootTimeout, ReadyTimeout: r.s.o.ReadyTimeout,
	})
}

// send gives the node the configuration. Where it was not taken, nothing is left of the attempt.
func (r *run) send(ctx context.Context) error {
	if r.Sent {
		return nil
	}

	mode := cmp.Or(map[string]string{ActTry: talos.ApplyTry, ActReboot: talos.ApplyStaged}[r.plan.Action], talos.ApplyNoReboot)
	did, err := r.give(ctx, r.plan.source.text, mode)

	if r.plan.Action == ActTry && r.Sent {
		r.trying, r.res.RevertsAt = true, r.revertsAt(r.Asked.Add(r.s.o.TryTimeout))
	}

	switch {
	case err == nil && r.plan.Action == ActReboot:
		return r.reboot(ctx)
	case err == nil:
		return nil
	case ctx.Err() != nil:
		r.Status = did.Status

		return err
	case r.trying && (did.Status == runbook.Unknown || did.Status == runbook.NodeLost):
		// It is not seen with the configuration yet: whoever sees it until the trial ends decides.
		r.Stage("verify", "the node does not show the configuration: %v", err)

		return nil
	case did.Status == runbook.NodeLost:
		return r.failed(ctx, err)
	case did.Status == runbook.Unknown:
		r.Status = did.Status
		r.Rec.Hint = "run the same command again: it verifies the node if the configuration arrived; the way back is " + r.res.RestoreCommand

		return err
	default:
		r.Status, r.Sent, r.trying, r.res.RevertsAt = did.Status, false, false, nil

		return errors.Join(err, r.s.Store.Remove(r.Target, recordName))
	}
}

// reboot reboots the node into the configuration that is staged: cordoned and drained, and with the proof of a new boot.
func (r *run) reboot(ctx context.Context) error {
	n := *r.n
	n.Locks = nil // this run has it

	did, err := node.Run(ctx, &n, node.Options{Action: node.Reboot, Options: disruption.Options{
		Drain: true, DrainTimeout: r.s.o.DrainTimeout, Wait: true, RebootTimeout: r.s.o.RebootTimeout, ReadyTimeout: r.s.o.ReadyTimeout,
		Overrides: r.Overrides, BeforeChange: r.BeforeChange, Reason: r.s.o.Node.Reason,
	}}, progress.Part{Sink: r.Sink})

	r.Rec.Gates = append(r.Rec.Gates, did.Gates...)

	if err != nil {
		r.Status, r.Rec.Hint = did.Status, "the configuration is staged for the next boot; the way back is "+r.res.RestoreCommand

		return err
	}

	r.boot, err = r.n.Change.Boot(ctx, "")

	return err
}

// confirm makes a configuration permanent that was tried, and notes what was applied.
func (r *run) confirm(ctx context.Context) error {
	r.res.How = cmp.Or(map[string]string{ActTry: HowConfirmed, ActReboot: HowRebooted}[r.plan.Action], HowApplied)
	if r.rebooted {
		r.res.How = HowRebooted
	}

	if err := r.uncordon(ctx); err != nil {
		return err
	}

	if r.trying {
		r.Stage("confirm", "the node was seen for %s: keeping the configuration", r.s.o.SettleTime)

		did, err := r.give(ctx, r.plan.source.text, talos.ApplyNoReboot)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}

		if kept, lookErr := r.kept(ctx); !kept {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}

			r.Status, r.Rec.Hint = runbook.Unfinished, ""

			return r.reverted(ctx, errors.Join(errs.New(errs.Failed, "the configuration could not be made permanent (%s)", did.Status), err, lookErr))
		}

		r.Status, r.trying = runbook.Unfinished, false
	}

	return r.s.settled(r.Target, r.plan.source)
}

// uncordon lifts the cordon that an earlier run left.
func (r *run) uncordon(ctx context.Context) error {
	if !r.cordoned {
		return nil
	}

	name, err := r.n.Change.KubernetesName(ctx)
	if err == nil && name != "" {
		err = r.lift(ctx, name)
	}

	if err != nil && ctx.Err() == nil {
		r.Rec.Hint = "run the same command again: it lifts the cordon that an earlier run may have left"

		return r.Fail(runbook.VerifyFailed, "%w", err)
	}

	return err
}

// lift lifts the cordon of a Kubernetes node, if it is this command's.
func (r *run) lift(ctx context.Context, name string) error {
	k, _, err := r.n.Kube(ctx)
	if err != nil {
		return err
	}

	n, _, err := k.Node(ctx, name)
	if err != nil || !n.CordonedFor(r.s.o.Node.Reason) {
		return err
	}

	r.BeforeChange()
	r.Stage("uncordon", "lifting the cordon that an earlier run left")

	return k.Uncordon(ctx, name)
}

// kept waits until the node's next boot finds the configuration too, for at most the rest of the trial. A node that does not
// tell is believed once it runs with the configuration after the trial would have ended.
func (r *run) kept(ctx context.Context) (bool, error) {
	limit := max(r.reverts.Sub(r.Now()), 0) + runbook.ShownWithin/2

	err := poll.Until(ctx, r.Target.Name()+" to keep the configuration", probe.VerifyPoll, limit, func(ctx context.Context) (bool, string, error) {
		return r.n.Prober().Ask(ctx, func(ctx context.Context, n probe.API) (string, bool, error) {
			text, known, err := n.PersistedConfig(ctx)
			if err == nil && !known {
				text, err = n.MachineConfig(ctx)
				known = r.Now().After(r.reverts.Add(probe.Limit))
			}

			return "the configuration is on trial", known && err == nil && machineconfig.Same(text, r.plan.source.text), err
		})
	})

	return err == nil, err
}

// failed ends a change that was not tried: the node keeps what it has, or gets its former configuration back.
func (r *run) failed(ctx context.Context, cause error) error {
	r.Status = runbook.Unfinished

	if !r.s.o.Revert || ctx.Err() != nil {
		r.Rec.Hint = "the node has the new configuration and is not as it should be; the way back is " + r.res.RestoreCommand

		return r.Fail(runbook.VerifyFailed, "%w", cause)
	}

	r.restore = true
	r.Stage("restore", "restoring the former configuration: %v", cause)

	_, err := r.give(ctx, r.former, talos.ApplyAuto)
	if err == nil {
		err = r.n.Prober().AwaitSettled(ctx, r.s.o.ReadyTimeout, r.known...)
	}

	if ctx.Err() != nil {
		return errors.Join(cause, err)
	}

	if err != nil {
		r.Rec.Hint = "check the node, and restore its former configuration with " + r.res.RestoreCommand

		return r.Fail(runbook.VerifyFailed, "%w; restoring the former configuration: %w", cause, err)
	}

	r.restore, r.res.How = false, HowRestored
	r.Rec.Hint = "the node has its former configuration; nodes after it were not begun"

	return errors.Join(r.Fail(runbook.RolledBack, "%w", cause), r.s.Store.Remove(r.Target, recordName))
}

// reverted waits until Talos has reverted a configuration that was tried and is not kept.
func (r *run) reverted(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return cause
	}

	r.Stage("revert", "the configuration is not kept, and Talos reverts it at %s: %v", r.res.RevertsAt.UTC().Format(time.RFC3339), cause)

	var boot talos.Boot

	limit := max(r.reverts.Sub(r.Now()), 0) + r.s.o.ReadyTimeout
	err := poll.Until(ctx, r.Target.Name()+" to be back with its former configuration", probe.VerifyPoll, limit, func(ctx context.Context) (bool, string, error) {
		return r.n.Prober().Ask(ctx, func(ctx context.Context, n probe.API) (string, bool, error) {
			text, err := n.MachineConfig(ctx)
			if err == nil {
				boot, err = n.Boot(ctx, r.boot.Proof)
			}

			var status talos.MachineStatus
			if err == nil {
				status, err = n.MachineStatus(ctx)
			}

			back := err == nil && machineconfig.Same(text, r.former) && status.SettledBut(r.known)
			if back {
				err = r.peers(ctx)
			}

			return "the node is " + status.String(), back && err == nil, err
		})
	})

	switch {
	case ctx.Err() != nil:
		return errors.Join(cause, err)
	case err != nil:
		r.Rec.Hint = "check the node's console: its former configuration is on its disk, and a reboot brings it back"

		return r.Fail(runbook.NodeLost, "%w; after the trial: %w", cause, err)
	}

	r.trying, r.Sent, r.res.How = false, false, HowReverted
	if boot.ID != r.boot.ID {
		r.res.How = HowFellBack
	}

	r.Rec.Hint = "the node has its former configuration, by Talos's own timer or a reboot; nodes after it were not begun"

	return errors.Join(r.Fail(runbook.RolledBack, "%w", cause), r.s.Store.Remove(r.Target, recordName))
}
