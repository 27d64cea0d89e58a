package machineconfig_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// fakeNode is a node that takes configurations, or loses its answer to them.
type fakeNode struct {
	probe.API

	active  []byte
	boots   int
	lose    bool          // The answer to the next real request.
	ignore  bool          // The request does not arrive.
	outage  time.Duration // How long the network is away from the request on.
	away    time.Time
	sent    []string
	needs   bool // Whether the change needs a reboot.
	settled bool
}

var errLost = &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Err: errors.New("connection reset")}

func (m *fakeNode) Boot(context.Context) (talos.Boot, error) {
	if time.Now().Before(m.away) {
		return talos.Boot{}, errLost
	}

	return talos.Boot{ID: string(rune('a' + m.boots)), Proof: "boot_id"}, nil
}

func (m *fakeNode) MachineStatus(context.Context) (talos.MachineStatus, error) {
	return talos.MachineStatus{Stage: "running", Ready: m.settled}, nil
}

func (m *fakeNode) Version(context.Context) (talos.Version, error) {
	return talos.Version{Tag: "v1.13.9", Platform: "aws"}, nil
}

func (m *fakeNode) MachineConfig(context.Context) ([]byte, error) { return m.active, nil }

func (m *fakeNode) PersistedConfig(context.Context) ([]byte, bool, error) { return m.active, true, nil }

func (m *fakeNode) ApplyConfig(_ context.Context, text []byte, mode string, _ time.Duration, dryRun bool) (talos.Applied, error) {
	if dryRun {
		if m.needs {
			return talos.Applied{}, errors.New("this config change can't be applied in immediate mode\ndiff:\n+secret: x")
		}

		return talos.Applied{Mode: "try"}, nil
	}

	m.sent = append(m.sent, mode)
	m.away = time.Now().Add(m.outage)

	if !m.ignore {
		m.active = text

		if m.needs {
			m.boots++
		}
	}

	if m.lose {
		return talos.Applied{}, errLost
	}

	did := "no-reboot"
	if m.needs {
		did = "reboot"
	}

	return talos.Applied{Mode: did}, nil
}

func site(m probe.API) *probe.Node {
	fresh := func() (probe.API, probe.Close) { return m, func() error { return nil } }

	return &probe.Node{
		Target: talos.Target{Address: "10.0.0.1", Hostname: "worker-1"}, Change: m, Now: time.Now, Fresh: fresh, Bare: fresh,
		Etcd: func(context.Context) (etcd.View, error) { return etcd.View{}, nil },
	}
}

const (
	configBefore = "version: v1alpha1\nmachine:\n  type: worker\n  token: a.b\n  ca: {crt: YQ==}\ncluster:\n  controlPlane: {endpoint: 'https://10.0.0.1:6443'}\n"
	configAfter  = configBefore + "  clusterName: other\n"
)

func options(mode string) machineconfig.ApplyOptions {
	return machineconfig.ApplyOptions{Mode: mode, TryTimeout: time.Minute, Wait: true, RebootTimeout: time.Minute, ReadyTimeout: time.Minute}
}

func TestApply(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name string
		node fakeNode
		mode string
		want runbook.Status
		code errs.Code
		sent int
	}{
		{"in force", fakeNode{}, talos.ApplyAuto, runbook.Applied, errs.OK, 1},
		{"the answer is lost and it was done", fakeNode{lose: true}, talos.ApplyAuto, runbook.Applied, errs.OK, 1},
		{"the answer is lost and it was not done", fakeNode{lose: true, ignore: true}, talos.ApplyAuto, runbook.Unknown, errs.Unknown, 1},
		{"it answers and does not do it", fakeNode{ignore: true}, talos.ApplyAuto, runbook.NodeLost, errs.Lost, 1},
		{"a reboot is needed", fakeNode{needs: true, settled: true}, talos.ApplyAuto, runbook.Rebooted, errs.OK, 1},
		{"the answer before the reboot is lost", fakeNode{needs: true, settled: true, lose: true}, talos.ApplyAuto, runbook.Rebooted, errs.OK, 1},
		{"the request before the reboot is lost", fakeNode{needs: true, settled: true, lose: true, ignore: true}, talos.ApplyAuto, runbook.Unknown, errs.Unknown, 1},
		{
			"the request is lost in an outage",
			fakeNode{needs: true, settled: true, lose: true, ignore: true, outage: 5 * time.Second},
			talos.ApplyAuto, runbook.Unknown, errs.Unknown, 1,
		},
		{"no reboot may be", fakeNode{needs: true}, talos.ApplyNoReboot, runbook.Refused, errs.Refused, 0},
		{"not well after the reboot", fakeNode{needs: true}, talos.ApplyAuto, runbook.NodeLost, errs.Lost, 1},
		{"staged and lost is read back", fakeNode{lose: true}, talos.ApplyStaged, runbook.Staged, errs.OK, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				node := c.node
				node.active = []byte(configBefore)

				res, err := machineconfig.Apply(t.Context(), site(&node), []byte(configAfter), options(c.mode), progress.Discard{})
				if res.Status != c.want || errs.ExitCode(err) != c.code {
					t.Errorf("status %s, exit %d, want %s, %d: %v", res.Status, errs.ExitCode(err), c.want, c.code, err)
				}

				if len(node.sent) != c.sent {
					t.Errorf("sent %d times, want %d", len(node.sent), c.sent)
				}
			})
		})
	}
}

func TestApplySendsNothing(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name, text string
		dryRun     bool
		want       runbook.Status
		code       errs.Code
	}{
		{"dry run", configAfter, true, runbook.Planned, errs.OK},
		{"unchanged", configBefore + "# a comment\n", false, runbook.Unchanged, errs.OK},
		{"invalid", configBefore + "nosuch: 1\n", false, runbook.Failed, errs.Usage},
		{"a fragment", "apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: x\n", false, runbook.Refused, errs.Refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			node := fakeNode{active: []byte(configBefore)}
			o := options(talos.ApplyAuto)
			o.DryRun = c.dryRun

			res, err := machineconfig.Apply(t.Context(), site(&node), []byte(c.text), o, progress.Discard{})
			if res.Status != c.want || errs.ExitCode(err) != c.code || len(node.sent) > 0 {
				t.Errorf("status %s, exit %d, sent %v: %v", res.Status, errs.ExitCode(err), node.sent, err)
			}
		})
	}
}
