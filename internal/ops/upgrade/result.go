// Package upgrade brings Talos nodes to another version: preflight → pull → cordon → drain → install →
// reboot → wait → verify → uncordon, on both of Talos's upgrade APIs, with an undo for every step that
// disturbs a node.
package upgrade

import (
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/talos"
)

// Status is how an upgrade of one node ended.
type Status string

// The ends of an upgrade.
const (
	Planned           Status = "planned"              // Dry run: nothing was done.
	OK                Status = "ok"                   // Upgraded and verified.
	Installed         Status = "installed"            // Installed; the reboot was not wanted.
	AlreadyCurrent    Status = "already_current"      // The node runs the target already.
	RefusedStatus     Status = "refused"              // A gate refused; nothing was changed.
	PullFailed        Status = "pull_failed"          // The image could not be pulled; nothing was changed.
	CordonFailed      Status = "cordon_failed"        // The node could not be cordoned.
	DrainFailed       Status = "drain_failed"         // Pods did not leave; nothing was installed.
	DiscoveryFailed   Status = "k8s_discovery_failed" // A Kubernetes member whose API cannot be reached; nothing was installed.
	InstallFailed     Status = "install_failed"       // The installer failed; the node was not rebooted.
	InstalledNoReboot Status = "installed_no_reboot"  // Installed, and it was not safe to reboot any more.
	RebootFailed      Status = "reboot_failed"        // Installed, and the node refused to reboot.
	RebootedNoWait    Status = "rebooted_no_wait"     // The reboot was requested and not waited for.
	DidNotReturn      Status = "did_not_return"       // The node did not come back within the deadline.
	RolledBack        Status = "rolled_back"          // The node came back on its previous version.
	VerifyFailed      Status = "verify_failed"        // The node came back and is not what it should be.
	UnknownStatus     Status = "unknown"              // A request was sent and its outcome could not be read back.
	InterruptedStatus Status = "interrupted"          // The user interrupted it.
	PreflightFailed   Status = "preflight_failed"     // The node could not be looked at; nothing was changed.
	unfinished        Status = ""
)

// exit is the exit code of a status on its own.
func (s Status) exit() errs.Code {
	switch s {
	case OK, Planned, Installed, AlreadyCurrent, RebootedNoWait:
		return errs.OK
	case RefusedStatus, DiscoveryFailed:
		return errs.Refused
	case DidNotReturn, VerifyFailed:
		return errs.Lost
	case RolledBack:
		return errs.RolledBack
	case UnknownStatus:
		return errs.Unknown
	case InterruptedStatus:
		return errs.Interrupted
	case PreflightFailed, PullFailed, CordonFailed, DrainFailed, InstallFailed, InstalledNoReboot, RebootFailed, unfinished:
		return errs.Failed
	default:
		return errs.Failed
	}
}

// Stage is one thing that happened on the way.
type Stage struct {
	Time           time.Time `json:"time"`            // When it began.
	Stage          string    `json:"stage"`           // preflight, pull, cordon, drain, install, reboot, wait, verify or uncordon.
	Message        string    `json:"message"`         // What happened.
	ElapsedSeconds float64   `json:"elapsed_seconds"` // Since the upgrade began.
}

// Result is everything that was observed, also before a failure.
type Result struct {
	talos.NodeRef

	Status           Status         `json:"status"`                       // How it ended.
	DryRun           bool           `json:"dry_run"`                      // Whether nothing was to be done.
	API              string         `json:"api"`                          // The upgrade API: lifecycle or legacy.
	Image            string         `json:"image"`                        // The installer image as asked for.
	ServerTag        string         `json:"server_tag"`                   // The version before.
	TargetTag        string         `json:"target_tag"`                   // The version wanted.
	RunningTag       string         `json:"running_tag"`                  // The version after, as last seen.
	PulledImage      string         `json:"pulled_image"`                 // The digest-pinned name that the node pulled.
	Rebooted         bool           `json:"rebooted"`                     // Whether a new boot was proved.
	TalosBack        bool           `json:"talos_back"`                   // Whether Talos answers again and is settled.
	K8sReady         bool           `json:"k8s_ready"`                    // Whether the Kubernetes node is Ready again.
	Cordoned         bool           `json:"cordoned"`                     // Whether the cordon was ours.
	Uncordoned       bool           `json:"uncordoned"`                   // Whether our cordon was lifted.
	K8sNodeName      string         `json:"k8s_node_name"`                // The Kubernetes node, empty when the node is no member.
	K8sCredentials   string         `json:"k8s_credentials,omitempty"`    // Which Kubernetes credentials were used.
	DrainedPods      int            `json:"drained_pods"`                 // How many pods left.
	Retries          int            `json:"retries"`                      // How many requests to Kubernetes were repeated: evictions that a budget held, an API that was away.
	BootIDBefore     string         `json:"boot_id_before"`               // The boot before.
	BootIDAfter      string         `json:"boot_id_after"`                // The boot after.
	BootProof        string         `json:"boot_proof"`                   // What the boot was told by: boot_id, machine_status or boot_time.
	SchematicBefore  string         `json:"schematic_before"`             // The Image Factory schematic before.
	SchematicAfter   string         `json:"schematic_after"`              // And after.
	ExtensionsBefore []string       `json:"extensions_before"`            // NAME VERSION of the extensions before; never null.
	ExtensionsAfter  []string       `json:"extensions_after"`             // And after; never null.
	Gates            []gate.Verdict `json:"gates"`                        // What every gate said; never null.
	Stages           []Stage        `json:"stages"`                       // What happened, in order; never null.
	InstallerLines   []string       `json:"installer_lines,omitempty"`    // The installer's last lines when it failed.
	DowntimeSeconds  float64        `json:"downtime_seconds"`             // How long the Talos API was away.
	WaitError        string         `json:"wait_error,omitempty"`         // Why the wait for the new boot failed.
	K8sReadyError    string         `json:"k8s_ready_error,omitempty"`    // Why the Kubernetes node did not become Ready.
	UncordonError    string         `json:"uncordon_error,omitempty"`     // Why our cordon could not be lifted.
	Error            string         `json:"error,omitempty"`              // What went wrong.
	Hint             string         `json:"hint,omitempty"`               // What to do now.
	OverriddenGates  []string       `json:"overridden_gates,omitempty"`   // The gates that were passed on purpose.
	ElapsedSeconds   float64        `json:"elapsed_seconds"`              // How long all of it took.
	ResumedInstall   bool           `json:"resumed_install,omitempty"`    // Whether an install of an earlier run was finished.
	RebootRequested  bool           `json:"reboot_requested"`             // Whether a reboot was requested.
	Rollback         *Rollback      `json:"rollback,omitempty"`           // What --on-failure rollback did to it.
	AnswerLost       bool           `json:"reboot_answer_lost,omitempty"` // Whether the answer to it was lost and the state read back.
}

// Rollback is a failed node brought back to its previous version.
type Rollback struct {
	OK              bool    `json:"ok"`               // Whether it runs its previous version again and is well.
	RunningTag      string  `json:"running_tag"`      // The version that runs.
	BootIDAfter     string  `json:"boot_id_after"`    // The boot after.
	DowntimeSeconds float64 `json:"downtime_seconds"` // How long the Talos API was away.
	Error           string  `json:"error,omitempty"`  // Why it failed.
}
