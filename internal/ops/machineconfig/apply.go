package machineconfig

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/ops/validate"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// Joined waits until a node that left maintenance mode is healthy. why says what keeps it from being waited for.
type Joined func(ctx context.Context, deadline time.Duration) (joined bool, why string, err error)

// ApplyOptions are what the user decides.
type ApplyOptions struct {
	Mode          string        // auto, no-reboot, reboot, staged or try.
	TryTimeout    time.Duration // After which a try reverts automatically.
	Wait          bool          // For a reboot, and for the node to be healthy after it.
	RebootTimeout time.Duration
	ReadyTimeout  time.Duration
	ShowSecrets   bool
	DryRun        bool
	Overrides     gate.Overrides
	BeforeChange  func() // Called once, before the request that changes something.
	KeepsStaged   bool   // The configuration was made from what is staged on the node.
	Maintenance   bool   // The node is in maintenance mode: it has no configuration yet.
	// Joined is nil without the credentials of the cluster that the configuration is of.
	Joined Joined
}

// Applied is what became of a configuration on one node.
type Applied struct {
	talos.NodeRef

	Status          runbook.Status `json:"status"`                   // planned, unchanged, applied, staged, trying, rebooted, rebooting, installing, configured, joined, refused, failed, lost, unknown, interrupted or not_started.
	DryRun          bool           `json:"dry_run"`                  // Whether nothing was to be done.
	Mode            string         `json:"mode"`                     // The mode that was asked for.
	AppliedMode     string         `json:"applied_mode"`             // What the node did, or would do: no-reboot, reboot, staged or try.
	RebootNeeded    bool           `json:"reboot_needed"`            // Whether the change needs a reboot to be in force.
	Details         string         `json:"details"`                  // The node's words.
	Warnings        []string       `json:"warnings"`                 // What the validator or the node found doubtful; never null.
	Changes         []Change       `json:"changes"`                  // The difference to what the node has; never null. Empty for a node in maintenance mode.
	RevertsAt       *time.Time     `json:"reverts_at,omitempty"`     // When a try reverts automatically.
	BootIDBefore    string         `json:"boot_id_before,omitempty"` // The boot before, where a reboot was waited for.
	BootIDAfter     string         `json:"boot_id_after,omitempty"`  // The boot after.
	DowntimeSeconds float64        `json:"downtime_seconds"`         // How long the Talos API was down.
	Gates           []gate.Verdict `json:"gates"`                    // What the gates said; never null.
	AnswerLost      bool           `json:"answer_lost,omitempty"`    // Whether the answer was lost and the state read back.
	ElapsedSeconds  float64        `json:"elapsed_seconds"`          // How long it took.
}

// application is one configuration on its way to one node.
type application struct {
	runbook.Run

	n    *probe.Node
	o    ApplyOptions
	res  Applied
	text []byte
	want Config
	have Config // What the node runs with; empty in maintenance mode.

	before   talos.Boot
	sent     bool
	answered bool // The node has answered that it has it.
	runs     bool // A node that was in maintenance mode runs with it.
}

// NotStarted is the row of a node that was not reached.
func NotStarted(t talos.Target, o ApplyOptions) Applied {
	res := newApplied(t, o)
	res.Status = runbook.NotStarted

	return res
}

func newApplied(t talos.Target, o ApplyOptions) Applied {
	res := Applied{DryRun: o.DryRun, Mode: o.Mode, Status: runbook.Failed, Warnings: []string{}, Changes: []Change{}, Gates: []gate.Verdict{}}
	res.SetNode(t)

	return res
}

// Apply validates a configuration, compares it with what the node has, checks the gates, sends it once and observes the
// result. A configuration that Talos's own validator rejects is never sent: that is a usage error with the lines. The
// result holds what was observed, also on error.
func Apply(ctx context.Context, n *probe.Node, text []byte, o ApplyOptions, sink progress.Sink) (Applied, error) {
	rec := runbook.NewRecord()
	a := &application{n: n, o: o, text: text, res: newApplied(n.Target, o)}
	a.Verb, a.Target, a.Now, a.Sink, a.Rec = "apply the machine configuration on", n.Target, n.Now, sink, &rec
	a.Overrides, a.Begin, a.Left = o.Overrides, o.BeforeChange, a.leftovers
	a.Start()

	err := a.Steps(ctx, a.run)
	if err != nil && ctx.Err() != nil {
		err = a.Fail(runbook.Interrupted, "%w", context.Cause(ctx))
	}

	err = a.Finish(ctx, err)
	a.res.Status, a.res.Gates, a.res.AnswerLost, a.res.ElapsedSeconds = a.Status, rec.Gates, rec.AnswerLost, rec.ElapsedSeconds

	return a.res, err
}

