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
	"github.com/talosmate/talosmate/internal/testing/fake"
)

var errLost = &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Err: errors.New("connection reset")}

// configured is a node with a configuration.
func configured() *fake.Machine {
	m := fake.NewMachine("v1.13.9")
	m.Text, m.Running.Platform = []byte(configBefore), "aws"

	return m
}

// script sets up a machine.
type script []func(*fake.Machine)

func needsReboot(m *fake.Machine)  { m.NeedsReboot = true }
func losesAnswer(m *fake.Machine)  { m.LoseReply["apply"] = errLost }
func losesRequest(m *fake.Machine) { m.Fail["apply"] = errLost }

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

// A panic is the node's own failure; its outcome is unknown once the request may have been sent.
func TestApplyThatPanics(t *testing.T) {
	t.Parallel()

	for call, want := range map[string]struct {
		status runbook.Status
		code   errs.Code
	}{
		"config": {runbook.Failed, errs.Failed},
		"apply":  {runbook.Unknown, errs.Unknown},
	} {
		synctest.Test(t, func(t *testing.T) {
			node := panicking{configured(), call}

			got, err := machineconfig.Apply(t.Context(), site(node), []byte(configAfter), options(talos.ApplyAuto), progress.Discard{})
			if got.Status != want.status || errs.ExitCode(err) != want.code || got.Node != "10.0.0.1" {
				t.Errorf("%s: %s of %q, %v", call, got.Status, got.Node, err)
			}
		})
	}
}

// panicking is a node of which one call panics.
type panicking struct {
	*fake.Machine

	call string
}

func (p panicking) MachineConfig(ctx context.Context) ([]byte, error) {
	if p.call == "config" {
		panic("a bug")
	}

	return p.Machine.MachineConfig(ctx)
}

func (p panicking) ApplyConfig(ctx context.Context, text []byte, mode string, limit time.Duration, dryRun bool) (talos.Applied, error) {
	if p.call == "apply" && !dryRun {
		panic("a bug")
	}

	return p.Machine.ApplyConfig(ctx, text, mode, limit, dryRun)
}

func TestApply(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name   string
		script script
		mode   string
		want   runbook.Status
		code   errs.Code
		sent   int
	}{
		{"in force", nil, talos.ApplyAuto, runbook.Applied, errs.OK, 1},
		{"the answer is lost and it was done", script{losesAnswer}, talos.ApplyAuto, runbook.Applied, errs.OK, 1},
		{"the answer is lost and it was not done", script{losesRequest}, talos.ApplyAuto, runbook.Unknown, errs.Unknown, 1},
		{"it answers and does not do it", script{func(m *fake.Machine) { m.Ignore = true }}, talos.ApplyAuto, runbook.NodeLost, errs.Lost, 1},
		{"a reboot is needed", script{needsReboot}, talos.ApplyAuto, runbook.Rebooted, errs.OK, 1},
		{"the answer before the reboot is lost", script{needsReboot, losesAnswer}, talos.ApplyAuto, runbook.Rebooted, errs.OK, 1},
		{"the request before the reboot is lost", script{needsReboot, losesRequest}, talos.ApplyAuto, runbook.Unknown, errs.Unknown, 1},
		{
			"the request is lost in an outage",
			script{needsReboot, losesRequest, func(m *fake.Machine) { m.Outage = 5 * time.Second }},
			talos.ApplyAuto, runbook.Unknown, errs.Unknown, 1,
		},
		{"no reboot may be", script{needsReboot}, talos.ApplyNoReboot, runbook.Refused, errs.Refused, 0},
		{
			"unhealthy after the reboot",
			script{needsReboot, func(m *fake.Machine) { m.AfterBoot = func(m *fake.Machine) { m.Stage.Ready = false } }},
			talos.ApplyAuto, runbook.NodeLost, errs.Lost, 1,
		},
		{"staged and lost is read back", script{losesAnswer}, talos.ApplyStaged, runbook.Staged, errs.OK, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				node := configured()
				for _, set := range c.script {
					set(node)
				}

				res, err := machineconfig.Apply(t.Context(), site(node), []byte(configAfter), options(c.mode), progress.Discard{})
				if res.Status != c.want || errs.ExitCode(err) != c.code {
					t.Errorf("status %s, exit %d, want %s, %d: %v", res.Status, errs.ExitCode(err), c.want, c.code, err)
				}

				if len(node.Calls) != c.sent {
					t.Errorf("sent %d times, want %d", len(node.Calls), c.sent)
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

			node := configured()
			o := options(talos.ApplyAuto)
			o.DryRun = c.dryRun

			res, err := machineconfig.Apply(t.Context(), site(node), []byte(c.text), o, progress.Discard{})
			if res.Status != c.want || errs.ExitCode(err) != c.code || len(node.Calls) > 0 {
				t.Errorf("status %s, exit %d, sent %v: %v", res.Status, errs.ExitCode(err), node.Calls, err)
			}
		})
	}
}
