// Package gate is the registry of safety gates. A gate runs before a change and may refuse it. Its code is an
// interface: codes are added and never renumbered.
package gate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
)

// Code names a gate.
type Code string

// The gates.
const (
	RoleMissing       Code = "TM110"
	ReadOnly          Code = "TM111"
	NotConfirmed      Code = "TM112"
	EtcdQuorum        Code = "TM120"
	EtcdUnhealthy     Code = "TM121"
	HealthyMember     Code = "TM122"
	LastVoter         Code = "TM123"
	TwoMembers        Code = "TM124"
	VersionPath       Code = "TM130"
	KubernetesRange   Code = "TM131"
	ImageMissing      Code = "TM132"
	ExtensionsLost    Code = "TM133"
	PlatformMismatch  Code = "TM134"
	KernelArgsDropped Code = "TM135"
	NoInstallOnly     Code = "TM136"
	InstallPending    Code = "TM137"
	ClockOff          Code = "TM138"
	CertificateEnds   Code = "TM139"
	BudgetNeverMet    Code = "TM140"
	KubernetesAway    Code = "TM141"
	NowhereToDrain    Code = "TM142"
	LockHeld          Code = "TM143"
	EndpointIsTarget  Code = "TM144"
	InstallRunning    Code = "TM145"
	DiskSpace         Code = "TM146"
	PlanDiffers       Code = "TM147"
	OutsideWindow     Code = "TM148"
	NodeAlive         Code = "TM149"
	SystemDisk        Code = "TM150"
	FullWipe          Code = "TM151"
	NotFullConfig     Code = "TM152"
	ForeignConfig     Code = "TM153"
	Downgrade         Code = "TM154"
	ReleaseChanges    Code = "TM155"
	AnotherMachine    Code = "TM156"
	DiscoveryPartial  Code = "TM157"
	NameTaken         Code = "TM158"
	SpaceNotFreed     Code = "TM160"
	UnmetBefore       Code = "TM161"
	ServerRefuses     Code = "TM162"
	NotAllowed        Code = "TM163"
	SnapshotUnusable  Code = "TM164"
	ColdBootUnproven  Code = "TM165"
	NothingSelected   Code = "TM166"
	CannotBeTried     Code = "TM167"
)

// Info describes a gate for `talosmate help gates`.
type Info struct {
	Code        Code   `json:"code"`        // The gate's code.
	Title       string `json:"title"`       // What it guards against.
	Overridable bool   `json:"overridable"` // Whether --override CODE passes it.
}

// All lists every gate in the order of its code.
func All() []Info {
	titles := []struct {
		code  Code
		title string
	}{
		{RoleMissing, "the certificate does not have the role"},
		{ReadOnly, "changes are switched off (--read-only)"},
		{NotConfirmed, "a destructive command was not confirmed"},
		{EtcdQuorum, "etcd quorum would be lost"},
		{EtcdUnhealthy, "an etcd member is unhealthy or has an alarm"},
		{HealthyMember, "the etcd member is healthy"},
		{LastVoter, "the last voting etcd member"},
		{TwoMembers, "a two-member etcd tolerates no loss"},
		{VersionPath, "Talos does not support this version step"},
		{KubernetesRange, "the Talos release does not run this Kubernetes version"},
		{ImageMissing, "the image does not exist or cannot be read"},
		{ExtensionsLost, "system extensions or the schematic would be lost"},
		{PlatformMismatch, "platform or secure boot flavour differ"},
		{KernelArgsDropped, "kernel arguments of the configuration would be dropped"},
		{NoInstallOnly, "this node cannot install without rebooting"},
		{InstallPending, "an install already waits for its reboot"},
		{ClockOff, "the node's clock is off"},
		{CertificateEnds, "a certificate has expired, or expires before the work can be done"},
		{BudgetNeverMet, "a disruption budget can never be met"},
		{KubernetesAway, "the Kubernetes API cannot be reached"},
		{NowhereToDrain, "there is nowhere to drain to"},
		{LockHeld, "another run holds the cluster's lock"},
		{EndpointIsTarget, "the only endpoint is the target, or a virtual IP"},
		{InstallRunning, "another install is running"},
		{DiskSpace, "not enough disk space"},
		{PlanDiffers, "the cluster differs from the plan"},
		{OutsideWindow, "outside the maintenance window"},
		{NodeAlive, "the node is not dead"},
		{SystemDisk, "the system disk, or a disk in use"},
		{FullWipe, "the whole system disk would be wiped"},
		{NotFullConfig, "not a full machine configuration"},
		{ForeignConfig, "the configuration is another cluster's"},
		{Downgrade, "the version is lower than the one that runs"},
		{ReleaseChanges, "the release changes something that this cluster uses"},
		{AnotherMachine, "another machine answers than the one that is meant"},
		{DiscoveryPartial, "discovery does not list every node of the cluster"},
		{NameTaken, "another node has the hostname"},
		{SpaceNotFreed, "the space was not freed"},
		{UnmetBefore, "the node already has unmet conditions"},
		{ServerRefuses, "Talos itself refuses the request"},
		{NotAllowed, "the node or the context is not among the allowed ones"},
		{SnapshotUnusable, "the snapshot of etcd would not restore"},
		{ColdBootUnproven, "most voters run a version that only kexec has started"},
		{NothingSelected, "the configuration selects a link, disk or volume that the node has not"},
		{CannotBeTried, "a change that can cut the node off cannot be tried"},
	}

	fixed := []Code{LastVoter, AnotherMachine, NameTaken, ServerRefuses, NotAllowed, RoleMissing, ReadOnly, NotConfirmed}
	out := make([]Info, len(titles))

	for i, t := range titles {
		out[i] = Info{Code: t.code, Title: t.title, Overridable: !slices.Contains(fixed, t.code)}
	}

	return out
}

