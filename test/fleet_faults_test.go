package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/runbook"
)

// TestFleetFaults injects faults on one cluster, node after node, and checks the state that each leaves.
func TestFleetFaults(t *testing.T) {
	t.Parallel()

	f := startFleet(t, "--controlplanes", "3", "--workers", "14", "--talos-version", "v1.13.8")

	// The order matters: each fault leaves the cluster as it was.
	for _, part := range []struct {
		name string
		run  func(*fleet)
	}{
		{"a budget that can never be met", (*fleet).budgetNeverMet},
		{"another operator", (*fleet).otherOperator},
		{"pods of every kind, and a second run", (*fleet).podsOfEveryKind},
		{"a drain that takes too long", (*fleet).drainTimesOut},
		{"nodes that fail", (*fleet).nodesFail},
		{"the Kubernetes API away", (*fleet).kubernetesAway},
		{"a lock that runs out", (*fleet).lockRunsOut},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			g := *f
			g.t = t
			part.run(&g)
		}) {
			break
		}
	}
}

// upgradeNode runs `upgrade node` and returns its result and exit code. at receives each line of progress.
func (f *fleet) upgradeNode(node string, at func(line string), args ...string) (upgrade.Result, int) {
	f.t.Helper()

	cmd := f.talosmate(append([]string{
		"upgrade", "node", "-n", node, "--image", factoryImage, "-o", "json", "--progress", "plain",
	}, args...)...)

	var doc struct{ Result upgrade.Result }

	code, said := f.follow(cmd, &doc, at)
	if f.t.Failed() {
		f.t.Logf("it said:\n%s", said)
	}

	return doc.Result, code
}

const factoryImage = "factory.talos.dev/metal-installer/613e1592b2da41ae5e265e8789429f22e121aab91cb4deb6bc3c0b6262961245:v1.13.9"

// follow runs a command that writes a document, and passes on each line of stderr.
func (f *fleet) follow(cmd *exec.Cmd, doc any, at func(line string)) (int, string) {
	f.t.Helper()

	var stdout bytes.Buffer

	cmd.Stdout = &stdout

	pipe, err := cmd.StderrPipe()
	if err != nil {
		f.t.Fatal(err)
	}

	if err = cmd.Start(); err != nil {
		f.t.Fatal(err)
	}

	said := []string{}

	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		said = append(said, lines.Text())

		if at != nil {
			at(lines.Text())
		}
	}

	_ = cmd.Wait() // the exit code shows it

	if err = json.Unmarshal(stdout.Bytes(), doc); err != nil {
		f.t.Fatalf("%v\n%s\n%s", err, stdout.String(), strings.Join(said, "\n"))
	}

	return cmd.ProcessState.ExitCode(), strings.Join(said, "\n")
}

// left is the expected state of a node after a run.
type left struct {
	version           string
	cordoned, marked  bool
	reboots, installs int
}

// isLeft fails the test when the node's state differs, or when the lock is still held.
func (f *fleet) isLeft(name string, want left) {
	f.t.Helper()

	n, found, err := f.kube.Node(f.t.Context(), name)
	if err != nil || !found {
		f.t.Fatalf("%s: %t, %v", name, found, err)
	}

	h := f.histories()[name]
	got := left{f.machine(name).Version, n.Unschedulable, n.Annotations[upgrade.MarkerAnnotation] != "", len(h.Reboots), len(h.Installs)}

	if got != want {
		f.t.Errorf("%s is %+v, want %+v", name, got, want)
	}

	if _, ours := n.Annotations[kube.CordonAnnotation]; ours {
		f.t.Errorf("%s carries a cordon of ours", name)
	}

	if lock, err := f.kube.ReadLock(f.t.Context(), time.Now()); err != nil || lock.Held {
		f.t.Errorf("the lock: %+v, %v", lock, err)
	}
}

// remove deletes a Kubernetes object.
func (f *fleet) remove(path string) {
	f.t.Helper()

	if err := f.kube.API.CoreV1().RESTClient().Delete().AbsPath(path).Do(f.t.Context()).Error(); err != nil {
		f.t.Fatal(err)
	}
}

