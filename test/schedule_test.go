package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/ops/drain"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/runbook"
)

// done is the result of a command over nodes.
type done[T any] struct {
	Items  []T
	Errors []struct{ Code, Gate, Message, Hint string }

	code   int
	stderr string
}

// watched runs a command over nodes to its end. As soon as it writes a text on stderr, then is called.
func watched[T any](f *fleet, text string, then func(*os.Process), args ...string) done[T] {
	f.t.Helper()

	var out done[T]

	cmd := f.talosmate(append(args, "-o", "json", "--progress", "plain")...)
	out.code, out.stderr = f.follow(cmd, &out, func(line string) {
		if then != nil && strings.Contains(line, text) {
			then(cmd.Process)
			then = nil
		}
	})

	if len(out.Items) != 1 {
		f.t.Fatalf("%v: %d items\n%s", args, len(out.Items), out.stderr)
	}

	if text != "" && then != nil {
		f.t.Errorf("%v never said %q:\n%s", args, text, out.stderr)
	}

	return out
}

func (f *fleet) schedule(args ...string) done[drain.Change] {
	f.t.Helper()

	return watched[drain.Change](f, "", nil, append([]string{"node"}, args...)...)
}

func (f *fleet) act(args ...string) done[node.Result] {
	f.t.Helper()

	return watched[node.Result](f, "", nil, append([]string{"node"}, args...)...)
}

// held is kubectl's message about a pod that a budget holds.
const held = "Cannot evict pod"

func interrupt(p *os.Process) { _ = p.Signal(os.Interrupt) } // it may have ended already

// cordoned fails the test when the Kubernetes node is not in the wanted state.
func (f *fleet) cordoned(name string, want bool) {
	f.t.Helper()

	n, found, err := f.kube.Node(f.t.Context(), name)
	if err != nil || !found || n.Unschedulable != want {
		f.t.Errorf("%s is cordoned: %t, found %t, %v", name, n.Unschedulable, found, err)
	}
}

// pods are the names of a node's pods, without the generated parts.
func (f *fleet) pods(ctx context.Context, name string) []string {
	var list struct {
		Items []struct {
			Metadata struct {
				Name            string
				OwnerReferences []struct{ Kind string }
			}
			Spec struct{ NodeName string }
		}
	}

	if err := f.read(ctx, "/api/v1/pods", &list); err != nil {
		return []string{err.Error()}
	}

	out := []string{}

	for _, p := range list.Items {
		if p.Spec.NodeName != name {
			continue
		}

		short := p.Metadata.Name
		if len(p.Metadata.OwnerReferences) > 0 {
			short, _, _ = strings.Cut(short, "-")
		}

		out = append(out, short)
	}

	slices.Sort(out)

	return out
}