// Find returns the gate with a code, in any case.
func Find(code string) (Info, bool) {
	return lists.Find(All(), func(g Info) bool { return strings.EqualFold(string(g.Code), code) })
}

// Outcome is the verdict of a gate.
type Outcome string

// The outcomes.
const (
	Pass       Outcome = "pass"
	Warn       Outcome = "warn"
	Refuse     Outcome = "refuse"
	Overridden Outcome = "overridden"
	Skip       Outcome = "skip"
)

// Verdict is the verdict of one gate about one node or the whole cluster.
type Verdict struct {
	Gate    Code    `json:"gate"`             // The gate's code.
	Title   string  `json:"title"`            // What it guards against.
	Verdict Outcome `json:"verdict"`          // pass, warn, refuse, overridden or skip.
	Node    string  `json:"node,omitempty"`   // The node, empty for the cluster.
	Message string  `json:"message"`          // What was found, in one sentence.
	Remedy  string  `json:"remedy,omitempty"` // What to do about it.
}

// New makes a verdict.
func New(code Code, outcome Outcome, node, format string, args ...any) Verdict {
	info, _ := Find(string(code))

	return Verdict{Gate: code, Title: info.Title, Verdict: outcome, Node: node, Message: fmt.Sprintf(format, args...)}
}

// Notable reports whether people should read the verdict: it neither passed nor was skipped.
func (v Verdict) Notable() bool { return v.Verdict != Pass && v.Verdict != Skip }

// WithRemedy adds what to do about it.
func (v Verdict) WithRemedy(format string, args ...any) Verdict {
	v.Remedy = fmt.Sprintf(format, args...)

	return v
}

// Overrides are the gates that the user passes on purpose.
type Overrides []string

// Validate rejects unknown codes and gates that cannot be overridden.
func (o Overrides) Validate() error {
	for _, code := range o {
		info, ok := Find(code)

		switch {
		case !ok:
			return errs.Usagef("unknown gate %q in --override", code).WithHint("talosmate help gates")
		case !info.Overridable:
			return errs.Usagef("gate %s cannot be overridden: %s", info.Code, info.Title)
		}
	}

	return nil
}

// Has reports whether a gate is overridden.
func (o Overrides) Has(code Code) bool {
	return slices.ContainsFunc(o, func(s string) bool { return strings.EqualFold(s, string(code)) })
}

// Apply turns refusals that the user overrides into overridden verdicts, in place, and returns the error of the first
// remaining refusal.
func Apply(verdicts []Verdict, o Overrides) error {
	var refused error

	for i, v := range verdicts {
		if v.Verdict != Refuse {
			continue
		}

		if o.Has(v.Gate) && v.Gate != LastVoter {
			verdicts[i].Verdict = Overridden

			continue
		}

		if refused == nil {
			refused = v.Refusal()
		}
	}

	return refused
}

// Refusal is the error of a verdict that refuses.
func (v Verdict) Refusal() *errs.Error {
	hint := v.Remedy
	if info, ok := Find(string(v.Gate)); ok && info.Overridable {
		if hint != "" {
			hint += "; "
		}

		hint += fmt.Sprintf("to continue anyway: --override %s", v.Gate)
	}

	e := errs.New(errs.Refused, "refused by gate %s: %s", v.Gate, v.Message)
	e.Gate, e.Node, e.Hint, e.Kind = string(v.Gate), v.Node, hint, errs.KindRefused

	return e
}
