package runbook

import "github.com/talosmate/talosmate/internal/errs"

// Status is how an operation ended. The documents of all operations share these words.
type Status string

// The statuses.
const (
	Unfinished Status = "" // Nothing has been decided yet.

	Planned     Status = "planned"     // Dry run: nothing was done.
	OK          Status = "ok"          // Done and proved.
	Requested   Status = "requested"   // Accepted; not waited for.
	Unchanged   Status = "unchanged"   // It was already as wanted; nothing was sent.
	Refused     Status = "refused"     // A gate refused.
	Failed      Status = "failed"      // The node refused, or could not be asked: the cause decides the exit code.
	Unknown     Status = "unknown"     // The answer was lost and the outcome could not be read back.
	Interrupted Status = "interrupted" // The user interrupted it; the hint says what is left.
	NotStarted  Status = "not_started" // Something before it failed or was interrupted; nothing was sent.
	Halted      Status = "halted"      // A part failed; no further part was started.
	Partial     Status = "partial"     // A part failed, the others are done.

	Cordoned   Status = "cordoned"
	Uncordoned Status = "uncordoned"
	Drained    Status = "drained"

	CordonFailed    Status = "cordon_failed"        // The node could not be cordoned.
	DrainFailed     Status = "drain_failed"         // Pods did not leave; nothing else was done.
	DiscoveryFailed Status = "k8s_discovery_failed" // A Kubernetes member whose API cannot be reached.
	DidNotReturn    Status = "did_not_return"       // It did not come back (or did not power off) within the deadline.
	VerifyFailed    Status = "verify_failed"        // It came back and is not what it should be.
	RolledBack      Status = "rolled_back"          // It is back on its previous version or configuration.

	PreflightFailed   Status = "preflight_failed"    // The node could not be observed; nothing was changed.
	AlreadyCurrent    Status = "already_current"     // The node already runs the target.
	Installed         Status = "installed"           // Installed; the reboot was not wanted.
	PullFailed        Status = "pull_failed"         // The image could not be pulled; nothing was changed.
	InstallFailed     Status = "install_failed"      // The installer failed; the node was not rebooted.
	InstalledNoReboot Status = "installed_no_reboot" // Installed, and it was no longer safe to reboot.
	RebootFailed      Status = "reboot_failed"       // Installed, and the node refused to reboot.
	RebootedNoWait    Status = "rebooted_no_wait"    // The reboot was requested and not waited for.

	NotJoined   Status = "not_joined"   // It took its configuration and has not joined within the deadline.
	NotReplaced Status = "not_replaced" // The old one is out, and the new one is not in.

	Applied    Status = "applied"    // In force, and read back.
	Staged     Status = "staged"     // In force after the next reboot.
	Trying     Status = "trying"     // In force until it reverts automatically.
	Rebooted   Status = "rebooted"   // In force after the reboot that it needed.
	Rebooting  Status = "rebooting"  // The node reboots; not waited for.
	Installing Status = "installing" // A node in maintenance mode took it and installs; not waited for.
	Configured Status = "configured" // A node that was in maintenance mode runs with it; its health was not asked.
	Joined     Status = "joined"     // A node that was in maintenance mode runs with it, and is healthy.
	NodeLost   Status = "lost"       // It did not come back, or is not healthy.

	Unhealthy Status = "unhealthy" // It did not become healthy (or did not stop) within the deadline.
	Pulled    Status = "pulled"
	Removed   Status = "removed"
	Untagged  Status = "untagged"
	Done      Status = "done"
	Wiped     Status = "wiped" // Done, and nothing is discovered on it any longer.

	Skipped    Status = "skipped"
	NotReached Status = "not_reached" // Something before it failed or was refused.
)

// Exit is the exit code of a status.
func (s Status) Exit() errs.Code {
	switch s {
	case Refused, DiscoveryFailed:
		return errs.Refused
	case DidNotReturn, VerifyFailed, NotJoined, NotReplaced, NodeLost:
		return errs.Lost
	case RolledBack:
		return errs.RolledBack
	case Unknown:
		return errs.Unknown
	case Interrupted:
		return errs.Interrupted
	case Unfinished, Failed, Halted, Partial, CordonFailed, DrainFailed, PreflightFailed, PullFailed, InstallFailed, InstalledNoReboot, RebootFailed, Unhealthy:
		return errs.Failed
	default:
		return errs.OK
	}
}

// undecided reports whether the exit code and kind are those of the cause: nothing was changed, or the node itself
// refused.
func (s Status) undecided() bool {
	return s == Failed || s == PreflightFailed || s == PullFailed || s == Unfinished
}
