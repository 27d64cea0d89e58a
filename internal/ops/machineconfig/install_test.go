package machineconfig_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// bareNode is a machine in maintenance mode that loses the answer to its configuration; looks says how it is so long
// after it was sent.
type bareNode struct {
	fakeNode

	looks func(time.Duration) (stage string, err error)
	asked time.Time
}

func (b *bareNode) ApplyConfig(ctx context.Context, text []byte, mode string, try time.Duration, dryRun bool) (talos.Applied, error) {
	if !dryRun {
		b.asked = time.Now()
	}

	return b.fakeNode.ApplyConfig(ctx, text, mode, try, dryRun)
}

func (b *bareNode) MachineStatus(context.Context) (talos.MachineStatus, error) {
	stage, err := b.looks(time.Since(b.asked))

	return talos.MachineStatus{Stage: stage}, err
}

// TestInstallReadsBack: a lost answer to a machine's first configuration is read back. One look that failed proves
// nothing.
func TestInstallReadsBack(t *testing.T) {
	t.Parallel()

	asks := &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnauthenticated, Err: errors.New("certificate required")}

	for name, tt := range map[string]struct {
		looks  func(time.Duration) (string, error)
		status runbook.Status
		code   errs.Code
	}{
		"it never arrived": {func(time.Duration) (string, error) { return "maintenance", nil }, runbook.Unknown, errs.Unknown},
		"it never arrived, and a look fails": {func(at time.Duration) (string, error) {
			if at > 5*time.Second && at < 8*time.Second {
				return "", errLost
			}

			return "maintenance", nil
		}, runbook.Unknown, errs.Unknown},
		"it runs at once": {func(time.Duration) (string, error) { return "", asks }, runbook.Configured, errs.OK},
		"it installs": {func(at time.Duration) (string, error) {
			if at < 40*time.Second {
				return "installing", nil
			}

			return "", asks
		}, runbook.Configured, errs.OK},
		"it is away, and comes back": {func(at time.Duration) (string, error) {
			if at < 40*time.Second {
				return "", errLost
			}

			return "", asks
		}, runbook.Configured, errs.OK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				node := &bareNode{fakeNode: fakeNode{lose: true, ignore: true}, looks: tt.looks}
				s, o := site(node), options(talos.ApplyAuto)
				o.Maintenance = true

				began := time.Now()

				res, err := machineconfig.Apply(t.Context(), s, []byte(configAfter), o, progress.Discard{})
				if res.Status != tt.status || errs.ExitCode(err) != tt.code || len(node.sent) != 1 {
					t.Errorf("status %s, exit code %d, sent %v: %v", res.Status, errs.ExitCode(err), node.sent, err)
				}

				if took := time.Since(began); tt.code != errs.OK && took > 35*time.Second {
					t.Errorf("it took %s to find out", took)
				}
			})
		})
	}
}
