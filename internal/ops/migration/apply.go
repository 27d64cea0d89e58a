// Package migration carries out migrations of machine configurations on nodes: one after another, each with a way back, and
// proved by what the node makes of it.
package migration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/ops/migrate"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

const (
	// restartWithin is how long the kubelet may take to restart a static pod that was rendered again: it asks for its
	// static pods every 20 seconds (Kubernetes, httpCheckFrequency).
	restartWithin = 30 * time.Second
	// tryTimeout is never used: no configuration is tried.
	tryTimeout = time.Minute
)

// Options are what the user decides about a migration of nodes.
type Options struct {
	migrate.Options

	Dir          string        // The directory of the former configurations.
	ReadyTimeout time.Duration // How long a node may take to be ready and the same as before.
	SettleTime   time.Duration // How long it must stay so.
	DryRun       bool
	Overrides    gate.Overrides
	BeforeChange func()             // Called once, before the first request that changes something.
	Lock         clusterlock.Locker // Takes the cluster's lock.
}

// Applied is what became of a migration on one node.
type Applied struct {
	Status         runbook.Status `json:"status"`                    // planned, unchanged, ok, refused, failed, rolled_back, verify_failed, lost, unknown, interrupted or not_started.
	DryRun         bool           `json:"dry_run"`                   // Whether nothing was to be done.
	Resumed        bool           `json:"resumed,omitempty"`         // Whether an earlier run had sent the configuration, and this one verified it.
	RestoreFile    string         `json:"restore_file,omitempty"`    // The file with the node's former configuration, readable by its owner only.
	RestoreCommand string         `json:"restore_command,omitempty"` // The command line that gives the node its former configuration back.
	Restored       bool           `json:"restored,omitempty"`        // Whether the node has its former configuration again, and makes the same of it as before.
	Equivalence    *Equivalence   `json:"equivalence,omitempty"`     // What the node made of both configurations, compared by content.

	runbook.Record
}

// Outcome is a migration of one node: the conversion, and what became of it.
type Outcome struct {
	Target talos.Target
	Result migrate.Result
	Applied
}

// session is one run over several nodes.
type session struct {
	o    Options
	sink progress.Sink
	undo runbook.Undo

	locked bool
	held   clusterlock.Held // Nil without Kubernetes.
}

// run is the migration of one node.
type run struct {
	runbook.Run

	s    *session
	n    *probe.Node
	res  Outcome
	kept machineconfig.Backups

	before content
	known  []string // The node's problems before.
	right  bool     // The node was verified.
	back   bool     // The former configuration is being restored.
}

// Apply migrates nodes one after another, control planes first. Each is verified before the next is begun, and gets its
// former configuration back if it is not the same as before. After a failure no further node is begun. The outcomes are in
// the order of the nodes, valid on error too.
func Apply(ctx context.Context, nodes []*probe.Node, o Options, sink progress.Sink) ([]Outcome, error) {
	s := &session{o: o, sink: sink}
	out, failed := make([]Outcome, len(nodes)), &errs.Nodes{}
	halted := false

	for _, i := range order(nodes) {
		r := s.run(nodes[i])

		if (halted && !o.DryRun) || ctx.Err() != nil {
			r.Status = runbook.NotStarted
			out[i] = r.outcome()

			continue
		}

		err := r.Finish(ctx, r.steps(ctx))
		out[i] = r.outcome()

		if err == nil {
			failed.Succeeded++

			continue
		}

		halted = true
		failed.Errors = append(failed.Errors, errs.Typed(err, r.Target.Address, r.Target.Hostname))
	}

	var err error
	if len(failed.Errors) > 0 {
		err = failed
	}

	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}

	return out, errors.Join(err, s.undo.Run(ctx, runbook.UndoWithin))
}

// order gives the nodes by index: control planes, then workers.
func order(nodes []*probe.Node) []int {
	var first, then []int

	for i, n := range nodes {
		if n.ControlPlane {
			first = append(first, i)
		} else {
			then = append(then, i)
		}
	}

	return slices.Concat(first, then)
}

func (s *session) run(n *probe.Node) *run {
	r := &run{s: s, n: n, kept: machineconfig.Backups{Dir: s.o.Dir}}
	r.res.Target = n.Target
	r.res.Result = migrate.Result{
		To: s.o.To, Documents: []string{}, Fields: []migrate.Field{}, Warnings: []string{}, Proof: migrate.Proof{Exceptions: []migrate.Exception{}},
	}
	r.res.DryRun, r.res.Record = s.o.DryRun, runbook.NewRecord()
	r.Verb, r.Target, r.Now, r.Locks, r.Rec, r.Sink = "migrate", n.Target, n.Now, n.Locks, &r.res.Record, s.sink
	r.Overrides, r.Begin, r.Left = s.o.Overrides, s.o.BeforeChange, r.left
	r.Summary = func() string { return fmt.Sprintf("took %.1f s", r.Rec.ElapsedSeconds) }
	r.Start()

	return r
}

