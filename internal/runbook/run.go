package runbook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/talos"
)

// UndoWithin is how long each undo may take after an operation was interrupted or failed.
const UndoWithin = time.Minute

// Stage is one step of an operation.
type Stage struct {
	Time           time.Time `json:"time"`            // When it began.
	Stage          string    `json:"stage"`           // preflight, pull, cordon, drain, etcd, install, apply, the action, wait, verify, uncordon or kubernetes.
	Message        string    `json:"message"`         // What happened.
	ElapsedSeconds float64   `json:"elapsed_seconds"` // Since the operation on this node began.
}

// Record is what every operation on a node records; its document embeds it.
type Record struct {
	Gates           []gate.Verdict `json:"gates"`                      // The verdicts of all gates; never null.
	OverriddenGates []string       `json:"overridden_gates,omitempty"` // The gates that were overridden.
	Stages          []Stage        `json:"stages"`                     // What happened, in order; never null.
	AnswerLost      bool           `json:"answer_lost,omitempty"`      // Whether the answer was lost and the state read back.
	Error           string         `json:"error,omitempty"`            // What failed.
	Hint            string         `json:"hint,omitempty"`             // What to do next.
	ElapsedSeconds  float64        `json:"elapsed_seconds"`            // How long the operation took.
}

// NewRecord returns a record in which nothing has happened yet.
func NewRecord() Record { return Record{Gates: []gate.Verdict{}, Stages: []Stage{}} }

// Locks keep two runs on this machine apart by name; Notes are some.
type Locks interface {
	Lock(name string) (release func(), err error)
}

// Run is one operation on one node while it is carried out: it records stages and gates, and settles status, hint
// and exit code at the end. The zero values of the optional fields do nothing.
type Run struct {
	Verb      string // In errors: "cannot VERB NODE: …".
	Target    talos.Target
	Overrides gate.Overrides
	Sink      progress.Sink
	Now       func() time.Time
	Begin     func() // Optional: called once, before the first change.
	Locks     Locks  // Optional: keep other runs on this machine away from the node.

	// Left says what an interruption leaves behind.
	Left func() string
	// Summary is the last progress message of a run that succeeded.
	Summary func() string

	Status Status
	Rec    *Record
	Undo   Undo

	Sent  bool      // Whether the request that all is about was sent, by this run or an earlier one.
	Asked time.Time // When this run sent it.

	started time.Time
	changed bool
	release func() // Ends what Exclusive began.
}

// Start notes the time that stages are counted from.
func (r *Run) Start() { r.started = r.Now() }

// Elapsed is the time since the start, rounded to milliseconds.
func (r *Run) Elapsed() float64 { return Seconds(r.Now().Sub(r.started)) }

// Seconds rounds a duration to milliseconds.
func Seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// Stage records a step and reports it.
func (r *Run) Stage(name, format string, args ...any) {
	now, message := r.Now(), fmt.Sprintf(format, args...)
	r.Rec.Stages = append(r.Rec.Stages, Stage{Time: now.UTC(), Stage: name, Message: message, ElapsedSeconds: Seconds(now.Sub(r.started))})
	r.Tell(name, message)
}

// Tell reports progress that is not recorded.
func (r *Run) Tell(stage, message string) { r.Progress(progress.Event{Stage: stage, Message: message}) }

// Progress reports an event about the node.
func (r *Run) Progress(e progress.Event) {
	e.Time, e.Node = r.Now(), r.Target.Name()
	r.Sink.Emit(e)
}

// Fail sets the status and returns the error that says so.
func (r *Run) Fail(s Status, format string, args ...any) error {
	r.Status = s

	return fmt.Errorf("cannot %s %s: %w", r.Verb, r.Target.Name(), fmt.Errorf(format, args...))
}

// Check applies the overrides to verdicts, records and reports them. A verdict that still refuses sets the status to
// Refused and is returned as its error.
func (r *Run) Check(verdicts ...gate.Verdict) error {
	err := gate.Apply(verdicts, r.Overrides)
	r.Rec.Gates = append(r.Rec.Gates, verdicts...)

	for _, v := range verdicts {
		switch v.Verdict {
		case gate.Warn:
			r.Stage("preflight", "warning (%s): %s", v.Gate, v.Message)
		case gate.Overridden:
			r.Rec.OverriddenGates = append(r.Rec.OverriddenGates, string(v.Gate))
			r.Stage("preflight", "gate %s overridden: %s", v.Gate, v.Message)
		case gate.Pass, gate.Refuse, gate.Skip:
		}
	}

	if err != nil {
		r.Status = Refused
	}

	return err
}

