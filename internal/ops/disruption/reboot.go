package disruption

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

const (
	// quorumWithin is how long etcd may take to be ready for the loss of a member: members that have just come back may
	// be holding an election.
	quorumWithin = 15 * time.Second
	// Back begins the message of the moment when a node is back.
	Back = "a new boot answers"
)

// GateBusy refuses a node that is doing something that ends with another boot (TM145): Talos accepts a second request
// and forgets it. A reboot does not wait for an installer that runs, and would tear what it writes.
func (r *Run) GateBusy(status talos.MachineStatus, installs bool) gate.Verdict {
	switch {
	case probe.Busy(status):
		return gate.New(gate.InstallRunning, gate.Refuse, r.Target.Address, "the node is busy: %s", status).WithRemedy("wait until it is running again")
	case installs:
		return gate.New(gate.InstallRunning, gate.Refuse, r.Target.Address, "an installer runs on the node").
			WithRemedy("wait until it has ended: `talosmate get servicepids -n %s` no longer lists it", r.Target.Address)
	}

	return gate.New(gate.InstallRunning, gate.Pass, r.Target.Address, "the node is not busy: %s", status)
}

// AwaitQuorum checks etcd again right before the node goes down: a drain takes time. One bad answer may be an
// election. A refusal that stays is recorded and returned.
func (r *Run) AwaitQuorum(ctx context.Context, check func(etcd.View) []gate.Verdict) (view etcd.View, err error) {
	if !r.Node.ControlPlane {
		return view, nil
	}

	var (
		verdicts []gate.Verdict
		refused  error
	)

	err = poll.Until(ctx, "etcd to do without "+r.Target.Name(), probe.VerifyPoll, quorumWithin, func(ctx context.Context) (bool, string, error) {
		var err error
		if view, err = r.Node.Etcd(ctx); err != nil {
			refused = fmt.Errorf("etcd no longer answers: %w", err)

			return false, err.Error(), nil
		}

		verdicts = check(view)

		if err = gate.Apply(verdicts, r.Overrides); err != nil {
			if refused == nil {
				r.Stage("preflight", "%v: asking again for at most %s", err, quorumWithin)
			}

			refused = fmt.Errorf("etcd has changed: %w", err)

			return false, err.Error(), nil
		}

		return true, "", nil
	})

	if err == nil || ctx.Err() != nil {
		return view, err
	}

	r.Rec.Gates = append(r.Rec.Gates, verdicts...)

	return view, refused
}

// Ask sends the one request that takes the node down, once. An answer that was lost is not an error: the waits that
// follow read the state back, within shown.
func (r *Run) Ask(ctx context.Context, limit, shown time.Duration, send func(context.Context) error) error {
	r.follow(ctx)
	r.Asked, r.Prober = r.Now(), r.Node.Prober()

	sent := runbook.Request{Limit: limit, Begin: r.BeforeChange, Send: send}.Once(ctx)
	r.Sent, r.Answered = sent.Answer != runbook.NotSent, sent.Answer == runbook.Accepted

	switch {
	case ctx.Err() != nil && sent.Err != nil:
		return context.Cause(ctx)
	case sent.Answer == runbook.Lost:
		r.Rec.AnswerLost, r.Prober = true, r.Prober.Unanswered(r.Before, shown)
		r.Stage("wait", "the answer was lost (%v): reading the state back", sent.Err)

		return nil
	default:
		return sent.Err
	}
}

// AwaitBoot waits until the node proves a new boot, and uncordons it.
func (r *Run) AwaitBoot(ctx context.Context) (probe.Return, error) {
	r.Stage("wait", "waiting for a new boot, for at most %s", r.Options.RebootTimeout)

	back, err := r.Prober.AwaitNew(ctx, r.Before, r.Asked, r.Options.RebootTimeout)
	if err != nil {
		return back, r.NotReturned(ctx, err)
	}

	r.Ended, r.Obs.Rebooted, r.Obs.BootIDAfter = r.Before, true, back.Boot.ID
	r.Obs.DowntimeSeconds += runbook.Seconds(back.Downtime)
	r.Stage("wait", Back+" after %.1f s", r.Since().Seconds())

	// Whatever follows: a node that is not Ready gets no pods.
	if r.keep != nil && r.Obs.Cordoned {
		if err := r.Uncordon(ctx); err != nil {
			r.Stage("uncordon", "%v: trying again at the end", err)
		} else {
			r.keep()
		}
	}

	return back, nil
}

// usualSilence is longer than most machines need from the end of one boot to the API of the next.
const usualSilence = 2 * time.Minute

// AwaitOff waits until the node has been silent for so long that it must be off. One that boots again is a failure: Talos
// reboots a node whose shutdown or reset fails, with all its data.
func (r *Run) AwaitOff(ctx context.Context) error {
	quiet := cmp.Or(r.Options.Silence, usualSilence)
	r.Stage("wait", "waiting until the node is off: until it has not answered for %s, for at most %s", quiet, r.Options.RebootTimeout)

	up, err := r.Prober.AwaitGone(ctx, r.Before, r.Asked, quiet, r.Options.RebootTimeout)

	switch {
	case errors.Is(err, probe.ErrBooted):
		return r.BootedAgain(err)
	case errors.Is(err, poll.ErrDeadline) && ctx.Err() == nil && !r.Prober.Still(ctx, r.Before) && !r.Prober.Unclear():
		r.Rec.Hint = "whether it is off is not known: look at its console, or give --silence a time that is longer than its boot"

		return r.Fail(runbook.Unknown, "the node has stopped answering: %w", err)
	case err != nil:
		return r.NotReturned(ctx, err)
	}

	r.Stage("wait", "the node answered last %.1f s after the request", up.Seconds())

	return nil
}

