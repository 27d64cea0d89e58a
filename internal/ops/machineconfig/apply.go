package machineconfig

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/validate"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// Machine is what is asked of a node; *talos.Node is one.
type Machine interface {
	boot.Machine
	Version(ctx context.Context) (talos.Version, error)
	MachineConfig(ctx context.Context) ([]byte, error)
	PersistedConfig(ctx context.Context) (text []byte, known bool, err error)
	ApplyConfig(ctx context.Context, text []byte, mode string, tryTimeout time.Duration, dryRun bool) (talos.Applied, error)
}

// Site is the cluster around the node that is configured.
type Site struct {
	Target       talos.Target
	Via          Machine                                  // By way of the endpoints, never the node itself if that can be helped.
	Fresh        func() (Machine, func() error)           // The node itself over a connection of its own.
	Etcd         func(context.Context) (etcd.View, error) // All control planes' etcd.
	ControlPlane bool
	Maintenance  bool // The node is in maintenance mode: it has no configuration yet.
	// Joined waits until a node that left maintenance mode is well, where it can be asked: nil without the
	// credentials of the cluster that its configuration is of. What keeps it from being waited for is told.
	Joined func(ctx context.Context, deadline time.Duration) (joined bool, why string, err error)
	Now    func() time.Time
	Tell   progress.Sink
	Begin  func() // Called before the request that changes something.
}

// ApplyOptions are what the user decides.
type ApplyOptions struct {
	Mode         string        // auto, no-reboot, reboot, staged or try.
	TryTimeout   time.Duration // After which a try reverts by itself.
	Wait         bool          // For a reboot, and for the node to be well after it.
	BootTimeout  time.Duration
	ReadyTimeout time.Duration
	ShowSecrets  bool
	DryRun       bool
	Overrides    gate.Overrides
}

// Statuses of an application.
const (
	StatusPlanned     = "planned"
	StatusUnchanged   = "unchanged"   // The node has this configuration already; nothing was sent.
	StatusApplied     = "applied"     // In force, and read back.
	StatusStaged      = "staged"      // In force after the next reboot.
	StatusTrying      = "trying"      // In force until it reverts by itself.
	StatusRebooted    = "rebooted"    // In force after the reboot that it needed.
	StatusRebooting   = "rebooting"   // The node reboots; not waited for.
	StatusInstall     = "installing"  // A node in maintenance mode took it and installs; not waited for.
	StatusConfigured  = "configured"  // A node that was in maintenance mode runs with it; whether it is well was not asked.
	StatusJoined      = "joined"      // A node that was in maintenance mode runs with it, and is well.
	StatusNotStarted  = "not_started" // A node before it failed or was interrupted; nothing was sent.
	StatusInterrupted = "interrupted" // The user interrupted it; the hint says what is left.
	StatusRefused     = "refused"
	StatusFailed      = "failed"
	StatusLost        = "lost"    // It did not come back, or is not well.
	StatusUnknown     = "unknown" // The answer was lost and the outcome could not be read back.
)

// Applied is what became of a configuration on one node.
type Applied struct {
	talos.NodeRef

	Status          string         `json:"status"`                   // planned, unchanged, applied, staged, trying, rebooted, rebooting, installing, configured, joined, refused, failed, lost, unknown, interrupted or not_started.
	DryRun          bool           `json:"dry_run"`                  // Whether nothing was to be done.
	Mode            string         `json:"mode"`                     // The mode that was asked for.
	AppliedMode     string         `json:"applied_mode"`             // What the node did, or would do: no-reboot, reboot, staged or try.
	RebootNeeded    bool           `json:"reboot_needed"`            // Whether the change needs a reboot to be in force.
	Details         string         `json:"details"`                  // The node's words.
	Warnings        []string       `json:"warnings"`                 // What the validator or the node found doubtful; never null.
	Changes         []Change       `json:"changes"`                  // The difference to what the node has; never null. Empty for a node in maintenance mode.
	RevertsAt       *time.Time     `json:"reverts_at,omitempty"`     // When a try reverts by itself.
	BootIDBefore    string         `json:"boot_id_before,omitempty"` // The boot before, where a reboot was waited for.
	BootIDAfter     string         `json:"boot_id_after,omitempty"`  // The boot after.
	DowntimeSeconds float64        `json:"downtime_seconds"`         // How long the Talos API was away.
	Gates           []gate.Verdict `json:"gates"`                    // What the gates said; never null.
	AnswerLost      bool           `json:"answer_lost,omitempty"`    // Whether the answer was lost and the state read back.
	ElapsedSeconds  float64        `json:"elapsed_seconds"`          // How long it took.
}