func (r *run) outcome() Outcome {
	r.res.Status = r.Status

	return r.res
}

// left says what an interruption leaves on the node.
func (r *run) left() string {
	switch {
	case r.right:
		return "the node runs with the migrated configuration, and was verified"
	case r.back:
		return "the former configuration was being restored, and is not verified: restore it with " + r.res.RestoreCommand
	case r.Sent:
		return "the migrated configuration was sent, and is not verified: run the same command again to verify it, or restore the former one with " + r.res.RestoreCommand
	default:
		return "the node was left as it was"
	}
}

// steps is the runbook. A step that settles the status ends it.
func (r *run) steps(ctx context.Context) error {
	return r.Steps(ctx, r.convert, r.resume, r.observe, r.gates, r.lock, r.Exclusive, r.keep, r.send, r.check)
}

// named is a node with its name.
type named struct {
	probe.API

	name string
}

// Name implements migrate.API.
func (n named) Name() string { return n.name }

// convert migrates the configuration that the node runs with, and proves that Talos reads the same.
func (r *run) convert(ctx context.Context) error {
	r.Stage("preflight", "converting the machine configuration to %s", r.s.o.To)

	res, err := migrate.Node(ctx, named{r.n.Change, r.Target.Name()}, r.s.o.Options)

	switch {
	case err == nil:
		r.res.Result = res
	case errs.ExitCode(err) == errs.Refused:
		r.Status = runbook.Refused
	}

	return err
}

// resume verifies a node to which an earlier run has sent a configuration.
func (r *run) resume(ctx context.Context) error {
	var rec record

	found, err := r.kept.Read(r.Target, recordName, &rec)

	switch {
	case err != nil:
		return err
	case found && machineconfig.Same(r.res.Result.Before, []byte(rec.Sent)):
		r.restorable(rec.File)
		r.Stage("preflight", "an earlier run has sent the migrated configuration, and has not verified it")

		if r.s.o.DryRun {
			return r.Planned()
		}

		// What is not right gets its former configuration back: a change, which needs the lock.
		if err = r.lock(ctx); err != nil {
			return err
		}

		r.before, r.known, r.Sent, r.res.Resumed = rec.Before, rec.Known, true, true

		if err = r.Exclusive(ctx); err != nil {
			return err
		}

		if err = r.check(ctx); err != nil {
			return err
		}

		if r.res.Result.Changed { // of another choice of kinds
			r.Stage("preflight", "there is more to migrate: run the command again")
		}

		r.Status = runbook.OK
	case !r.res.Result.Changed:
		r.Status = runbook.Unchanged
	}

	return nil
}

// observe reads what the node makes of its configuration.
func (r *run) observe(ctx context.Context) (err error) {
	r.before, err = r.content(ctx)

	return err
}

func (r *run) content(ctx context.Context) (content, error) {
	found, err := look(ctx, r.n.Change)
	if err != nil || !r.n.ControlPlane {
		return found, err
	}

	_, found.Started, err = apiServerStatus(ctx, r.n.Change)

	return found, err
}

// gates checks all gates. A dry run ends here.
func (r *run) gates(ctx context.Context) error {
	status, err := r.n.Change.MachineStatus(ctx)
	if err != nil {
		return err
	}

	r.known = status.Problems()
	verdicts := []gate.Verdict{r.n.GateSettled(status, "migration")}

	if !r.n.ControlPlane {
		verdicts = append(verdicts, gate.New(gate.EtcdQuorum, gate.Skip, r.Target.Address, "a worker has no etcd member"))
	} else {
		ready, _, err := apiServerStatus(ctx, r.n.Change)
		if err != nil {
			return err
		}

		if !ready {
			verdicts = append(verdicts, gate.New(gate.UnmetBefore, gate.Refuse, r.Target.Address, "%s on the node is not ready", apiServerID).
				WithRemedy("wait until it is: `talosmate health` says more"))
		}

		view, err := r.n.Etcd(ctx)
		if err != nil {
			return err
		}

		verdicts = append(verdicts, view.Check(etcd.Restart, r.Target)...)
	}

	if err = r.Check(verdicts...); err != nil {
		return err
	}

	if !r.s.o.DryRun {
		return nil
	}

	if err = r.give(ctx, r.res.Result.Text, true); err != nil {
		return err
	}

	return r.Planned()
}

