package test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/ops/configrollout"
	"github.com/talosmate/talosmate/internal/runbook"
)

// rollOut rolls the configurations out, and returns the result, the exit code and stderr.
func (f *fleet) rollOut(args ...string) (configrollout.Result, int, string) {
	f.t.Helper()

	cmd := f.talosmate(append([]string{"machineconfig", "rollout", "apply", "configs", "-A", "--settle-time", "1s", "-o", "json"}, args...)...)

	var stderr strings.Builder

	cmd.Stderr = &stderr
	out, _ := cmd.Output() // the exit code shows it

	var doc struct{ Result configrollout.Result }
	if err := json.Unmarshal(out, &doc); err != nil {
		f.t.Fatalf("%v\n%s\n%s", err, out, stderr.String())
	}

	return doc.Result, cmd.ProcessState.ExitCode(), stderr.String()
}

// TestConfigRollout changes 3 control planes and 6 workers of a real Kubernetes: a second operator is refused while the first one
// holds the cluster's lock, and every node was seen by Kubernetes too.
func TestConfigRollout(t *testing.T) {
	t.Parallel()

	f := startFleet(t, "--workers", "6")
	names := []string{"cp-1", "cp-2", "cp-3", "worker-1", "worker-2", "worker-3", "worker-4", "worker-5", "worker-6"}

	for _, name := range names {
		f.write("configs/"+name+".yaml", f.output("machineconfig", "get", "-n", name, "--show-secrets")+
			"---\napiVersion: v1alpha1\nkind: StaticHostConfig\nname: 10.0.0.9\nhostnames: [registry.example.com]\n")
	}

	first := f.talosmate("machineconfig", "rollout", "apply", "configs", "-A", "--canary", "worker-6", "--soak", "1h", "--settle-time", "1s")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}

	f.until("the canary to be changed", func(ctx context.Context) bool {
		lock, err := f.kube.ReadLock(ctx, time.Now())

		return err == nil && lock.Held && strings.Contains(f.output("machineconfig", "rollout", "status", "configs", "-o", "json",
			"--query", `.result.nodes[] | select(.hostname == "worker-6") | .state + " " + .sync + " " + (.from_here | tostring)`), "clean in_sync true")
	})

	res, code, stderr := f.rollOut()
	for _, want := range []string{"TM143", "holds the cluster's lock for `talosmate machineconfig rollout apply configs`", "and `talosmate machineconfig rollout apply configs` needs it"} {
		if code != 5 || res.Status != runbook.Refused || !strings.Contains(stderr, want) {
			t.Errorf("the second operator: exit code %d, %s, want %s in\n%s", code, res.Status, want, stderr)
		}
	}

	if err := errors.Join(first.Process.Signal(os.Interrupt), first.Wait()); err == nil || first.ProcessState.ExitCode() != 130 {
		t.Errorf("the first operator: exit code %d: %v", first.ProcessState.ExitCode(), err)
	}

	res, code, stderr = f.rollOut("--max-parallel", "3")
	if code != 0 || res.Status != runbook.OK || !res.Locked || len(res.Nodes) != len(names) {
		t.Fatalf("exit code %d, %s, locked: %t, %d nodes\n%s", code, res.Status, res.Locked, len(res.Nodes), stderr)
	}

	for _, n := range res.Nodes {
		if n.Hostname == "worker-6" {
			continue
		}

		byKubernetes := slices.ContainsFunc(n.Seen, func(s configrollout.Seen) bool { return s.By == "kubernetes" && s.OK })
		if n.Status != runbook.OK || n.How != configrollout.HowConfirmed || !byKubernetes {
			t.Errorf("%s: %s %s, seen %+v", n.Hostname, n.Status, n.How, n.Seen)
		}
	}

	if got := f.output("machineconfig", "rollout", "status", "configs", "-o", "json", "--query", `.result.in_sync`); strings.TrimSpace(got) != "true" {
		t.Errorf("in sync: %s", got)
	}
}