// application is one configuration on its way to one node.
type application struct {
	s    Site
	o    ApplyOptions
	res  Applied
	text []byte
	want Config

	before   talos.Boot
	sent     bool
	answered bool // The node has said that it has it.
	runs     bool // A node that was in maintenance mode runs with it.
}

// NotStarted is the row of a node that was not come to.
func NotStarted(t talos.Target, o ApplyOptions) Applied {
	res := newApplied(t, o)
	res.Status = StatusNotStarted

	return res
}

func newApplied(t talos.Target, o ApplyOptions) Applied {
	res := Applied{DryRun: o.DryRun, Mode: o.Mode, Status: StatusFailed, Warnings: []string{}, Changes: []Change{}, Gates: []gate.Verdict{}}
	res.SetNode(t)

	return res
}

// Apply validates a configuration, compares it with what the node has, asks the gates, sends it once and
// looks what became of it. A configuration that Talos's own validator rejects is never sent: that is a usage
// error with the lines. The result holds what was seen, whatever the end.
func Apply(ctx context.Context, s Site, text []byte, o ApplyOptions) (Applied, error) {
	started := s.Now()
	a := &application{s: s, o: o, text: text, res: newApplied(s.Target, o)}

	err := a.run(ctx)
	a.res.ElapsedSeconds = s.Now().Sub(started).Seconds()

	if err != nil && ctx.Err() != nil {
		a.res.Status = StatusInterrupted
		err = &errs.Error{
			Exit: errs.Interrupted, Node: s.Target.Address, Hostname: s.Target.Hostname, Hint: a.leftovers(),
			Err: fmt.Errorf("cannot apply the machine configuration on %s: %w", s.Target.Name(), context.Cause(ctx)),
		}
	}

	return a.res, err
}

// leftovers says what an interruption leaves on the node.
func (a *application) leftovers() string {
	switch {
	case !a.sent:
		return "the node was left as it was"
	case a.runs:
		return "the node runs with the configuration; whether it is well was not seen to the end"
	case a.res.BootIDAfter != "":
		return "the node has rebooted with the configuration; whether it is well was not seen to the end"
	case !a.answered && a.s.Maintenance:
		return "the configuration was sent, and not answered: look whether the node installs before you send it again"
	case !a.answered && a.o.Mode == talos.ApplyTry:
		return fmt.Sprintf("the configuration was sent, and not answered: if it arrived, it reverts by itself %s after that", a.o.TryTimeout)
	case !a.answered && a.o.Mode == talos.ApplyStaged:
		return "the configuration was sent, and not answered: if it arrived, it is in force after the next reboot"
	case !a.answered:
		return "the configuration was sent, and not answered: `talosmate machineconfig diff` says whether the node has it"
	case a.o.Mode == talos.ApplyTry:
		return fmt.Sprintf("the configuration was sent, and reverts by itself %s after that", a.o.TryTimeout)
	case a.s.Maintenance:
		return "the configuration was sent: the node installs and boots with it"
	case a.o.Mode == talos.ApplyStaged:
		return "the configuration was sent, and is in force after the next reboot"
	case a.before.ID != "":
		return "the configuration was sent, and the node reboots with it"
	default:
		return "the configuration was sent: `talosmate machineconfig diff` says whether the node has it"
	}
}

