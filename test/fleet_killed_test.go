package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/ops/rollout"
)

// death is the moment at which a run over one node is killed: after these texts, in order, once the condition holds.
type death struct {
	where string
	texts []string
	then  func(ctx context.Context, node string) bool
	fault string // Armed on the node before.
	pod   bool   // A pod that takes some time to stop runs on the node.
}

// killAt runs the upgrade of one node and kills it at that moment.
func (f *fleet) killAt(node string, d death) {
	f.t.Helper()

	if d.fault != "" {
		f.fault(node, d.fault)
	}

	if d.pod {
		f.slowPod("slow-"+node, node)
	}

	cmd := f.talosmate("upgrade", "apply", "-n", node, "--to", "v1.13.9", "--check-images=false", "--snapshot", "none", "--progress", "plain")

	pipe, err := cmd.StderrPipe()
	if err != nil {
		f.t.Fatal(err)
	}

	if err = cmd.Start(); err != nil {
		f.t.Fatal(err)
	}

	left, said := d.texts, []string{}
	kill := func() {
		if d.then != nil {
			f.until(d.where, func(ctx context.Context) bool { return d.then(ctx, node) })
		}

		_ = cmd.Process.Kill() // the exit code below shows it
	}

	if len(left) == 0 {
		kill()
	}

	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		said = append(said, lines.Text())

		if len(left) > 0 && strings.Contains(lines.Text(), left[0]) {
			if left = left[1:]; len(left) == 0 {
				kill()
			}
		}
	}

	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != -1 {
		f.t.Errorf("%s: the run ended by itself, exit code %d:\n%s", d.where, cmd.ProcessState.ExitCode(), strings.Join(said, "\n"))
	}

	if d.fault != "" {
		f.tellLab("clear", node)
	}
}

// slowPod makes an unmanaged pod on a node that takes two seconds to stop.
func (f *fleet) slowPod(name, node string) {
	f.t.Helper()
	f.lonePod(name, node, `{"lab.talosmate.dev/shutdown-seconds":"2"}`, "")
}

// deaths are all borders between two phases, and the middle of long phases.
func deaths(f *fleet) (lifecycle, legacy []death) {
	down := func(ctx context.Context, node string) bool {
		all, err := f.nodes(ctx)

		return err == nil && slices.ContainsFunc(all, func(n labNode) bool { return n.Name == node && !n.Up })
	}
	locked := func(ctx context.Context, _ string) bool {
		lock, err := f.kube.ReadLock(ctx, time.Now())

		return err == nil && lock.Held
	}
	leaving := func(ctx context.Context, node string) bool {
		p, err := f.readPod(ctx, "slow-"+node)

		return err == nil && p.Metadata.DeletionTimestamp != ""
	}
	prepared := "preflight: observing"

	lifecycle = []death{
		{where: "holding the lock", then: locked},
		{where: "in the pull for all", texts: []string{"pull: pulling"}, fault: "pull-slow=1s"},
		{where: "after the pull for all", texts: []string{"waiting for its turn"}},
		{where: "at the node's preflight", texts: []string{prepared}},
		{where: "in the node's own pull", texts: []string{prepared, "pull: pulling"}, fault: "pull-slow=1s"},
		{where: "at the cordon", texts: []string{"cordon: cordoning"}},
		{where: "at the drain", texts: []string{"drain: draining"}},
		{where: "in the drain", texts: []string{"drain: draining"}, then: leaving, pod: true},
		{where: "at the install", texts: []string{"install: installing"}},
		{where: "in the install", texts: []string{"install: 20"}},
		{where: "after the install", texts: []string{"installation of v1.13.9 complete"}},
		{where: "at the reboot", texts: []string{"reboot: rebooting"}, fault: "hold-request=Reboot"},
		{where: "in the reboot", texts: []string{"wait: waiting"}},
		{where: "in the wait", texts: []string{"wait: waiting"}, then: down},
		{where: "after the wait", texts: []string{"a new boot answers"}},
		{where: "at the uncordon", texts: []string{"uncordon: uncordoning"}},
		{where: "in the verification", texts: []string{"verify: verifying"}},
		{where: "at the end", texts: []string{": ok:"}},
	}
	legacy = []death{
		{where: "legacy, at the request", texts: []string{"install: asking"}},
		{where: "legacy, in the install", texts: []string{"wait: waiting"}},
		{where: "legacy, in the wait", texts: []string{"wait: waiting"}, then: down},
	}

	return lifecycle, legacy
}