// lock takes the cluster's lock before the first change of the run.
func (r *run) lock(ctx context.Context) error {
	if r.s.locked {
		if r.s.held == nil {
			return nil
		}

		select {
		case err := <-r.s.held.Lost():
			r.Status = runbook.Refused

			return errs.New(errs.Refused, "the cluster's lock is lost: %w", err)
		default:
			return nil
		}
	}

	name, err := r.n.Change.KubernetesName(ctx)
	if err != nil {
		return err
	}

	locker := r.s.o.Lock
	if name == "" {
		locker = nil
	}

	held, verdict := clusterlock.Take(ctx, locker, "talosmate machineconfig migrate")
	r.s.locked = true

	if err = r.Check(verdict); err != nil || held == nil {
		return err
	}

	r.s.held = held
	r.s.undo.Push("the cluster's lock", held.Release)

	return nil
}

// keep writes the former configuration, and what the node made of it, to durable files.
func (r *run) keep(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	file, err := r.kept.Keep(r.Target, r.res.Result.Before)
	if err != nil {
		return err
	}

	r.restorable(file)
	r.Stage("backup", "the former configuration is in %s", file)

	return r.kept.Write(r.Target, recordName, record{File: file, Sent: string(r.res.Result.Text), Before: r.before, Known: r.known})
}

func (r *run) restorable(file string) {
	r.res.RestoreFile, r.res.RestoreCommand = file, machineconfig.RestoreCommand(r.Target, file)
}

// give sends a configuration once and reads it back, without a reboot.
func (r *run) give(ctx context.Context, text []byte, dryRun bool) error {
	did, err := machineconfig.Within(ctx, &r.Run, r.n, text, machineconfig.ApplyOptions{
		Mode: talos.ApplyNoReboot, TryTimeout: tryTimeout, RebootTimeout: r.s.o.ReadyTimeout, ReadyTimeout: r.s.o.ReadyTimeout, DryRun: dryRun,
	})
	if err != nil {
		r.Status = did.Status
	}

	if did.Status == runbook.Refused && did.RebootNeeded {
		r.Rec.Hint = "the migration needs a reboot of this node: write the configuration with --output-dir, and apply it with `talosmate machineconfig apply --mode auto`"
	}

	return err
}

// send gives the node the migrated configuration. Where it was not taken, nothing is left of the attempt.
func (r *run) send(ctx context.Context) error {
	err := r.give(ctx, r.res.Result.Text, false)

	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case r.Status == runbook.NodeLost: // it has answered, and does not show it
		r.Status = runbook.Unfinished

		return r.restore(ctx, err)
	case r.Status == runbook.Unknown:
		r.Rec.Hint = "run the same command again: it verifies the node if the configuration arrived; the way back is " + r.res.RestoreCommand

		return err
	default:
		r.Sent = false

		return errors.Join(err, r.kept.Remove(r.Target, recordName))
	}
}

// check proves that the node makes the same of the migrated configuration as of the former one. Otherwise it gets that back.
func (r *run) check(ctx context.Context) error {
	r.Stage("verify", "comparing what the node makes of both configurations, for at most %s", r.s.o.ReadyTimeout)

	found, err := r.await(ctx)
	r.res.Equivalence = found

	switch {
	case err == nil:
	case ctx.Err() != nil:
		return err
	default:
		return r.restore(ctx, err)
	}

	r.right = true
	r.Stage("verify", "the node makes the same of both: %d values", found.Values)

	return r.kept.Remove(r.Target, recordName)
}