func (a *application) run(ctx context.Context) error {
	version, err := a.s.Via.Version(ctx)
	if err != nil {
		return err
	}

	if err = a.validate(version); err != nil {
		return err
	}

	if !a.s.Maintenance {
		if err = a.compare(ctx); err != nil || a.res.Status == StatusUnchanged {
			return err
		}

		if err = a.preview(ctx); err != nil {
			return err
		}
	} else if a.o.DryRun && release.Newer(version.Tag) { // nobody else has judged it
		if err = a.preview(ctx); err != nil {
			return err
		}
	}

	if err = a.gates(ctx); err != nil {
		a.res.Status = StatusRefused

		return err
	}

	if a.o.DryRun {
		a.res.Status = StatusPlanned

		return nil
	}

	return a.send(ctx)
}

func (a *application) validate(version talos.Version) error {
	var err error
	if a.want, err = Parse(a.text); err != nil {
		return err
	}

	// A fragment is not judged by itself: the gate says what it is.
	if !a.want.Full() && !a.s.Maintenance {
		return nil
	}

	warnings, err := Judge(a.text, version)
	a.res.Warnings = append(a.res.Warnings, warnings...)

	return err
}

// Judge asks Talos's own validator about a whole configuration for a node of a version and platform. A
// configuration that is not valid is a usage error with the lines. That of a Talos that is newer than the
// validator is not judged here but by the node, with a warning.
func Judge(text []byte, version talos.Version) (warnings []string, err error) {
	kind := "metal"

	switch version.Platform {
	case "container":
		kind = "container"
	case "", "metal":
	default:
		kind = "cloud"
	}

	verdict := validate.Config(text, kind, false)
	for _, w := range verdict.Warnings {
		warnings = append(warnings, problem(w))
	}

	if verdict.Valid {
		return warnings, nil
	}

	if release.Newer(version.Tag) {
		return append(warnings, fmt.Sprintf("this program knows machine configurations up to Talos %s, and leaves the verdict to the node, which runs %s (%s)",
			release.Known(), version.Tag, problem(verdict.Errors[0]))), nil
	}

	lines := make([]string, len(verdict.Errors))
	for i, p := range verdict.Errors {
		lines[i] = problem(p)
	}

	return warnings, errs.Usagef("the machine configuration is not valid: %s", strings.Join(lines, "; ")).
		WithHint("nothing was sent; `talosmate validate` says the same without a node")
}

func problem(p validate.Problem) string {
	if p.Line > 0 {
		return fmt.Sprintf("line %d: %s", p.Line, p.Message)
	}

	return p.Message
}

func (a *application) compare(ctx context.Context) error {
	text, err := a.s.Via.MachineConfig(ctx)
	if err != nil {
		return err
	}

	have, err := Parse(text)
	if err != nil {
		return errs.New(errs.Failed, "cannot read the machine configuration of %s: %s", a.s.Target.Name(), err.Error())
	}

	if !a.want.Full() {
		return nil
	}

	a.res.Changes = Diff(have, a.want, a.o.ShowSecrets)
	if len(a.res.Changes) > 0 || a.o.Mode == talos.ApplyReboot {
		return nil
	}

	// What is active may be on trial, and then goes by itself; applying it again keeps it.
	kept, err := a.persisted(ctx, a.s.Via)
	if kept {
		a.res.Status, a.res.Details = StatusUnchanged, "the node has this configuration already"
	}

	return err
}

// persisted says whether the node's next boot will find the wanted configuration; false where the node does
// not tell.
func (a *application) persisted(ctx context.Context, n Machine) (bool, error) {
	text, known, err := n.PersistedConfig(ctx)
	if err != nil || !known {
		return false, err
	}

	have, err := Parse(text)
	if err != nil {
		return false, errs.New(errs.Failed, "cannot read the machine configuration of %s: %s", a.s.Target.Name(), err.Error())
	}

	return len(Diff(have, a.want, false)) == 0, nil
}

