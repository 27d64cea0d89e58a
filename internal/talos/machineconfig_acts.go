package talos

import (
	"context"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/talosmate/talosmate/internal/redact"
)

// Modes of applying a machine configuration.
const (
	ApplyAuto     = "auto"      // Reboot if it has to.
	ApplyNoReboot = "no-reboot" // Refuse what would need a reboot.
	ApplyReboot   = "reboot"    // Reboot in any case.
	ApplyStaged   = "staged"    // With the next reboot.
	ApplyTry      = "try"       // Without a reboot, and back again after a time.
)

// ApplyModes lists the modes.
func ApplyModes() []string {
	return []string{ApplyAuto, ApplyNoReboot, ApplyReboot, ApplyStaged, ApplyTry}
}

// Applied is a node's answer to a configuration.
type Applied struct {
	Mode     string   // What it did, or would do.
	Details  string   // Its words, without the diff, whose context lines can show secrets.
	Warnings []string // What it found doubtful.
}

// ApplyConfig sends a machine configuration. The mode is always sent: the protocol's zero value is REBOOT.
// tryTimeout is for the mode try. Role: admin, or anybody in maintenance mode.
func (n *Node) ApplyConfig(ctx context.Context, text []byte, mode string, tryTimeout time.Duration, dryRun bool) (Applied, error) {
	modes := map[string]machine.ApplyConfigurationRequest_Mode{
		ApplyAuto: machine.ApplyConfigurationRequest_AUTO, ApplyNoReboot: machine.ApplyConfigurationRequest_NO_REBOOT,
		ApplyReboot: machine.ApplyConfigurationRequest_REBOOT, ApplyStaged: machine.ApplyConfigurationRequest_STAGED,
		ApplyTry: machine.ApplyConfigurationRequest_TRY,
	}

	resp, err := n.machine().ApplyConfiguration(ctx, &machine.ApplyConfigurationRequest{
		Data: text, Mode: modes[mode], DryRun: dryRun, TryModeTimeout: durationpb.New(tryTimeout),
	})

	if mode == ApplyReboot && !dryRun && status.Code(err) == codes.Unimplemented {
		return n.applyThenReboot(ctx, text)
	}

	m, err := first(n, "apply the machine configuration", resp.GetMessages(), err)
	if err != nil {
		return Applied{}, err
	}

	// The diff shows secrets in its context lines: what comes from it stays here.
	details, _, _ := strings.Cut(m.GetModeDetails(), "Config diff:")
	details, _, _ = strings.Cut(details, "\ndiff:")

	return Applied{
		Mode:    strings.ReplaceAll(strings.ToLower(m.GetMode().String()), "_", "-"),
		Details: strings.TrimSpace(strings.TrimPrefix(details, "Dry run summary:")), Warnings: hidden(m.GetWarnings()),
	}, nil
}

// hidden hides what a node's warnings quote of a configuration's secrets.
func hidden(warnings []string) []string {
	out := make([]string, len(warnings))
	for i, w := range warnings {
		out[i] = redact.Message(w)
	}

	return out
}

// applyThenReboot is the mode reboot for Talos 1.14 and newer, which refuses that mode and has none that reboots:
// what it did before, in two requests.
func (n *Node) applyThenReboot(ctx context.Context, text []byte) (Applied, error) {
	out, err := n.ApplyConfig(ctx, text, ApplyStaged, 0, false)
	if err != nil {
		return out, err
	}

	out.Mode, out.Details = ApplyReboot, "Staged configuration, and rebooting with it"

	return out, n.Reboot(ctx, RebootDefault)
}

// NeedsReboot says whether a node refused a configuration only because it needs a reboot (Talos,
// internal/app/machined/pkg/runtime/v1alpha1/v1alpha1_runtime.go, CanApplyImmediate). The server has no code
// of its own for it, and what follows its words is a diff that can show secrets.
func NeedsReboot(err error) bool {
	return err != nil && strings.Contains(err.Error(), "can't be applied in immediate mode")
}