// await waits until the node is healthy and the same as before, and stays so. A control plane's API server that is
// rendered again is waited for until it was restarted.
func (r *run) await(ctx context.Context) (*Equivalence, error) {
	var (
		last        *Equivalence
		began       = r.Now()
		right, diff time.Time // Since when it has been right, or different.
	)

	limit := r.s.o.ReadyTimeout + max(r.s.o.SettleTime, restartWithin) + runbook.ShownWithin

	err := poll.Until(ctx, r.Target.Name()+" to be as before", probe.VerifyPoll, limit, func(ctx context.Context) (bool, string, error) {
		now, seen, err := r.observed(ctx)
		if seen.found != nil {
			last = seen.found
		}

		switch {
		case err == nil && seen.found != nil && len(seen.found.Differences) == 0:
			diff = time.Time{}
		case err == nil && seen.found != nil && diff.IsZero():
			diff = now
		}

		if err != nil || seen.problem != "" || !diff.IsZero() {
			right = time.Time{}
		} else if right.IsZero() {
			right = now
		}

		switch {
		case !diff.IsZero() && now.Sub(diff) >= runbook.ShownWithin:
			return false, "", errDiffers(last.Differences)
		case !right.IsZero():
			return now.Sub(right) >= seen.settle, "it is as before", nil
		case now.Sub(began) >= r.s.o.ReadyTimeout && err != nil:
			return false, "", err
		case now.Sub(began) >= r.s.o.ReadyTimeout && seen.problem != "":
			return false, "", errs.New(errs.Failed, "after %s %s", r.s.o.ReadyTimeout, seen.problem)
		case err != nil:
			return false, err.Error(), nil
		case !diff.IsZero():
			return false, errDiffers(last.Differences).Error(), nil
		default:
			return false, seen.problem, nil
		}
	})

	return last, err
}

// errDiffers names what a node makes of the migrated configuration and did not of the former one.
func errDiffers(paths []string) error {
	return errs.New(errs.Failed, "the node does not make the same of the migrated configuration: %s", lists.First(paths, 5))
}

// seen is one look at a node after the change.
type seen struct {
	found   *Equivalence
	problem string        // What is not ready.
	settle  time.Duration // How long it must stay so.
}

func (r *run) observed(ctx context.Context) (time.Time, seen, error) {
	out := seen{settle: r.s.o.SettleTime}

	after, err := look(ctx, r.n.Change)
	if err != nil {
		return r.Now(), out, err
	}

	out.found = r.before.compare(after)

	status, err := r.n.Change.MachineStatus(ctx)
	if err != nil {
		return r.Now(), out, err
	}

	if !status.SettledBut(r.known) {
		out.problem = "the node is not healthy: " + status.String()
	}

	if r.n.ControlPlane {
		ready, started, err := apiServerStatus(ctx, r.n.Change)

		switch {
		case err != nil:
			out.problem = err.Error()
		case !ready:
			out.problem = apiServerID + " is not ready"
		case after.Render != r.before.Render && (started == "" || started == r.before.Started):
			out.settle = max(out.settle, restartWithin) // it is about to be restarted
		case r.s.held != nil: // its pod has no probes, and is ready before it answers
			if err = r.s.held.Answers(ctx); err != nil {
				out.problem = "the Kubernetes API does not answer: " + err.Error()
			}
		}
	}

	return r.Now(), out, nil
}

// restore gives the node its former configuration back, from the file, and proves that it is as before.
func (r *run) restore(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return cause
	}

	r.back = true
	r.Stage("restore", "restoring the former configuration: %v", cause)

	err := r.giveBack(ctx)
	if ctx.Err() != nil {
		return errors.Join(cause, err)
	}

	if err == nil {
		r.Sent, r.back, r.res.Restored = false, false, true
		r.Rec.Hint = "the node has its former configuration, and is as before; nodes after it were not begun"

		return errors.Join(r.Fail(runbook.RolledBack, "%w", cause), r.kept.Remove(r.Target, recordName))
	}

	s := runbook.VerifyFailed
	if errs.ExitCode(err) == errs.Unknown {
		s = runbook.Unknown
	}

	r.Rec.Hint = "check the node, and restore its former configuration with " + r.res.RestoreCommand

	return r.Fail(s, "%w; restoring the former configuration: %w", cause, err)
}

func (r *run) giveBack(ctx context.Context) error {
	text, err := fsutil.ReadFile(r.res.RestoreFile, fsutil.MaxText)
	if err != nil {
		return err
	}

	// It is the cluster's own configuration: a discovery that knows less must not keep it from the node.
	chosen := r.Overrides
	r.Overrides = append(slices.Clone(chosen), string(gate.DiscoveryPartial))
	err = r.give(ctx, text, false)
	r.Overrides, r.Rec.Hint = chosen, ""

	if err != nil {
		return err
	}

	r.Status = runbook.Unfinished
	r.Stage("restore", "the node has its former configuration: comparing, for at most %s", r.s.o.ReadyTimeout)

	_, err = r.await(ctx)

	return err
}

// NotBegun lists the names of the nodes that were not begun.
func NotBegun(all []Outcome) []string {
	left := lists.Filter(all, func(o Outcome) bool { return o.Status == runbook.NotStarted })

	return lists.Map(left, func(o Outcome) string { return o.Target.Name() })
}