// Within applies a configuration as a part of another run on the node, whose overrides count. Its gates and a lost answer are
// noted in that run's record.
func Within(ctx context.Context, r *runbook.Run, n *probe.Node, text []byte, o ApplyOptions) (Applied, error) {
	o.Overrides = r.Overrides
	o.BeforeChange = func() {
		r.Sent, r.Asked = true, r.Now()
		r.BeforeChange()
	}

	did, err := Apply(ctx, n, text, o, progress.Part{Sink: r.Sink})

	r.Rec.Gates = append(r.Rec.Gates, did.Gates...)
	r.Rec.AnswerLost = r.Rec.AnswerLost || did.AnswerLost

	return did, err
}

// leftovers says what an interruption leaves on the node.
func (a *application) leftovers() string {
	switch {
	case !a.sent:
		return "the node was left as it was"
	case a.runs:
		return "the node runs with the configuration; its verification was interrupted"
	case a.res.BootIDAfter != "":
		return "the node has rebooted with the configuration; its verification was interrupted"
	case !a.answered && a.o.Maintenance:
		return "the configuration was sent and not answered: check whether the node installs before you send it again"
	case !a.answered && a.o.Mode == talos.ApplyTry:
		return fmt.Sprintf("the configuration was sent and not answered: if it arrived, it reverts automatically %s after that", a.o.TryTimeout)
	case !a.answered && a.o.Mode == talos.ApplyStaged:
		return "the configuration was sent and not answered: if it arrived, it is in force after the next reboot"
	case !a.answered:
		return "the configuration was sent and not answered: `talosmate machineconfig diff` shows whether the node has it"
	case a.o.Mode == talos.ApplyTry:
		return fmt.Sprintf("the configuration was sent, and reverts automatically %s after that", a.o.TryTimeout)
	case a.o.Maintenance:
		return "the configuration was sent: the node installs and boots with it"
	case a.o.Mode == talos.ApplyStaged:
		return "the configuration was sent, and is in force after the next reboot"
	case a.before.ID != "":
		return "the configuration was sent, and the node reboots with it"
	default:
		return "the configuration was sent: `talosmate machineconfig diff` shows whether the node has it"
	}
}

