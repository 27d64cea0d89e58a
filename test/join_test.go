package test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/ops/join"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/runbook"
)

// TestJoin adds and removes machines of a cluster with a real Kubernetes: a worker is added and removed, and a dead
// control plane is replaced.
func TestJoin(t *testing.T) {
	t.Parallel()

	f := startFleet(t, "--controlplanes", "3", "--workers", "1", "--maintenance", "2")

	f.until("every check of the cluster to pass", func(context.Context) bool { return f.talosmate("health").Run() == nil })

	// A worker is Ready before its command ends.
	worker := f.joined("node", "add", "-n", f.machine("new-1").Address, "-f", f.configOf("worker-1", "new-1"))
	if worker.Status != runbook.OK || worker.K8sNodeName != "new-1" || !f.ready("new-1") {
		t.Errorf("add: %+v, node ready: %t", worker, f.ready("new-1"))
	}

	if f.ready("new-2") {
		t.Error("a machine in maintenance mode is a Kubernetes node")
	}

	// It is removed with its Kubernetes node, after a drain.
	f.lonePod("guest", "new-1", "{}", "")

	// Interrupted while it is drained, it stays a node; a second run continues.
	stopped := watched[node.Result](f, "draining new-1", interrupt, "node", "remove", "-n", "new-1", "--yes")
	if stopped.code != 130 || stopped.Items[0].Status != runbook.Interrupted || !stopped.Items[0].Uncordoned || !f.machine("new-1").Up {
		t.Errorf("interrupted: exit code %d, %+v\n%s", stopped.code, stopped.Items[0], stopped.stderr)
	}

	f.cordoned("new-1", false)

	if out, err := f.talosmate("node", "remove", "-n", "new-1", "--silence", "5s", "--yes").CombinedOutput(); err != nil {
		t.Fatalf("remove: %v\n%s", err, out)
	}

	if err := f.read(t.Context(), "/api/v1/nodes/new-1", &struct{}{}); err == nil {
		t.Error("the Kubernetes node is left")
	}

	f.removeDead("worker-1")

	// A dead control plane: its member and its Kubernetes node are removed, another one votes and is Ready.
	f.ctl("power", "cp-3", "off")
	f.until("etcd to have a leader", func(ctx context.Context) bool {
		return f.command(filepath.Join(f.bin, "talosmate-lab"), "ctl", "etcd", "leader").Run() == nil && ctx.Err() == nil
	})

	cp := f.joined("node", "replace", "cp-3", "--with", f.machine("new-2").Address, "-f", f.configOf("cp-1", "new-2"), "--yes")
	if last := cp.Voters[len(cp.Voters)-1]; cp.Status != runbook.OK || last.Voters != 3 || last.Healthy != 3 || !f.ready("new-2") {
		t.Errorf("replace: %+v, node ready: %t", cp, f.ready("new-2"))
	}

	if err := f.read(t.Context(), "/api/v1/nodes/cp-3", &struct{}{}); err == nil {
		t.Error("the dead control plane's Kubernetes node is left")
	}
}

// removeDead removes a worker that is off for good: not as a living one, not before Kubernetes has given it up, and not
// while it answers.
func (f *fleet) removeDead(name string) {
	f.t.Helper()

	remove := func(code int, says string, args ...string) {
		f.t.Helper()

		var doc struct{ Items []node.Result }

		got, said := f.follow(f.talosmate(append([]string{"node", "remove", "-n", name, "--silence", "5s", "--yes", "-o", "json", "--progress", "plain"}, args...)...), &doc, nil)
		if got != code || !strings.Contains(said, says) {
			f.t.Errorf("remove %v: exit code %d, want %d and %q: %s", args, got, code, says, said)
		}

		if code == 0 && (len(doc.Items) != 1 || !doc.Items[0].Dead || !doc.Items[0].K8sNodeDeleted) {
			f.t.Errorf("remove %v: %+v", args, doc.Items)
		}
	}

	remove(5, "hears from the kubelet", "--dead")
	f.ctl("power", name, "off")
	remove(6, "--dead")
	f.until("Kubernetes to give it up", func(context.Context) bool { return !f.ready(name) })
	remove(0, "was not wiped", "--dead")

	if err := f.read(f.t.Context(), "/api/v1/nodes/"+name, &struct{}{}); err == nil {
		f.t.Error("the dead worker's Kubernetes node is left")
	}
}

// joined runs `node add` or `node replace`, which must succeed.
func (f *fleet) joined(args ...string) join.Result {
	f.t.Helper()

	var doc struct{ Result join.Result }

	if code, said := f.follow(f.talosmate(append(args, "-o", "json", "--progress", "plain")...), &doc, nil); code != 0 {
		f.t.Fatalf("%v: exit code %d\n%s", args, code, said)
	}

	return doc.Result
}

// configOf writes a node's configuration to a file, under another hostname.
func (f *fleet) configOf(node, hostname string) string {
	f.t.Helper()

	text, err := f.talosmate("machineconfig", "get", "-n", node, "--show-secrets").Output()
	if err != nil {
		f.t.Fatal(err)
	}

	file := filepath.Join(f.dir, hostname+".yaml")
	if err = os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "hostname: "+node, "hostname: "+hostname)), 0o600); err != nil {
		f.t.Fatal(err)
	}

	return file
}

// ready reports whether a Kubernetes node is ready.
func (f *fleet) ready(name string) bool {
	f.t.Helper()

	var n struct {
		Status struct {
			Conditions []struct{ Type, Status string }
		}
	}

	if err := f.read(f.t.Context(), "/api/v1/nodes/"+name, &n); err != nil {
		return false
	}

	for _, c := range n.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}

	return false
}
