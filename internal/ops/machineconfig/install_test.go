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
	"github.com/talosmate/talosmate/internal/testing/fake"
)

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
				began := time.Now()
				node := configured()
				node.Bare, node.Fail["apply"] = true, errLost
				node.StatusAs = func(context.Context) (talos.MachineStatus, error) {
					stage, err := tt.looks(time.Since(began))

					return talos.MachineStatus{Stage: stage}, err
				}

				s, o := site(fake.Maintenance{Machine: node}), options(talos.ApplyAuto)
				o.Maintenance = true

				res, err := machineconfig.Apply(t.Context(), s, []byte(configAfter), o, progress.Discard{})
				if res.Status != tt.status || errs.ExitCode(err) != tt.code || len(node.Calls) != 1 {
					t.Errorf("status %s, exit code %d, sent %v: %v", res.Status, errs.ExitCode(err), node.Calls, err)
				}

				if took := time.Since(began); tt.code != errs.OK && took > 35*time.Second {
					t.Errorf("it took %s to find out", took)
				}
			})
		})
	}
}