// BootedAgain is the failure of a node that was to be off, or wiped, and boots as what it was.
func (r *Run) BootedAgain(err error) error {
	text := "Talos reboots a node whose sequence fails"
	if failure := r.SequenceError(); failure != "" {
		text = failure
	}

	r.Rec.Hint = "nothing was wiped or powered off, and the node runs with its data: `" + errs.CommandLine("logs", "machined", "-n", r.Target.Name()) + "` says more"

	return r.Fail(runbook.VerifyFailed, "%w: %s", err, text)
}

// follow watches the node's events for a sequence that fails, from before the request on. Events are hints: whatever they
// say or do not say, the state is observed.
func (r *Run) follow(ctx context.Context) {
	if r.events != nil {
		return
	}

	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	first, opened, done := make(chan string, 1), make(chan struct{}), make(chan struct{})
	open := sync.OnceFunc(func() { close(opened) })

	go func() {
		defer close(done)
		defer open()

		_ = errs.Safely(func() error {
			return r.Node.Change.SequenceErrors(streamCtx, open, func(text string) {
				select {
				case first <- text:
				default: // the first says why
				}
			})
		})
	}()

	select {
	case <-opened:
	case <-time.After(probe.Limit):
	case <-ctx.Done():
	}

	r.events = sync.OnceValue(func() string {
		cancel()
		<-done

		select {
		case text := <-first:
			return text
		default:
			return ""
		}
	})
}

// SequenceError ends the event stream, and records and returns what it said of a sequence that failed.
func (r *Run) SequenceError() string {
	if r.events == nil {
		return ""
	}

	text := r.events()
	if text != "" && r.Obs.SequenceError == "" {
		r.Obs.SequenceError = text
		r.Stage("wait", "the node said: %s", text)
	}

	return text
}

// Since is the time since the request.
func (r *Run) Since() time.Duration { return r.Now().Sub(r.Asked) }

// NotReturned is the failure of a node that did not come back, or did not go off. Where the answer was lost and the
// node continues as before, the outcome is unknown: the request is never sent again, since it may still be on its way.
func (r *Run) NotReturned(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return err
	case errors.Is(err, probe.ErrNotBegun), r.Prober.StillUnclear(ctx):
		r.Rec.Hint = "the request seems not to have reached the node, and was not sent again; check the node, then run the same command again"

		return r.Fail(runbook.Unknown, "the answer was lost, and the node still runs its old boot: %w", err)
	case r.Prober.Still(ctx, r.Before):
		r.Rec.Hint = "the node still runs its old boot; `" + errs.CommandLine("logs", "machined", "-n", r.Target.Name()) + "` says what keeps it"
	default:
		r.Rec.Hint = "check the node's console"
	}

	if r.Obs.Cordoned && !r.kept {
		r.Rec.Hint += "; its cordon is lifted, and it is no longer drained"
	}

	return r.Fail(runbook.DidNotReturn, "%w", err)
}

// AwaitSettled waits until Talos runs with nothing unmet that was met before.
func (r *Run) AwaitSettled(ctx context.Context) error {
	if err := r.Prober.AwaitSettled(ctx, r.Options.ReadyTimeout, r.Known...); err != nil {
		return r.Unverified(ctx, err)
	}

	return nil
}

// Version reads the version of a node that is back. also is asked in the same breath, nil for nothing.
func (r *Run) Version(ctx context.Context, also func(context.Context, probe.API) error) (version talos.Version, err error) {
	err = r.Prober.Await(ctx, "the version", r.Options.ReadyTimeout, func(ctx context.Context, n probe.API) error {
		var err error
		if version, err = n.Version(ctx); err == nil && also != nil {
			err = also(ctx, n)
		}

		return err
	})
	if err != nil {
		return version, r.Unverified(ctx, err)
	}

	return version, nil
}

// WasNotReady reports whether the Kubernetes node was not Ready before.
func (r *Run) WasNotReady() bool { return slices.Contains(r.Known, "nodeReady") }

// AwaitEtcd waits until a control plane's member votes and knows a leader.
func (r *Run) AwaitEtcd(ctx context.Context) error {
	if !r.Node.ControlPlane {
		return nil
	}

	if err := probe.AwaitEtcd(ctx, r.Target, r.Node.Etcd, r.Options.ReadyTimeout); err != nil {
		return r.Unverified(ctx, err)
	}

	return nil
}

// AwaitKubernetes waits until the Kubernetes node is Ready in its new boot, unless it was not before.
func (r *Run) AwaitKubernetes(ctx context.Context) error {
	if r.Kube == nil {
		return nil
	}

	if r.WasNotReady() {
		r.Stage("kubernetes", "the Kubernetes node was not Ready before: it is not waited for")

		return nil
	}

	if err := probe.AwaitKubernetes(ctx, r.Kube, r.K8sName, r.Ended, r.Options.ReadyTimeout); err != nil {
		return r.Unverified(ctx, err)
	}

	return nil
}
