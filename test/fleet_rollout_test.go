package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/ops/configrollout"
	"github.com/talosmate/talosmate/internal/runbook"
)

// TestFleetRollout rolls configurations out over nine nodes with a real Kubernetes. Two operators at a time do not get in
// each other's way, and a gateway with a typo on a control plane reverts.
func TestFleetRollout(t *testing.T) {
	t.Parallel()

	f := &rolledOut{fleet: startFleet(t, "--controlplanes", "3", "--workers", "6", "--talos-version", "v1.14.1")}
	nodes := []string{"cp-1", "cp-2", "cp-3", "worker-1", "worker-2", "worker-3", "worker-4", "worker-5", "worker-6"}

	for _, n := range nodes {
		f.file(n, "")
	}

	first := f.begin("--canary", "worker-6", "--max-parallel", "3")
	f.until("the canary to be tried", func(ctx context.Context) bool {
		var state struct {
			TryPending bool `json:"try_pending"`
		}

		return f.control(ctx, &state, "state", "worker-6") == nil && state.TryPending
	})

	second := f.begin()
	second.cmd.Env = append(second.cmd.Env, "XDG_STATE_HOME="+t.TempDir())

	if _, code := second.end(t); code != 5 || !strings.Contains(second.stderr.String(), "TM143") {
		t.Errorf("the second operator: exit code %d\n%s", code, second.stderr.String())
	}

	got, code := first.end(t)
	if code != 0 || got.Status != runbook.OK || !got.Locked || len(got.Nodes) != len(nodes) || got.Nodes[0].Hostname != "worker-6" {
		t.Fatalf("exit code %d, %+v\n%s", code, got, first.stderr.String())
	}

	var until map[string]configrollout.Applied

	for _, n := range got.Nodes {
		if n.How != configrollout.HowConfirmed || !slices.ContainsFunc(n.Seen, func(s configrollout.Seen) bool { return s.By == "kubernetes" && s.OK }) {
			t.Errorf("%s: %s %s, seen by %v", n.Hostname, n.Status, n.How, n.Seen)
		}

		if !strings.HasPrefix(n.Hostname, "cp-") {
			continue
		}

		for other, was := range until {
			if n.Stages[0].Time.Before(was.Stages[len(was.Stages)-1].Time) {
				t.Errorf("%s began before %s ended", n.Hostname, other)
			}
		}

		until = map[string]configrollout.Applied{n.Hostname: n}
	}

	f.file("cp-2", "127.1.1.1")
	f.file("worker-1", "127.1.1.1")

	if got, code = f.begin().end(t); code != 8 || got.Status != runbook.Halted || !slices.Equal(got.Remaining, []string{"worker-1"}) {
		t.Errorf("exit code %d: %s, remaining %v", code, got.Status, got.Remaining)
	}
}

// rolledOut is a cluster with a directory of configurations.
type rolledOut struct{ *fleet }

// file writes the configuration of a node with a static address and a gateway, the right one if it is empty.
func (f *rolledOut) file(node, gateway string) {
	f.t.Helper()

	address := f.address(node)
	if gateway == "" {
		gateway = address[:strings.LastIndexByte(address, '.')] + ".1"
	}

	text, _, _ := strings.Cut(f.output("machineconfig", "get", "-n", node, "--show-secrets"), "---\napiVersion: v1alpha1\nkind: LinkConfig")
	f.write("configs/"+node+".yaml", text+fmt.Sprintf("---\napiVersion: v1alpha1\nkind: LinkConfig\nname: eth0\naddresses: [{address: %s/24}]\nroutes: [{gateway: %s}]\n", address, gateway))
}

func (f *rolledOut) address(node string) string {
	name := strings.ToUpper(strings.ReplaceAll(node, "-", "_")) + "="

	for _, e := range f.env {
		if address, is := strings.CutPrefix(e, name); is {
			return address
		}
	}

	f.t.Fatal("no node " + node)

	return ""
}

// rolling is a rollout that runs.
type rolling struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	begun          bool
}

func (f *rolledOut) begin(args ...string) *rolling {
	f.t.Helper()

	r := &rolling{cmd: f.talosmate(append([]string{
		"machineconfig", "rollout", "apply", "configs", "-A", "--try-timeout", "20s", "--settle-time", "1s", "--ready-timeout", "60s", "-o", "json", "--progress", "plain",
	}, args...)...)}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr

	if len(args) > 0 {
		r.start(f.t)
	}

	return r
}

func (r *rolling) start(t *testing.T) {
	t.Helper()

	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}

	r.begun = true
}

// end waits for the rollout and returns its result and exit code.
func (r *rolling) end(t *testing.T) (configrollout.Result, int) {
	t.Helper()

	if !r.begun {
		r.start(t)
	}

	err := r.cmd.Wait()

	var doc struct{ Result configrollout.Result }
	if jsonErr := json.Unmarshal(r.stdout.Bytes(), &doc); jsonErr != nil {
		t.Fatalf("%v: %v\n%s\n%s", err, jsonErr, r.stdout.String(), r.stderr.String())
	}

	return doc.Result, r.cmd.ProcessState.ExitCode()
}