func (a *application) run(ctx context.Context) error {
	version, err := a.n.Change.Version(ctx)
	if err != nil {
		return err
	}

	if err = a.validate(version); err != nil {
		return err
	}

	if !a.o.Maintenance {
		if err = a.compare(ctx); err != nil || a.Status == runbook.Unchanged {
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
		return err
	}

	if a.o.DryRun {
		a.Status = runbook.Planned

		return nil
	}

	return a.send(ctx)
}

func (a *application) validate(version talos.Version) error {
	var err error
	if a.want, err = Parse(a.text); err != nil {
		return err
	}

	// A fragment is not judged alone: the gate says what it is.
	if !a.want.Full() && !a.o.Maintenance {
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

	verdict := validate.For(text, kind, version.Tag, false)
	warnings = append(warnings, lists.Map(verdict.Warnings, validate.Problem.String)...)

	if verdict.Valid {
		return warnings, nil
	}

	if release.Newer(version.Tag) {
		return append(warnings, fmt.Sprintf("this program knows machine configurations up to Talos %s, and leaves the verdict to the node, which runs %s (%s)",
			release.Known(), version.Tag, verdict.Errors[0])), nil
	}

	return warnings, errs.Usagef("the machine configuration is not valid: %s", lists.Join(verdict.Errors, "; ", validate.Problem.String)).
		WithHint("nothing was sent; `talosmate validate` says the same without a node")
}

func (a *application) compare(ctx context.Context) error {
	_, have, err := Running(ctx, a.n.Change, a.Target)
	if err != nil {
		return err
	}

	a.have = have

	if !a.want.Full() {
		return nil
	}

	a.res.Changes = Diff(have, a.want, a.o.ShowSecrets)

	next, known, err := a.persistent(ctx, a.n.Change)
	if err != nil || !known {
		return err
	}

	// What is active may be on trial, and then reverts automatically; applying it again keeps it.
	kept := len(Diff(next, a.want, false)) == 0

	switch {
	case kept && len(a.res.Changes) == 0 && a.o.Mode != talos.ApplyReboot:
		a.Status, a.res.Details = runbook.Unchanged, "the node already has this configuration"
	case !kept && !a.o.KeepsStaged && a.o.Mode != talos.ApplyTry && len(Diff(next, have, false)) > 0:
		a.res.Warnings = append(a.res.Warnings, "the node has another configuration for its next boot (one is staged, or the active one is on trial), and this one replaces it: "+
			"`--on-staged keep` of patch and edit starts from the staged one")
	}

	return nil
}

// persisted reports whether the node's next boot will find the wanted configuration; false where the node does
// not tell.
func (a *application) persisted(ctx context.Context, n probe.API) (bool, error) {
	next, known, err := a.persistent(ctx, n)

	return known && len(Diff(next, a.want, false)) == 0, err
}

// persistent reads the configuration of the node's next boot.
func (a *application) persistent(ctx context.Context, n probe.API) (next Config, known bool, err error) {
	text, known, err := n.PersistedConfig(ctx)
	if err != nil || !known {
		return next, false, err
	}

	next, err = parseOf(text, a.Target)

	return next, err == nil, err
}

// Running reads the configuration that a node runs with.
func Running(ctx context.Context, n probe.API, t talos.Target) (text []byte, cfg Config, err error) {
	if text, err = n.MachineConfig(ctx); err == nil {
		cfg, err = parseOf(text, t)
	}

	return text, cfg, err
}

// parseOf parses what a node said.
func parseOf(text []byte, of talos.Target) (Config, error) {
	cfg, err := Parse(text)
	if err != nil {
		err = errs.New(errs.Failed, "cannot read the machine configuration of %s: %s", of.Name(), err.Error())
	}

	return cfg, err
}

// preview asks the node whether a reboot is needed. It asks by a dry run in mode try, whatever the mode: in
// any other mode even a dry run ends a try that is running on the node, and keeps what was on trial.
func (a *application) preview(ctx context.Context) error {
	if !a.want.Full() {
		return nil
	}

	answer, err := a.n.Change.ApplyConfig(ctx, a.text, talos.ApplyTry, time.Minute, true)
	if conn.Transient(err) && ctx.Err() == nil { // a question may be repeated
		answer, err = a.n.Change.ApplyConfig(ctx, a.text, talos.ApplyTry, time.Minute, true)
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
			a.Status = runbook.Refused

			return errs.New(errs.Refused, "cannot apply the machine configuration on %s: the change needs a reboot, and mode %s does none", a.Target.Name(), a.o.Mode).
				WithHint("use --mode auto or reboot, or staged for the next reboot")
		}

		a.res.AppliedMode = a.o.Mode
	default:
		a.res.AppliedMode = a.o.Mode
	}

	return nil
}

// gateName refuses a new hostname that another node has, and warns of what Kubernetes makes of any other.
func (a *application) gateName(ctx context.Context) []gate.Verdict {
	name := a.want.Hostname()
	if name == "" || name == a.have.Hostname() {
		return nil
	}

	if a.have.Hostname() != "" {
		a.res.Warnings = append(a.res.Warnings, fmt.Sprintf("the node's name changes from %s to %s: Kubernetes sees a new node, and the old one stays until it is deleted", a.have.Hostname(), name))
	}

	return []gate.Verdict{GateName(ctx, name, a.Target, a.n.Members, a.n.Alive)}
}

func (a *application) gates(ctx context.Context) error {
	var verdicts []gate.Verdict

	if !a.want.Full() && !a.o.Maintenance {
		verdicts = append(verdicts, gate.New(gate.NotFullConfig, gate.Refuse, a.Target.Address, "this is not a full machine configuration: the v1alpha1 document is missing, and the node would lose what it holds").
			WithRemedy("to change a part of what the node has: talosmate machineconfig patch"))
	}

	if !a.o.Maintenance {
		verdicts = append(verdicts, probe.GateDiscovery(a.n.Members, nil, a.Target.Address))
	}

	if !a.o.Maintenance && a.want.Full() {
		verdicts = append(append(verdicts, gateSame(a.want, a.have, a.Target.Address)), a.gateName(ctx)...)
	}

	if a.res.AppliedMode == talos.ApplyReboot && a.n.ControlPlane {
		view, err := a.n.Etcd(ctx)
		if err != nil {
			return err
		}

		verdicts = append(verdicts, view.Check(etcd.Restart, a.Target)...)
	}

	return a.Check(verdicts...)
}

func (a *application) send(ctx context.Context) error {
	reboots := a.res.AppliedMode == talos.ApplyReboot && !a.o.Maintenance

	if reboots {
		var err error
		if a.before, err = a.n.Change.Boot(ctx, ""); err != nil {
			return err
		}

		a.res.BootIDBefore = a.before.ID
	}

	asked := a.Now()

	var answer talos.Applied

	sent := runbook.Request{Limit: a.within(min(runbook.AnswerWithin, a.o.RebootTimeout)), Begin: a.BeforeChange, Send: func(ctx context.Context) (err error) {
		a.Stage("apply", "applying (%s)", a.o.Mode)

		answer, err = a.n.Change.ApplyConfig(ctx, a.text, a.o.Mode, a.o.TryTimeout, false)

		return err
	}}.Once(ctx)

	a.sent, a.answered = sent.Answer != runbook.NotSent, sent.Answer == runbook.Accepted

	switch {
	case a.answered:
		a.res.Details, a.res.Warnings = answer.Details, append(a.res.Warnings, answer.Warnings...)
		// The node has the last word: what it did may not be what the preview said.
		a.res.AppliedMode = answer.Mode
		reboots = reboots || (answer.Mode == talos.ApplyReboot && !a.o.Maintenance)
	case ctx.Err() != nil || sent.Answer != runbook.Lost:
		return Hidden(withoutDiff(sent.Err), a.text)
	default:
		a.Rec.AnswerLost = true
		a.Stage("apply", "the answer was lost: reading the state back")
	}

	return a.observe(ctx, asked, reboots, sent.Err)
}

// within bounds a wait: of a configuration that is tried something is left to be done before it reverts.
func (a *application) within(limit time.Duration) time.Duration {
	if a.o.Mode == talos.ApplyTry {
		limit = min(limit, a.o.TryTimeout/2)
	}

	return limit
}

// withoutDiff keeps the diff in a refusal, which can show secrets, from being shown.
func withoutDiff(err error) error {
	if !talos.NeedsReboot(err) {
		return err
	}

	text, _, _ := strings.Cut(err.Error(), "\ndiff:")

	return errs.Reworded(err, text)
}

// observe finds out what became of it. cause is the lost answer's error, nil when there was an answer.
func (a *application) observe(ctx context.Context, asked time.Time, reboots bool, cause error) error {
	switch {
	case a.o.Maintenance:
		return a.awaitInstalled(ctx, cause)
	case a.o.Mode == talos.ApplyStaged && cause == nil:
		a.Status = runbook.Staged

		return nil
	case a.o.Mode == talos.ApplyStaged:
		if kept, err := a.persisted(ctx, a.n.Change); err != nil || !kept {
			return a.unknown(cause)
		}

		a.Status = runbook.Staged

		return nil
	case reboots && !a.o.Wait && cause == nil:
		a.Status = runbook.Rebooting

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
		a.Status = runbook.Rebooted
	case a.o.Mode == talos.ApplyTry:
		reverts := asked.Add(a.o.TryTimeout).UTC()
		a.Status, a.res.RevertsAt = runbook.Trying, &reverts
	default:
		a.Status = runbook.Applied
	}

	return nil
}

func (a *application) unknown(cause error) error {
	a.Status = runbook.Unknown

	return runbook.UnknownOutcome("whether the configuration arrived could not be read back: check the node before you send it again", cause)
}

func (a *application) awaitBoot(ctx context.Context, asked time.Time, cause error) error {
	limit, seen := a.o.RebootTimeout, a.n.Prober()
	if cause != nil {
		seen = seen.Unanswered(a.before, runbook.ShownWithin)
	}

	a.Stage("wait", "waiting for a new boot, for at most %s", limit)

	back, err := seen.AwaitNew(ctx, a.before, asked, limit)
	a.answered = a.answered || !seen.Unclear()

	switch {
	case err == nil:
	case errors.Is(err, probe.ErrNotBegun), ctx.Err() == nil && seen.StillUnclear(ctx):
		return a.unknown(cause)
	default:
		return a.lost(ctx, err)
	}

	a.res.BootIDAfter, a.res.DowntimeSeconds = back.Boot.ID, back.Downtime.Seconds()
	a.Stage("verify", "verifying the node, for at most %s", a.o.ReadyTimeout)

	if err = a.n.Prober().AwaitSettled(ctx, a.o.ReadyTimeout); err != nil {
		return a.lost(ctx, err)
	}

	if a.n.ControlPlane {
		if err = probe.AwaitEtcd(ctx, a.Target, a.n.Etcd, a.o.ReadyTimeout); err != nil {
			return a.lost(ctx, err)
		}
	}

	return nil
}

func (a *application) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}

	a.Rec.Hint = "check the node's console"

	return a.Fail(runbook.NodeLost, "%w", err)
}

// readBack waits until the node shows what was sent.
func (a *application) readBack(ctx context.Context, cause error) error {
	err := poll.Until(ctx, a.Target.Name()+" to show the configuration", probe.VerifyPoll, a.within(runbook.ShownWithin), func(ctx context.Context) (bool, string, error) {
		return a.n.Prober().Ask(ctx, func(ctx context.Context, n probe.API) (string, bool, error) {
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
