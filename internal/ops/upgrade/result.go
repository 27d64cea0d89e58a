package upgrade

import (
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// Result is everything that was observed of one node, also on error.
type Result struct {
	talos.NodeRef

	Status      runbook.Status `json:"status"`       // ok, installed, already_current, planned, refused, pull_failed, install_failed, cordon_failed, drain_failed, k8s_discovery_failed, installed_no_reboot, reboot_failed, rebooted_no_wait, did_not_return, rolled_back, verify_failed, unknown, interrupted or preflight_failed.
	DryRun      bool           `json:"dry_run"`      // Whether nothing was to be done.
	API         string         `json:"api"`          // The upgrade API: lifecycle or legacy.
	Image       string         `json:"image"`        // The installer image as asked for.
	TargetTag   string         `json:"target_tag"`   // The version wanted.
	Downgrade   bool           `json:"downgrade"`    // Whether that is lower than the version that ran.
	PulledImage string         `json:"pulled_image"` // The digest-pinned name that the node pulled.

	disruption.Observed

	UnmetBefore []string `json:"unmet_before,omitempty"` // What was unmet before: NAME, or NAME SUBJECT for each service or static pod. It is not waited for afterwards.

	K8sReady         bool      `json:"k8s_ready"`                 // Whether the Kubernetes node is Ready again.
	K8sNodeName      string    `json:"k8s_node_name"`             // The Kubernetes node, empty when the node is not a member.
	K8sCredentials   string    `json:"k8s_credentials,omitempty"` // Which Kubernetes credentials were used.
	K8sReadyError    string    `json:"k8s_ready_error,omitempty"` // Why the Kubernetes node did not become Ready.
	Retries          int       `json:"retries"`                   // How many requests to Kubernetes were repeated: evictions that a budget held, an API that did not answer.
	SchematicBefore  string    `json:"schematic_before"`          // The Image Factory schematic before.
	SchematicAfter   string    `json:"schematic_after"`           // And after.
	ExtensionsBefore []string  `json:"extensions_before"`         // NAME VERSION of the extensions before; never null.
	ExtensionsAfter  []string  `json:"extensions_after"`          // And after; never null.
	InstallerLines   []string  `json:"installer_lines,omitempty"` // The installer's last lines when it failed.
	WaitError        string    `json:"wait_error,omitempty"`      // Why the wait for the new boot failed.
	ResumedInstall   bool      `json:"resumed_install,omitempty"` // Whether an install of an earlier run was finished.
	RebootRequested  bool      `json:"reboot_requested"`          // Whether a reboot was requested.
	Rollback         *Rollback `json:"rollback,omitempty"`        // What --on-failure rollback did to it.
	ColdBoot         *ColdBoot `json:"cold_boot,omitempty"`       // What --prove-cold-boot did to it.

	runbook.Record
}

// Way is what the versions of the node were and should be: FROM -> TO, and the version wanted where another one runs.
func (r *Result) Way() string {
	switch {
	case r.DryRun && r.Status == runbook.Planned:
		return r.ServerTag + " -> " + r.TargetTag + " (dry run)"
	case r.TargetTag == "" || release.Same(r.RunningTag, r.TargetTag):
		return r.ServerTag + " -> " + r.RunningTag
	default:
		return r.ServerTag + " -> " + r.RunningTag + " (wanted: " + r.TargetTag + ")"
	}
}

// ColdBoot is a reboot through the firmware after the upgrade.
type ColdBoot struct {
	OK              bool    `json:"ok"`               // Whether it came up through its firmware, with the wanted version, and is healthy.
	BootIDAfter     string  `json:"boot_id_after"`    // The boot after.
	DowntimeSeconds float64 `json:"downtime_seconds"` // How long the Talos API was down.
	Error           string  `json:"error,omitempty"`  // Why it failed.
}

// Rollback is a failed node brought back to its previous version.
type Rollback struct {
	OK              bool    `json:"ok"`               // Whether it runs its previous version again and is healthy.
	RunningTag      string  `json:"running_tag"`      // The version that runs.
	BootIDAfter     string  `json:"boot_id_after"`    // The boot after.
	DowntimeSeconds float64 `json:"downtime_seconds"` // How long the Talos API was down.
	Error           string  `json:"error,omitempty"`  // Why it failed.
}