// patch changes a Kubernetes object by a merge patch.
func (f *fleet) patch(path, body string) {
	f.t.Helper()

	if err := f.kube.API.CoreV1().RESTClient().Patch("application/merge-patch+json").AbsPath(path).Body([]byte(body)).Do(f.t.Context()).Error(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) budgetNeverMet() {
	f.workload("stuck", 2, 2)

	res, code := f.apply()
	if code != 5 || res.Status != runbook.Refused || !strings.Contains(res.Error, "TM140") || !strings.Contains(res.Error, "default/stuck") {
		f.t.Errorf("exit code %d, %q: %s", code, res.Status, res.Error)
	}

	f.remove("/apis/policy/v1/namespaces/default/poddisruptionbudgets/stuck")
	f.remove("/apis/apps/v1/namespaces/default/deployments/stuck")
	f.untouched()
}

func (f *fleet) otherOperator() {
	other := kube.Holder{Name: "ann@elsewhere", Command: "talosmate upgrade apply", Process: kube.Process{PID: 1, Space: "elsewhere"}}

	lock, err := f.kube.TakeLock(f.t.Context(), other, time.Now, nil)
	if err != nil {
		f.t.Fatal(err)
	}

	if res, code := f.apply(); code != 5 || !strings.Contains(res.Error, "TM143") || !strings.Contains(res.Error, "ann@elsewhere") {
		f.t.Errorf("exit code %d, %q: %s", code, res.Status, res.Error)
	}

	if err = lock.Release(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}

	f.untouched()
}

// lease writes the lock of a user on another machine, renewed some time ago.
func (f *fleet) lease(ago time.Duration) error {
	const layout = "2006-01-02T15:04:05.000000Z"

	renewed := time.Now().Add(-ago).UTC()
	body := fmt.Sprintf(`{"metadata":{"annotations":{"talosmate.dev/command":"talosmate upgrade apply","talosmate.dev/process":"1 elsewhere"}},
		"spec":{"holderIdentity":"bob@elsewhere","leaseDurationSeconds":%d,"acquireTime":%q,"renewTime":%q}}`,
		kube.LockDuration/time.Second, renewed.Add(-time.Minute).Format(layout), renewed.Format(layout))

	return f.kube.API.CoreV1().RESTClient().Patch("application/merge-patch+json").
		AbsPath("/apis/coordination.k8s.io/v1/namespaces/" + kube.LockNamespace + "/leases/" + kube.LockName).Body([]byte(body)).Do(f.t.Context()).Error()
}

// lockRunsOut leaves a lock of another user's process on another machine that is not renewed any more. Until it has
// expired nobody takes it over, not even from a holder whose clock is behind; then the next run takes it over and
// reports it.
func (f *fleet) lockRunsOut() {
	refused := func(when string) {
		f.t.Helper()

		if res, code := f.upgradeNode("worker-14", nil); code != 5 || !strings.Contains(res.Error, "TM143") || !strings.Contains(res.Error, "bob@elsewhere") {
			f.t.Errorf("%s: exit code %d, %q: %s", when, code, res.Status, res.Error)
		}
	}

	if err := f.lease(kube.LockDuration - 10*time.Second); err != nil {
		f.t.Fatal(err)
	}

	refused("in its last seconds")

	// A holder whose clock is an hour behind keeps renewing.
	ctx, stop := context.WithCancel(f.t.Context())
	renewals := make(chan error, 1)

	go func() {
		var err error
		for err == nil && poll.Pause(ctx, 500*time.Millisecond) == nil {
			err = f.lease(time.Hour)
		}

		renewals <- err
	}()

	f.until("the other clock to be seen", func(ctx context.Context) bool {
		lock, err := f.kube.ReadLock(ctx, time.Now())

		return err == nil && lock.Holder == "bob@elsewhere" && !lock.Held
	})
	refused("by another clock")
	stop()

	if err := <-renewals; err != nil {
		f.t.Fatal(err)
	}

	res, code := f.upgradeNode("worker-14", nil)
	if code != 0 || res.Status != runbook.OK {
		f.t.Errorf("exit code %d, %q: %s", code, res.Status, res.Error)
	}

	if !slices.ContainsFunc(res.Stages, func(s runbook.Stage) bool {
		return strings.Contains(s.Message, "taken over from bob@elsewhere (talosmate upgrade apply")
	}) {
		f.t.Errorf("nothing tells of the takeover: %+v", res.Stages)
	}

	f.isLeft("worker-14", left{"v1.13.9", false, false, 1, 1})
}

// untouched fails the test when any node was installed on, rebooted or cordoned.
func (f *fleet) untouched() {
	f.t.Helper()

	for name, h := range f.histories() {
		if len(h.Installs) > 0 || len(h.Reboots) > 0 {
			f.t.Errorf("%s was touched: %+v", name, h)
		}
	}

	nodes, err := f.kube.Nodes(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}

	for _, n := range nodes {
		if n.Unschedulable {
			f.t.Errorf("%s is cordoned", n.Name)
		}
	}
}

func (f *fleet) nodesFail() {
	tests := []struct {
		node, fault string
		args        []string
		status      runbook.Status
		code        int
		error       string
		left        left
	}{
		{"worker-8", "boot-old-slot", nil, runbook.RolledBack, 8, "came back on v1.13.8", left{"v1.13.8", false, false, 1, 1}},
		{"worker-9", "never-return", []string{"--reboot-timeout", "5s"}, runbook.DidNotReturn, 9, "waited 5s", left{"v1.13.8", false, true, 1, 1}},
		{"worker-10", "return-without-kubernetes", []string{"--ready-timeout", "5s"}, runbook.VerifyFailed, 9, "kubelet", left{"v1.13.9", false, true, 1, 1}},
		{"worker-11", "lose-extensions", nil, runbook.VerifyFailed, 9, "the schematic is", left{"v1.13.9", false, true, 1, 1}},
		{"worker-12", "install-exit-code=1", nil, runbook.InstallFailed, 1, "exit code 1", left{"v1.13.8", false, false, 0, 1}},
		{"worker-13", "registry-status=404", nil, runbook.PullFailed, 1, "not found", left{"v1.13.8", false, false, 0, 0}},
		{"worker-13", "registry-status=500", nil, runbook.PullFailed, 1, "500", left{"v1.13.8", false, false, 0, 0}},
	}

	for _, tt := range tests {
		f.fault(tt.node, tt.fault)

		res, code := f.upgradeNode(tt.node, nil, tt.args...)
		if res.Status != tt.status || code != tt.code || !strings.Contains(res.Error, tt.error) {
			f.t.Errorf("%s: %q, exit code %d: %s", tt.fault, res.Status, code, res.Error)
		}

		f.isLeft(tt.node, tt.left)
		f.tellLab("clear", tt.node)
	}
}

// kubernetesAway makes the API server unavailable for 35 s during a drain. A run that begins meanwhile waits 20 s and
// is refused; the one in progress waits, and succeeds.
func (f *fleet) kubernetesAway() {
	begun := false

	res, code := f.upgradeNode("worker-13", func(line string) {
		if begun || !strings.Contains(line, "drain: draining") {
			return
		}

		begun = true

		f.tellLab("kubernetes-outage", "", "duration", "35s", "mode", "refuse")

		if second, code := f.upgradeNode("worker-14", nil); second.Status != runbook.DiscoveryFailed || code != 5 || !strings.Contains(second.Error, "TM141") {
			f.t.Errorf("begun without the API: %q, exit code %d: %s", second.Status, code, second.Error)
		}
	})
	if res.Status != runbook.OK || code != 0 || res.Retries == 0 || !res.Uncordoned {
		f.t.Errorf("%q, exit code %d, %d retries, uncordoned %t: %s", res.Status, code, res.Retries, res.Uncordoned, res.Error)
	}

	f.isLeft("worker-13", left{"v1.13.9", false, false, 1, 1})
	f.isLeft("worker-14", left{"v1.13.8", false, false, 0, 0})
}

func (f *fleet) drainTimesOut() {
	f.lonePod("kept", "worker-7", `{}`, `,"finalizers":["example.com/keep"]`)

	res, code := f.upgradeNode("worker-7", nil, "--drain-timeout", "3s")
	if res.Status != runbook.DrainFailed || code != 1 || !res.Uncordoned {
		f.t.Errorf("%q, exit code %d, uncordoned %t: %s", res.Status, code, res.Uncordoned, res.Error)
	}

	f.isLeft("worker-7", left{"v1.13.8", false, false, 0, 0})
	f.patch("/api/v1/namespaces/default/pods/kept", `{"metadata":{"finalizers":null}}`)
}

// podsOfEveryKind upgrades a control plane and several workers in parallel, each with its own kind of pods. A second
// run starts while a budget blocks the first.
func (f *fleet) podsOfEveryKind() {
	f.daemonSet("agent")
	f.lonePod("unmanaged", "worker-1", `{}`, "")
	f.lonePod("lasting", "worker-2", `{"lab.talosmate.dev/shutdown-seconds":"3"}`, "")
	f.lonePod("finalized", "worker-3", `{}`, `,"finalizers":["example.com/keep"]`)
	f.patch("/api/v1/nodes/worker-4", `{"spec":{"unschedulable":true}}`)
	f.held("held", "worker-5")

	stays := slices.Concat(f.podsOn("worker-1", "agent-"), f.podsOn("cp-3", "kube-"))
	if len(stays) < 4 {
		f.t.Fatalf("want a pod of a DaemonSet and three mirror pods, there are %v", stays)
	}

	seen := map[string]bool{}
	once := func(line, text string, do func()) {
		if !seen[text] && strings.Contains(line, text) {
			seen[text] = true

			do()
		}
	}
	gone := func(name string) {
		if _, err := f.readPod(f.t.Context(), name); err == nil {
			f.t.Errorf("the install began while %s was there", name)
		}
	}

	cmd := f.talosmate("upgrade", "apply", "-n", "cp-3,worker-1,worker-2,worker-3,worker-4,worker-5", "--to", "v1.13.9",
		"--max-parallel", "5", "--check-images=false", "--snapshot", "none", "-o", "json", "--progress", "plain")

	var doc struct{ Result rollout.ApplyResult }

	code, said := f.follow(cmd, &doc, func(line string) {
		once(line, "worker-1: install:", func() { gone("unmanaged") })
		once(line, "worker-2: install:", func() { gone("lasting") })
		once(line, "worker-3: install:", func() { gone("finalized") })
		once(line, "worker-5: drain: error when evicting", func() {
			f.secondOperator()
			f.patch("/api/v1/namespaces/default/pods/held-2", `{"metadata":{"annotations":{"lab.talosmate.dev/ready":null}}}`)
			f.until("finalized to be leaving", func(ctx context.Context) bool {
				p, err := f.readPod(ctx, "finalized")

				return err == nil && p.Metadata.DeletionTimestamp != ""
			})
			f.patch("/api/v1/namespaces/default/pods/finalized", `{"metadata":{"finalizers":null}}`)
		})
	})
	if code != 0 || len(seen) != 4 {
		f.t.Fatalf("exit code %d, %q: %s\n%s", code, doc.Result.Status, doc.Result.Error, said)
	}

	for _, n := range doc.Result.Nodes {
		other := n.Hostname == "worker-4"
		if n.Status != runbook.OK || n.Cordoned == other || n.Uncordoned == other || (n.Hostname == "worker-5") != (n.Retries > 0) {
			f.t.Errorf("%s: %q, cordoned %t, uncordoned %t, %d retries", n.Hostname, n.Status, n.Cordoned, n.Uncordoned, n.Retries)
		}

		f.isLeft(n.Hostname, left{"v1.13.9", other, false, 1, 1})
	}

	if now := slices.Concat(f.podsOn("worker-1", "agent-"), f.podsOn("cp-3", "kube-")); !slices.Equal(now, stays) {
		f.t.Errorf("pods that a drain leaves alone: %v, before %v", now, stays)
	}
}

// secondOperator starts a second run while the first is in progress.
func (f *fleet) secondOperator() {
	f.t.Helper()

	me := kube.ThisHolder("").Name

	res, code := f.apply()
	if code != 5 || res.Status != runbook.Refused || !strings.Contains(res.Error, "TM143") || !strings.Contains(res.Error, me+" holds the cluster's lock") {
		f.t.Errorf("a second run: exit code %d, %q: %s", code, res.Status, res.Error)
	}
}

// daemonSet makes a DaemonSet and waits until it runs on all nodes except the control planes.
func (f *fleet) daemonSet(name string) {
	f.t.Helper()
	f.post("/apis/apps/v1/namespaces/default/daemonsets", `{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"`+name+`"},
		"spec":{"selector":{"matchLabels":{"app":"`+name+`"}},"template":{"metadata":{"labels":{"app":"`+name+`"}},
		"spec":{"containers":[{"name":"c","image":"x"}]}}}}`)
	f.until(name+" to run", func(ctx context.Context) bool {
		n, err := f.readyPods(ctx, name)

		return err == nil && n == 14
	})
}

// held makes two pods under a budget that requires one of them. The one on the node is ready, the other is not, so the
// budget allows no eviction for now.
func (f *fleet) held(name, node string) {
	f.t.Helper()
	f.post("/apis/policy/v1/namespaces/default/poddisruptionbudgets", `{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":"`+name+`"},
		"spec":{"minAvailable":1,"selector":{"matchLabels":{"team":"`+name+`"}}}}`)

	team := `,"labels":{"team":"` + name + `"}`
	f.post("/api/v1/namespaces/default/pods", podJSON(name+"-1", node, `{}`, team))
	f.post("/api/v1/namespaces/default/pods", podJSON(name+"-2", "worker-6", `{"lab.talosmate.dev/ready":"false"}`, team))
	f.until("the budget "+name+" to hold", func(ctx context.Context) bool {
		b, err := f.budget(ctx, name)

		return err == nil && b.Status.ObservedGeneration > 0 && b.Status.CurrentHealthy == 1 && b.Status.ExpectedPods == 2
	})
}

// podsOn lists the pods of a node with a name prefix, as NAME UID.
func (f *fleet) podsOn(node, prefix string) []string {
	f.t.Helper()

	var list struct {
		Items []struct{ Metadata struct{ Name, UID string } }
	}

	if err := f.read(f.t.Context(), "/api/v1/pods?fieldSelector=spec.nodeName%3D"+node, &list); err != nil {
		f.t.Fatal(err)
	}

	var out []string

	for _, p := range list.Items {
		if strings.HasPrefix(p.Metadata.Name, prefix) {
			out = append(out, p.Metadata.Name+" "+p.Metadata.UID)
		}
	}

	slices.Sort(out)

	return out
}
