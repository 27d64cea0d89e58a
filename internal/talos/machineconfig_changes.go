package talos

import (
	"context"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/redact"
)

// Modes of applying a machine configuration.
const (
	ApplyAuto     = "auto"      // Reboot if necessary.
	ApplyNoReboot = "no-reboot" // Refuse a change that needs a reboot.
	ApplyReboot   = "reboot"    // Always reboot.
	ApplyStaged   = "staged"    // At the next reboot.
	ApplyTry      = "try"       // Without a reboot, reverted after a timeout.
)

// ApplyModes lists the modes.
func ApplyModes() []string {
	return []string{ApplyAuto, ApplyNoReboot, ApplyReboot, ApplyStaged, ApplyTry}
}

// Applied is a node's answer to a configuration.
type Applied struct {
	Mode     string   // The mode that the node used, or would use.
	Details  string   // Its messages, without the diff, whose context lines can show secrets.
	Warnings []string // Its warnings.
}

// ApplyConfig sends a machine configuration. The mode is always sent: the protocol's zero value is REBOOT. tryTimeout
// is for the mode try. Role: admin, or anybody in maintenance mode.
func (n *Node) ApplyConfig(ctx context.Context, text []byte, mode string, tryTimeout time.Duration, dryRun bool) (Applied, error) {
	modes := map[string]machine.ApplyConfigurationRequest_Mode{
		ApplyAuto: machine.ApplyConfigurationRequest_AUTO, ApplyNoReboot: machine.ApplyConfigurationRequest_NO_REBOOT,
		ApplyReboot: machine.ApplyConfigurationRequest_REBOOT, ApplyStaged: machine.ApplyConfigurationRequest_STAGED,
		ApplyTry: machine.ApplyConfigurationRequest_TRY,
	}

	m, err := first(n.machine().ApplyConfiguration(ctx, &machine.ApplyConfigurationRequest{
		Data: text, Mode: modes[mode], DryRun: dryRun, TryModeTimeout: durationpb.New(tryTimeout),
	}))

	if mode == ApplyReboot && !dryRun && status.Code(err) == codes.Unimplemented {
		return n.applyThenReboot(ctx, text)
	}

	if err != nil {
		return Applied{}, n.Fail("apply the machine configuration", err)
	}

	// The diff shows secrets in its context lines, so it is cut here.
	details, _, _ := strings.Cut(m.GetModeDetails(), "Config diff:")
	details, _, _ = strings.Cut(details, "\ndiff:")

	return Applied{
		Mode:     strings.ReplaceAll(strings.ToLower(m.GetMode().String()), "_", "-"),
		Details:  strings.TrimSpace(strings.TrimPrefix(details, "Dry run summary:")),
		Warnings: lists.Map(m.GetWarnings(), func(w string) string { return redact.Message(w) }), // they quote the configuration
	}, nil
}

// applyThenReboot replaces the mode reboot on Talos 1.14 and newer, which refuses that mode: it stages the
// configuration and reboots, in two requests.
func (n *Node) applyThenReboot(ctx context.Context, text []byte) (Applied, error) {
	out, err := n.ApplyConfig(ctx, text, ApplyStaged, 0, false)
	if err != nil {
		return out, err
	}

	out.Mode, out.Details = ApplyReboot, "Staged configuration, and rebooting with it"

	return out, n.Reboot(ctx, RebootDefault)
}

// NeedsReboot reports whether a node refused a configuration only because it needs a reboot (Talos,
// internal/app/machined/pkg/runtime/v1alpha1/v1alpha1_runtime.go, CanApplyImmediate). The server has no code for this,
// and its text is followed by a diff that can show secrets.
func NeedsReboot(err error) bool {
	return err != nil && strings.Contains(err.Error(), "can't be applied in immediate mode")
}