// preview asks the node whether a reboot is needed. It asks by a dry run in mode try, whatever the mode: in
// any other mode even a dry run ends a try that is running on the node, and keeps what was on trial.
func (a *application) preview(ctx context.Context) error {
	if !a.want.Full() {
		return nil
	}

	answer, err := a.s.Via.ApplyConfig(ctx, a.text, talos.ApplyTry, time.Minute, true)
	if talos.Transient(err) && ctx.Err() == nil { // a question may be repeated
		answer, err = a.s.Via.ApplyConfig(ctx, a.text, talos.ApplyTry, time.Minute, true)
	}

	switch {
	case talos.NeedsReboot(err):
		a.res.RebootNeeded = true
	case err != nil:
		return Hidden(err, a.text)
	}

	a.res.Warnings = append(a.res.Warnings, answer.Warnings...)

	switch a.o.Mode {
	case talos.ApplyAuto:
		a.res.AppliedMode = talos.ApplyNoReboot
		if a.res.RebootNeeded {
			a.res.AppliedMode = talos.ApplyReboot
		}
	case talos.ApplyNoReboot, talos.ApplyTry:
		if a.res.RebootNeeded {
			a.res.Status = StatusRefused

			return errs.New(errs.Refused, "cannot apply the machine configuration on %s: the change needs a reboot, and mode %s does none", a.s.Target.Name(), a.o.Mode).
				WithHint("use --mode auto or reboot, or staged for the next reboot")
		}

		a.res.AppliedMode = a.o.Mode
	default:
		a.res.AppliedMode = a.o.Mode
	}

	return nil
}

func (a *application) gates(ctx context.Context) error {
	node := a.s.Target.Address

	if !a.want.Full() && !a.s.Maintenance {
		a.res.Gates = append(a.res.Gates, gate.New(gate.NotFullConfig, gate.Refuse, node, "this is not a full machine configuration: the v1alpha1 document is missing, and the node would lose what it holds").
			WithRemedy("to change a part of what the node has: talosmate machineconfig patch"))
	}

	if a.res.AppliedMode == talos.ApplyReboot && a.s.ControlPlane {
		view, err := a.s.Etcd(ctx)
		if err != nil {
			return err
		}

		a.res.Gates = append(a.res.Gates, view.Check(etcd.Restart, a.s.Target)...)
	}

	return gate.Apply(a.res.Gates, a.o.Overrides)
}

func (a *application) witness() boot.Witness[Machine] {
	return boot.Witness[Machine]{Name: a.s.Target.Name(), Via: a.s.Via, Fresh: a.s.Fresh, Now: a.s.Now}
}

func (a *application) tell(stage, format string, args ...any) {
	a.s.Tell.Emit(progress.Event{Time: a.s.Now(), Node: a.s.Target.Name(), Stage: stage, Message: fmt.Sprintf(format, args...)})
}

func (a *application) send(ctx context.Context) error {
	reboots := a.res.AppliedMode == talos.ApplyReboot && !a.s.Maintenance

	if reboots {
		var err error
		if a.before, err = a.s.Via.Boot(ctx); err != nil {
			return err
		}

		a.res.BootIDBefore = a.before.ID
	}

	asked := a.s.Now()

	var answer talos.Applied

	sent := runbook.Request{Limit: min(runbook.AnswerWithin, a.o.BootTimeout), Begin: a.s.Begin, Send: func(ctx context.Context) (err error) {
		a.tell("apply", "applying (%s)", a.o.Mode)

		answer, err = a.s.Via.ApplyConfig(ctx, a.text, a.o.Mode, a.o.TryTimeout, false)

		return err
	}}.Once(ctx)

	a.sent, a.answered = sent.Answer != runbook.NotSent, sent.Answer == runbook.Accepted

	switch {
	case a.answered:
		a.res.Details, a.res.Warnings = answer.Details, append(a.res.Warnings, answer.Warnings...)
		// The node has the last word: what it did may not be what the preview said.
		a.res.AppliedMode = answer.Mode
		reboots = reboots || (answer.Mode == talos.ApplyReboot && !a.s.Maintenance)
	case ctx.Err() != nil || sent.Answer != runbook.Lost:
		return Hidden(withoutDiff(sent.Err), a.text)
	default:
		a.res.AnswerLost = true
		a.tell("apply", "the answer was lost: reading the state back")
	}

	return a.see(ctx, asked, reboots, sent.Err)
}