// TestFleetKilled kills runs with SIGKILL at every border between two phases and in the middle of long phases, each on
// a worker of its own, and runs on two control planes; one last run finishes them all.
func TestFleetKilled(t *testing.T) {
	t.Parallel()

	lifecycle, legacy := deaths(&fleet{})
	workers := len(lifecycle) + len(legacy)

	mixed := make([]string, len(legacy))
	for i := range legacy {
		mixed[i] = fmt.Sprintf("worker-%d=v1.12.9", len(lifecycle)+i+1)
	}

	f := startFleet(t, "--controlplanes", "3", "--workers", fmt.Sprint(workers), "--talos-version", "v1.13.8",
		"--mixed", strings.Join(mixed, ","), "--install-time", "1s")
	lifecycle, legacy = deaths(f)

	for i, d := range append(lifecycle, legacy...) {
		f.killAt(fmt.Sprintf("worker-%d", i+1), d)
	}

	f.killLeader()

	left, before := f.leftBehind(), f.histories()

	res, code := f.apply("--max-parallel", "100%")
	if code != 0 {
		t.Fatalf("exit code %d, %q: %s", code, res.Status, res.Error)
	}

	f.released("v1.13.9")

	for name, h := range f.histories() {
		needed := 1

		// A second boot is needed only after an install that began and did not end, to find out what the node holds.
		// The legacy API's single request needs none.
		if left[name] == rollout.StateInstalling && len(before[name].Installs) == 0 && !strings.Contains(strings.Join(mixed, ","), name+"=") {
			needed++
		}

		if len(h.Reboots) != needed || len(h.Installs) != 1 {
			t.Errorf("%s: %d reboots instead of %d, %d installs", name, len(h.Reboots), needed, len(h.Installs))
		}

		for _, i := range h.Installs {
			if i.Overwritten || i.ExitCode != 0 {
				t.Errorf("%s: an install overwrote the running slot, or failed: %+v", name, i)
			}
		}
	}
}

// killLeader kills a run on etcd's leader while it passes on its leadership, and one on another control plane while it
// is down.
func (f *fleet) killLeader() {
	f.t.Helper()

	var leader struct{ Node string }
	if err := f.control(f.t.Context(), &leader, "etcd-leader", ""); err != nil {
		f.t.Fatal(err)
	}

	f.killAt(leader.Node, death{where: "at the leader's change", texts: []string{"leadership: before"}})

	other := "cp-1"
	if leader.Node == other {
		other = "cp-2"
	}

	f.killAt(other, death{where: "waiting for a control plane", texts: []string{"wait: waiting"}, then: func(ctx context.Context, node string) bool {
		all, err := f.nodes(ctx)

		return err == nil && slices.ContainsFunc(all, func(n labNode) bool { return n.Name == node && !n.EtcdHealthy })
	}})
}

// leftBehind is the output of `upgrade status` for each node, with everything that a run can leave.
func (f *fleet) leftBehind() map[string]string {
	f.t.Helper()

	var doc struct{ Result rollout.StatusResult }

	out, err := f.talosmate("upgrade", "status", "-o", "json").Output()
	if len(out) == 0 {
		f.t.Fatal(err)
	}

	if err = json.Unmarshal(out, &doc); err != nil {
		f.t.Fatal(err)
	}

	const cordoned = "cordoned"

	states, counts := map[string]string{}, map[string]int{}

	for _, n := range doc.Result.Nodes {
		states[n.Hostname] = n.State
		counts[n.State]++

		if n.OurCordon {
			counts[cordoned]++
		}
	}

	f.t.Logf("left behind: %v", counts)

	for _, state := range []string{rollout.StateClean, rollout.StateInstalling, rollout.StateInstalled, rollout.StateStale, cordoned} {
		if counts[state] == 0 {
			f.t.Errorf("no kill left a node %s", state)
		}
	}

	if doc.Result.Clean || doc.Result.Lock.Holder == "" {
		f.t.Errorf("clean %t, lock %+v", doc.Result.Clean, doc.Result.Lock)
	}

	return states
}