// pod puts a pod on a node, or leaves it pending when no node is named, and waits until it runs.
func (f *fleet) pod(name, app, where, annotations string) {
	f.t.Helper()

	place := fmt.Sprintf(`"nodeName":%q`, where)
	if where == "" {
		place = `"nodeSelector":{"no":"where"}`
	}

	f.post("/api/v1/namespaces/default/pods", fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod",
		"metadata":{"name":%q,"labels":{"app":%q},"annotations":{%s}},
		"spec":{%s,"terminationGracePeriodSeconds":1,"volumes":[{"name":"scratch","emptyDir":{}}],"containers":[{"name":"c","image":"x"}]}}`,
		name, app, annotations, place))

	f.until(name+" to run", func(ctx context.Context) bool {
		var p struct{ Status struct{ Phase string } }

		return f.read(ctx, "/api/v1/namespaces/default/pods/"+name, &p) == nil && (p.Status.Phase == "Running" || where == "")
	})
}

// limit makes a budget that requires a number of pods, and waits until Kubernetes has counted them.
func (f *fleet) limit(name string, minimum, healthy int) {
	f.t.Helper()

	f.post("/apis/policy/v1/namespaces/default/poddisruptionbudgets", fmt.Sprintf(`{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":%[1]q},
		"spec":{"minAvailable":%[2]d,"selector":{"matchLabels":{"app":%[1]q}}}}`, name, minimum))

	f.until("the budget "+name+" to be counted", func(ctx context.Context) bool {
		b, err := f.budget(ctx, name)

		return err == nil && b.Status.ObservedGeneration > 0 && b.Status.CurrentHealthy == healthy
	})
}

func (f *fleet) unlimit(name string) {
	f.t.Helper()

	if err := f.kube.API.CoreV1().RESTClient().Delete().AbsPath("/apis/policy/v1/namespaces/default/poddisruptionbudgets/" + name).Do(f.t.Context()).Error(); err != nil {
		f.t.Error(err)
	}
}

// TestSchedule cordons, drains, reboots, powers off and resets Kubernetes nodes, one after the other in one lab.
func TestSchedule(t *testing.T) {
	t.Parallel()

	shared := startFleet(t, "--controlplanes", "1", "--workers", "2", "--talos-version", "v1.13.8")
	shared.workload("web", 4, 2)
	shared.post("/apis/apps/v1/namespaces/default/daemonsets", `{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"agent"},
		"spec":{"selector":{"matchLabels":{"app":"agent"}},"template":{"metadata":{"labels":{"app":"agent"}},"spec":{"containers":[{"name":"c","image":"x"}]}}}}`)
	shared.pod("lone", "lone", "worker-1", "")
	shared.pod("static", "static", "worker-1", `"kubernetes.io/config.mirror":"x"`)
	shared.until("the agents", func(ctx context.Context) bool { return slices.Contains(shared.pods(ctx, "worker-1"), "agent") })

	for _, c := range []struct {
		name string
		test func(*fleet)
	}{
		{"dry run", (*fleet).scheduleDryRun},
		{"cordon", (*fleet).scheduleCordon},
		{"drain", (*fleet).scheduleDrain},
		{"budget that is met later", (*fleet).scheduleReleased},
		{"budget that is never met", (*fleet).scheduleNever},
		{"interrupt", (*fleet).scheduleInterrupt},
		{"reboot", (*fleet).scheduleReboot},
		{"no Kubernetes API", (*fleet).scheduleUnreachable},
		{"node that is dead", (*fleet).scheduleDead},
		{"shutdown", (*fleet).scheduleShutdown},
		{"reset", (*fleet).scheduleReset},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := *shared
			f.t = t
			c.test(&f)
		})
	}
}

// scheduleDryRun: no request of ours has changed a Kubernetes node, and no pod was evicted.
func (f *fleet) scheduleDryRun() {
	before := f.pods(f.t.Context(), "worker-1")

	for _, args := range [][]string{{"cordon"}, {"drain"}, {"uncordon"}} {
		if got := f.schedule(append(args, "-n", "worker-1", "--dry-run")...); got.code != 0 || got.Items[0].Status != runbook.Planned {
			f.t.Errorf("%v: exit code %d, %q\n%s", args, got.code, got.Items[0].Status, got.stderr)
		}
	}

	for _, args := range [][]string{{"reboot", "--drain"}, {"shutdown", "--drain"}, {"reset", "--delete-kubernetes-node"}} {
		if got := f.act(append(args, "-n", "worker-1", "--dry-run")...); got.code != 0 || got.Items[0].Status != runbook.Planned {
			f.t.Errorf("%v: exit code %d, %q\n%s", args, got.code, got.Items[0].Status, got.stderr)
		}
	}

	if after := f.pods(f.t.Context(), "worker-1"); !slices.Equal(before, after) {
		f.t.Errorf("pods %v, before %v", after, before)
	}

	if managers := f.managers("worker-1"); slices.Contains(managers, "talosmate") {
		f.t.Errorf("the node was changed by %v", managers)
	}
}

// managers are the programs that have changed a Kubernetes node.
func (f *fleet) managers(name string) []string {
	f.t.Helper()

	var n struct {
		Metadata struct{ ManagedFields []struct{ Manager string } }
	}

	if err := f.read(f.t.Context(), "/api/v1/nodes/"+name, &n); err != nil {
		f.t.Fatal(err)
	}

	out := []string{}
	for _, m := range n.Metadata.ManagedFields {
		out = append(out, m.Manager)
	}

	return out
}

func (f *fleet) scheduleCordon() {
	for _, c := range []struct {
		verb          string
		status        runbook.Status
		cordoned, ran bool
	}{
		{"cordon", runbook.Cordoned, true, true},
		{"cordon", runbook.Unchanged, true, false},
		{"uncordon", runbook.Uncordoned, false, true},
		{"uncordon", runbook.Unchanged, false, false},
	} {
		got := f.schedule(c.verb, "-n", "worker-1")
		if got.code != 0 || got.Items[0].Status != c.status || got.Items[0].Changed != c.ran || got.Items[0].Unschedulable != c.cordoned {
			f.t.Errorf("%s: exit code %d, %+v", c.verb, got.code, got.Items[0])
		}

		f.cordoned("worker-1", c.cordoned)

		if managers := f.managers("worker-1"); c.cordoned && !slices.Contains(managers, "talosmate") {
			f.t.Errorf("the dry runs prove nothing: the node was changed by %v", managers)
		}
	}
}

// scheduleDrain: unmanaged pods and those with scratch space are evicted, daemons and static pods stay, and a node that
// was cordoned before stays cordoned.
func (f *fleet) scheduleDrain() {
	before := f.pods(f.t.Context(), "worker-1")

	if !slices.Contains(before, "web") || !slices.Contains(before, "lone") {
		f.t.Fatalf("nothing to drain: %v", before)
	}

	got := f.schedule("drain", "-n", "worker-1")
	if got.code != 0 || got.Items[0].Status != runbook.Drained || got.Items[0].DrainedPods != len(before)-2 || !got.Items[0].Changed {
		f.t.Errorf("exit code %d, %+v of %v\n%s", got.code, got.Items[0], before, got.stderr)
	}

	if left := f.pods(f.t.Context(), "worker-1"); !slices.Equal(left, []string{"agent", "static"}) {
		f.t.Errorf("left are %v", left)
	}

	got = f.schedule("drain", "-n", "worker-1")
	if got.code != 0 || got.Items[0].Status != runbook.Drained || got.Items[0].DrainedPods != 0 || got.Items[0].Changed {
		f.t.Errorf("again: exit code %d, %+v", got.code, got.Items[0])
	}

	f.cordoned("worker-1", true)
	f.schedule("uncordon", "-n", "worker-1")
}

// scheduleReleased: a budget holds a pod, and releases it while the drain waits.
func (f *fleet) scheduleReleased() {
	f.pod("later-1", "later", "worker-1", "")
	f.pod("later-2", "later", "", "")
	f.limit("later", 1, 1)

	got := watched[drain.Change](f, held, func(*os.Process) {
		f.cordoned("worker-1", true)
		f.unlimit("later")
	}, "node", "drain", "-n", "worker-1")

	if got.code != 0 || got.Items[0].Status != runbook.Drained || got.Items[0].DrainedPods != 1 {
		f.t.Errorf("exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	blockers := got.Items[0].Blockers
	if len(blockers) != 1 || blockers[0].Budget != "default/later" || blockers[0].Pod != "default/later-1" || blockers[0].Never {
		f.t.Errorf("blockers %+v", blockers)
	}

	f.schedule("uncordon", "-n", "worker-1")
}

// scheduleNever: a budget that can never be met is refused by its name; with the override the drain times out: a drain
// leaves its cordon, with a hint, and a reboot removes it.
func (f *fleet) scheduleNever() {
	f.pod("never", "never", "worker-1", "")
	f.limit("never", 1, 1)

	boot := f.machine("worker-1").BootID

	got := f.schedule("drain", "-n", "worker-1")
	if got.code != 5 || got.Items[0].Status != runbook.Refused || got.Errors[0].Gate != "TM140" || !strings.Contains(got.stderr, "default/never") {
		f.t.Errorf("drain: exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	act := f.act("reboot", "--drain", "-n", "worker-1")
	if act.code != 5 || act.Items[0].Status != runbook.Refused || act.Errors[0].Gate != "TM140" {
		f.t.Errorf("reboot: exit code %d, %+v\n%s", act.code, act.Items[0], act.stderr)
	}

	f.cordoned("worker-1", false)

	act = f.act("reboot", "--drain", "-n", "worker-1", "--override", "TM140", "--drain-timeout", "2s")
	if act.code != 1 || act.Items[0].Status != runbook.DrainFailed || !act.Items[0].Cordoned || !act.Items[0].Uncordoned {
		f.t.Errorf("overridden reboot: exit code %d, %+v\n%s", act.code, act.Items[0], act.stderr)
	}

	f.cordoned("worker-1", false)

	if f.machine("worker-1").BootID != boot {
		f.t.Error("the node was rebooted")
	}

	got = f.schedule("drain", "-n", "worker-1", "--override", "TM140", "--drain-timeout", "2s")
	if got.code != 1 || got.Items[0].Status != runbook.Failed || !strings.Contains(got.Errors[0].Hint, "talosmate node uncordon") {
		f.t.Errorf("overridden drain: exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	f.cordoned("worker-1", true)
	f.schedule("uncordon", "-n", "worker-1")
}

// scheduleInterrupt finds the pod that the previous test left: Ctrl-C removes our cordon and no other.
func (f *fleet) scheduleInterrupt() {
	boot := f.machine("worker-1").BootID

	got := watched[drain.Change](f, held, interrupt, "node", "drain", "-n", "worker-1", "--override", "TM140")
	if got.code != 130 || got.Items[0].Status != runbook.Interrupted || got.Items[0].Unschedulable || !strings.Contains(got.stderr, "the cordon of worker-1 was lifted") {
		f.t.Errorf("drain: exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	f.cordoned("worker-1", false)

	act := watched[node.Result](f, held, interrupt, "node", "reboot", "--drain", "-n", "worker-1", "--override", "TM140")
	if act.code != 130 || act.Items[0].Status != runbook.Interrupted || !act.Items[0].Uncordoned || f.machine("worker-1").BootID != boot {
		f.t.Errorf("reboot: exit code %d, %+v\n%s", act.code, act.Items[0], act.stderr)
	}

	f.cordoned("worker-1", false)
	f.schedule("cordon", "-n", "worker-1")

	got = watched[drain.Change](f, held, interrupt, "node", "drain", "-n", "worker-1", "--override", "TM140")
	if got.code != 130 || !got.Items[0].Unschedulable {
		f.t.Errorf("drain of a cordoned node: exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	f.cordoned("worker-1", true)
	f.schedule("uncordon", "-n", "worker-1")
	f.unlimit("never")
}

func (f *fleet) scheduleReboot() {
	boot := f.machine("worker-1").BootID

	got := f.act("reboot", "--drain", "-n", "worker-1")
	if got.code != 0 || got.Items[0].Status != runbook.OK || got.Items[0].DrainedPods != 1 || !got.Items[0].Uncordoned || f.machine("worker-1").BootID == boot {
		f.t.Errorf("exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	f.cordoned("worker-1", false)

	// Interrupted once it was sent: the reboot continues, and the cordon is removed anyway.
	boot = f.machine("worker-1").BootID

	got = watched[node.Result](f, "waiting for a new boot", interrupt, "node", "reboot", "--drain", "-n", "worker-1")
	if got.code != 130 || got.Items[0].Status != runbook.Interrupted || !got.Items[0].Uncordoned || !strings.Contains(got.Items[0].Hint, "was requested and continues") {
		f.t.Errorf("interrupted: exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	f.cordoned("worker-1", false)
	f.until("the new boot", func(context.Context) bool { return f.machine("worker-1").BootID != boot })
	f.ctl("wait", "worker-1")
	f.schedule("cordon", "-n", "worker-1")

	got = f.act("reboot", "--drain", "-n", "worker-1")
	if got.code != 0 || got.Items[0].Status != runbook.OK || got.Items[0].Cordoned || got.Items[0].Uncordoned {
		f.t.Errorf("cordoned before: exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	f.cordoned("worker-1", true)
	f.schedule("uncordon", "-n", "worker-1")
}

// scheduleDead: Kubernetes knows a node that does not answer any more, by its name and by its address.
func (f *fleet) scheduleDead() {
	address := f.machine("worker-2").Address
	f.ctl("power", "worker-2", "off")

	if got := f.schedule("cordon", "-n", "worker-2"); got.code != 0 || got.Items[0].Status != runbook.Cordoned {
		f.t.Errorf("by name: exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	f.cordoned("worker-2", true)

	if got := f.schedule("uncordon", "-n", address); got.code != 0 || got.Items[0].Status != runbook.Uncordoned {
		f.t.Errorf("by address: exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	f.cordoned("worker-2", false)
	f.ctl("power", "worker-2", "on")
	f.ctl("wait", "worker-2")
}

// scheduleUnreachable: without the Kubernetes API nothing in Kubernetes is changed, and no node goes down undrained.
func (f *fleet) scheduleUnreachable() {
	boot := f.machine("worker-1").BootID

	nowhere := filepath.Join(f.dir, "nowhere")
	if err := os.WriteFile(nowhere, []byte(`{"apiVersion":"v1","kind":"Config","current-context":"x","contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],
		"clusters":[{"name":"x","cluster":{"server":"https://127.0.0.1:1"}}],"users":[{"name":"x","user":{}}]}`), 0o600); err != nil {
		f.t.Fatal(err)
	}

	got := f.schedule("drain", "-n", "worker-1", "--kubeconfig", nowhere)
	if got.code != 5 || got.Items[0].Status != runbook.Refused || got.Errors[0].Gate != "TM141" || strings.Contains(got.Errors[0].Hint, "--override") {
		f.t.Errorf("drain: exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	act := f.act("reboot", "--drain", "-n", "worker-1", "--kubeconfig", nowhere)
	if act.code != 5 || act.Errors[0].Gate != "TM141" || f.machine("worker-1").BootID != boot {
		f.t.Errorf("reboot: exit code %d, %+v\n%s", act.code, act.Items[0], act.stderr)
	}
}

// scheduleShutdown: a node that was drained before it was powered off stays cordoned, even when it is back.
func (f *fleet) scheduleShutdown() {
	stopped := watched[node.Result](f, "waiting until the node is off", interrupt, "node", "shutdown", "--drain", "-n", "worker-1")
	if stopped.code != 130 || stopped.Items[0].Status != runbook.Interrupted || !strings.Contains(stopped.Items[0].Hint, "continues; check the node with `talosmate health`; it stays cordoned") {
		f.t.Errorf("interrupted: exit code %d, %+v\n%s", stopped.code, stopped.Items[0], stopped.stderr)
	}

	f.cordoned("worker-1", true)
	f.until("worker-1 to be off", func(context.Context) bool { return !f.machine("worker-1").Up })
	f.ctl("power", "worker-1", "on")
	f.ctl("wait", "worker-1")
	f.schedule("uncordon", "-n", "worker-1")

	got := f.act("shutdown", "--drain", "--silence", "5s", "-n", "worker-2")
	if got.code != 0 || got.Items[0].Status != runbook.OK || !got.Items[0].PoweredOff || got.Items[0].DrainedPods < 1 || got.Items[0].Uncordoned {
		f.t.Errorf("exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	f.cordoned("worker-2", true)
	f.ctl("power", "worker-2", "on")
	f.ctl("wait", "worker-2")
	f.cordoned("worker-2", true)

	if got := f.schedule("uncordon", "-n", "worker-2"); got.code != 0 || got.Items[0].Status != runbook.Uncordoned {
		f.t.Errorf("uncordon: exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}
}

func (f *fleet) scheduleReset() {
	got := f.act("reset", "--reboot", "--delete-kubernetes-node", "--yes", "-n", "worker-2")
	if got.code != 0 || got.Items[0].Status != runbook.OK || !got.Items[0].K8sNodeDeleted || !got.Items[0].Maintenance {
		f.t.Errorf("exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	if _, found, err := f.kube.Node(f.t.Context(), "worker-2"); err != nil || found {
		f.t.Errorf("the Kubernetes node is there: %t, %v", found, err)
	}
}