// withoutDiff keeps the diff in a refusal, which can show secrets, from being shown.
func withoutDiff(err error) error {
	if !talos.NeedsReboot(err) {
		return err
	}

	text, _, _ := strings.Cut(err.Error(), "\ndiff:")

	var typed *errs.Error
	if errors.As(err, &typed) {
		out := *typed
		out.Err = errors.New(text)

		return &out
	}

	return errors.New(text)
}

// see looks what became of it. cause is the lost answer's error, nil when there was an answer.
func (a *application) see(ctx context.Context, asked time.Time, reboots bool, cause error) error {
	switch {
	case a.s.Maintenance:
		return a.awaitInstalled(ctx, cause)
	case a.o.Mode == talos.ApplyStaged && cause == nil:
		a.res.Status = StatusStaged

		return nil
	case a.o.Mode == talos.ApplyStaged:
		if kept, err := a.persisted(ctx, a.s.Via); err != nil || !kept {
			return a.unknown(cause)
		}

		a.res.Status = StatusStaged

		return nil
	case reboots && !a.o.Wait && cause == nil:
		a.res.Status = StatusRebooting

		return nil
	case reboots:
		if err := a.awaitBoot(ctx, asked, cause); err != nil {
			return err
		}
	}

	if err := a.readBack(ctx, cause); err != nil {
		return err
	}

	switch {
	case reboots:
		a.res.Status = StatusRebooted
	case a.o.Mode == talos.ApplyTry:
		reverts := asked.Add(a.o.TryTimeout).UTC()
		a.res.Status, a.res.RevertsAt = StatusTrying, &reverts
	default:
		a.res.Status = StatusApplied
	}

	return nil
}

func (a *application) unknown(cause error) error {
	a.res.Status = StatusUnknown

	return runbook.Unknown("whether the configuration arrived could not be read back: check the node before you send it again", cause)
}

func (a *application) awaitBoot(ctx context.Context, asked time.Time, cause error) error {
	limit, seen := a.o.BootTimeout, a.witness()
	if cause != nil {
		seen = boot.Doubting(seen, a.before, runbook.ShownWithin)
	}

	a.tell("wait", "waiting for a new boot, for at most %s", limit)

	back, err := seen.AwaitNew(ctx, a.before, asked, limit)
	a.answered = a.answered || !seen.Doubted()

	switch {
	case err == nil:
	case errors.Is(err, boot.ErrNotBegun), ctx.Err() == nil && seen.StillDoubted(ctx):
		return a.unknown(cause)
	default:
		return a.lost(ctx, err)
	}

	a.res.BootIDAfter, a.res.DowntimeSeconds = back.Boot.ID, back.Downtime.Seconds()
	a.tell("verify", "looking what came up, for at most %s", a.o.ReadyTimeout)

	if err = boot.AwaitSettled(ctx, a.witness(), a.o.ReadyTimeout); err != nil {
		return a.lost(ctx, err)
	}

	if a.s.ControlPlane {
		if err = boot.AwaitEtcd(ctx, a.s.Target, a.s.Etcd, a.o.ReadyTimeout); err != nil {
			return a.lost(ctx, err)
		}
	}

	return nil
}

func (a *application) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}

	a.res.Status = StatusLost

	return &errs.Error{Exit: errs.Lost, Err: fmt.Errorf("cannot apply the machine configuration on %s: %w", a.s.Target.Name(), err), Hint: "look at the node's console"}
}

// readBack sees that the node has what was sent.
func (a *application) readBack(ctx context.Context, cause error) error {
	err := poll.Until(ctx, a.s.Target.Name()+" to show the configuration", boot.VerifyPoll, runbook.ShownWithin, func(ctx context.Context) (bool, string, error) {
		return a.witness().Ask(ctx, func(ctx context.Context, n Machine) (string, bool, error) {
			text, err := n.MachineConfig(ctx)
			if err != nil {
				return "", false, err
			}

			have, err := Parse(text)
			if err != nil {
				return "", false, err
			}

			left := len(Diff(have, a.want, false))

			return fmt.Sprintf("%d differences", left), left == 0, nil
		})
	})

	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case cause != nil:
		return a.unknown(cause)
	default:
		return a.lost(ctx, err)
	}
}