// Recheck applies gates that were checked before. Their verdicts are recorded only when one refuses now.
func (r *Run) Recheck(verdicts ...gate.Verdict) error {
	err := gate.Apply(verdicts, r.Overrides)
	if err != nil {
		r.Rec.Gates = append(r.Rec.Gates, verdicts...)
		r.Status = Refused
	}

	return err
}

// Planned ends a dry run.
func (r *Run) Planned() error {
	r.Status = Planned
	r.Stage("preflight", "dry run: nothing is done")

	return nil
}

// Exclusive keeps other runs on this machine from changing the node until this one finishes. A node that another run is
// changing is refused (TM143).
func (r *Run) Exclusive(context.Context) error {
	if r.Locks == nil {
		return nil
	}

	release, err := r.Locks.Lock(r.Target.Address)
	if err != nil {
		r.Status = Refused

		return gate.New(gate.LockHeld, gate.Refuse, r.Target.Address, "another run of talosmate on this machine is changing %s", r.Target.Name()).
			WithRemedy("wait until it has ended").Refusal()
	}

	r.release = release

	return nil
}

// BeforeChange is called right before a request that changes something.
func (r *Run) BeforeChange() {
	if !r.changed && r.Begin != nil {
		r.Begin()
	}

	r.changed = true
}

// Finish settles the record and returns the error with the exit code of the status. Nothing that was observed is
// lost, however it ended.
func (r *Run) Finish(ctx context.Context, err error) error {
	if r.release != nil {
		r.release()
	}

	if err != nil {
		r.Rec.Error = err.Error()

		if r.Status == Unfinished {
			r.Status = Failed
		}

		if ctx.Err() != nil {
			r.Status, r.Rec.Hint = Interrupted, r.Left()
		}
	}

	if hints := errs.Hints(err); r.Rec.Hint == "" && len(hints) > 0 {
		r.Rec.Hint = hints[0]
	}

	r.Rec.ElapsedSeconds = r.Elapsed()

	message := r.Rec.Error
	if err == nil && r.Summary != nil {
		message = r.Summary()
	}

	r.Progress(progress.Event{Stage: string(r.Status), Message: message, Done: true, Failed: err != nil})

	return Typed(err, r.Status, r.Rec.Hint, r.Target)
}

// Typed gives an error the node, the hint and the exit code of a status. Where nothing was decided the exit code and
// kind of the cause are kept.
func Typed(err error, s Status, hint string, t talos.Target) error {
	if err == nil {
		return nil
	}

	var inner *errs.Error

	out := &errs.Error{Exit: s.Exit(), Node: t.Address, Hostname: t.Hostname, Hint: hint, Err: err}
	if errors.As(err, &inner) {
		out.GRPCCode, out.Gate, out.Retryable = inner.GRPCCode, inner.Gate, inner.Retryable

		if out.Exit == errs.Refused || out.Exit == errs.Failed {
			out.Kind = inner.Kind
		}

		if s.undecided() && (s != PullFailed || inner.Exit != errs.Unknown) { // a pull may always be repeated
			out.Exit = inner.Exit
		}
	}

	if out.Exit == errs.OK {
		out.Exit = errs.Failed
	}

	return out
}

// Steps carries out steps in order, until one fails or settles the status. When all are done the status is OK. A step that
// panics fails, so that what was begun is undone; the outcome is unknown if something may have been changed.
func (r *Run) Steps(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		err := errs.Safely(func() error { return step(ctx) })

		var panicked *errs.Panic
		if errors.As(err, &panicked) && r.Status == Unfinished {
			err = r.panicked(err)
		}

		if err != nil || r.Status != Unfinished {
			return err
		}
	}

	r.Status = OK

	return nil
}

// panicked settles a run in which a step panicked.
func (r *Run) panicked(err error) error {
	if !r.changed && !r.Sent {
		return r.Fail(Failed, "%w", err)
	}

	r.Rec.Hint = "read the state back before you repeat the change"

	return r.Fail(Unknown, "%w", err)
}
