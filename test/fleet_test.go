package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
)

// fleet is a lab with a real Kubernetes control plane behind it.
type fleet struct {
	t       *testing.T
	bin     string
	dir     string
	control string
	kube    *kube.Client
	env     []string
}

// startFleet starts a cluster that ends with the test.
func startFleet(t *testing.T, args ...string) *fleet {
	t.Helper()

	f := &fleet{t: t, bin: os.Getenv("TALOSMATE_TEST_BIN"), dir: t.TempDir()}
	lab := filepath.Join(f.dir, "lab")
	f.env = append(os.Environ(), "XDG_STATE_HOME="+f.dir, "TALOSMATE_LAB_DIR="+lab, "NO_COLOR=1", "TALOSCONFIG="+filepath.Join(lab, "talosconfig"))

	up := append([]string{
		"up", "--detach", "--dir", lab, "--kubernetes", "real", "--preset", "factory",
		"--install-time", "300ms", "--shutdown-time", "200ms", "--boot-time", "1s",
	}, args...)

	out, err := f.command(filepath.Join(f.bin, "talosmate-lab"), up...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("lab up: %v\n%s", err, exit.Stderr)
		}

		t.Fatal(err)
	}

	t.Cleanup(func() {
		if down, err := exec.Command(filepath.Join(f.bin, "talosmate-lab"), "down", "--dir", lab).CombinedOutput(); err != nil {
			t.Logf("lab down: %v\n%s", err, down)
		}
	})

	var info struct{ Kubeconfig, Control string }
	if err = json.Unmarshal(out, &info); err != nil {
		t.Fatal(err)
	}

	f.control = info.Control

	if f.kube, err = kube.Connect(t.Context(), kube.Access{Kubeconfig: info.Kubeconfig}); err != nil {
		t.Fatal(err)
	}

	return f
}

func (f *fleet) command(program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(f.t.Context(), program, args...)
	cmd.Env, cmd.Dir = f.env, f.dir

	return cmd
}

func (f *fleet) talosmate(args ...string) *exec.Cmd {
	return f.command(filepath.Join(f.bin, "talosmate"), args...)
}

// apply runs `upgrade apply` to its end and gives its result and exit code.
func (f *fleet) apply(args ...string) (upgrade.ApplyResult, int) {
	f.t.Helper()

	cmd := f.talosmate(append([]string{
		"upgrade", "apply", "-A", "--to", "v1.13.9", "--check-images=false", "--snapshot", "none", "-o", "json", "--progress", "plain",
	}, args...)...)

	var stdout, stderr bytes.Buffer

	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()

	var doc struct{ Result upgrade.ApplyResult }
	if jsonErr := json.Unmarshal(stdout.Bytes(), &doc); jsonErr != nil {
		f.t.Fatalf("%v: %v\n%s\n%s", err, jsonErr, stdout.String(), stderr.String())
	}

	if f.t.Failed() || cmd.ProcessState.ExitCode() != 0 {
		f.t.Logf("apply said:\n%s", stderr.String())
	}

	return doc.Result, cmd.ProcessState.ExitCode()
}

// post creates a Kubernetes object from its JSON.
func (f *fleet) post(path, body string) {
	f.t.Helper()

	if err := f.kube.API.CoreV1().RESTClient().Post().AbsPath(path).SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(f.t.Context()).Error(); err != nil {
		f.t.Fatal(err)
	}
}

// read gets a field path of a Kubernetes object.
func (f *fleet) read(ctx context.Context, path string, into any) error {
	raw, err := f.kube.API.CoreV1().RESTClient().Get().AbsPath(path).Do(ctx).Raw()
	if err != nil {
		return err
	}

	return json.Unmarshal(raw, into)
}

// workload makes a Deployment with a disruption budget, and waits until it is whole.
func (f *fleet) workload(name string, replicas, minimum int) {
	f.t.Helper()

	f.post("/apis/apps/v1/namespaces/default/deployments", fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":%[1]q},
		"spec":{"replicas":%[2]d,"selector":{"matchLabels":{"app":%[1]q}},"template":{"metadata":{"labels":{"app":%[1]q}},
		"spec":{"terminationGracePeriodSeconds":1,"volumes":[{"name":"scratch","emptyDir":{}}],"containers":[{"name":"c","image":"x"}]}}}}`, name, replicas))
	f.post("/apis/policy/v1/namespaces/default/poddisruptionbudgets", fmt.Sprintf(`{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":%[1]q},
		"spec":{"minAvailable":%[2]d,"selector":{"matchLabels":{"app":%[1]q}}}}`, name, minimum))

	f.until(name+" to be whole", func(ctx context.Context) bool {
		b, err := f.budget(ctx, name)

		return err == nil && b.Status.CurrentHealthy == replicas && b.Status.ObservedGeneration > 0
	})
}

type budget struct {
	Status struct{ CurrentHealthy, DesiredHealthy, ObservedGeneration int }
}

func (f *fleet) budget(ctx context.Context, name string) (b budget, err error) {
	return b, f.read(ctx, "/apis/policy/v1/namespaces/default/poddisruptionbudgets/"+name, &b)
}

func (f *fleet) until(what string, done func(context.Context) bool) {
	f.t.Helper()

	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()

	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()

	for !done(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.t.Fatalf("waited a minute for %s", what)
		}
	}
}

// labNode is a node as the lab itself knows it.
type labNode struct {
	Name, Type, Version string
	Up                  bool
	BootID              string `json:"boot_id"`
}

func (f *fleet) nodes(ctx context.Context) ([]labNode, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.control+"/ctl", strings.NewReader(`{"verb":"nodes"}`))
	if err != nil {
		return nil, err
	}

	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it is read

	var out []labNode

	return out, json.NewDecoder(resp.Body).Decode(&out)
}

// released fails the test when anything of an upgrade is left on the cluster.
func (f *fleet) released(want string) {
	f.t.Helper()

	nodes, err := f.kube.Nodes(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}

	for _, n := range nodes {
		for key := range n.Annotations {
			if strings.HasPrefix(key, "talosmate.dev/") {
				f.t.Errorf("%s still has %s", n.Name, key)
			}
		}

		if n.Unschedulable {
			f.t.Errorf("%s is still cordoned", n.Name)
		}
	}

	lock, err := f.kube.ReadLock(f.t.Context(), time.Now())
	if err != nil || lock.Held {
		f.t.Errorf("the lock: %+v, %v", lock, err)
	}

	machines, err := f.nodes(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}

	for _, n := range machines {
		if n.Version != want {
			f.t.Errorf("%s runs %s", n.Name, n.Version)
		}
	}
}

// TestFleetUpgrade takes three control planes and six workers over the border between the two upgrade APIs,
// and looks every 50 ms that quorum, the number of workers away and a disruption budget hold.
func TestFleetUpgrade(t *testing.T) {
	t.Parallel()

	f := startFleet(t, "--controlplanes", "3", "--workers", "6", "--talos-version", "v1.12.9")
	f.workload("web", 6, 4)

	var (
		mu                        sync.Mutex
		fewest, most, worst, seen = 3, 0, 6, 0
	)

	ctx, stop := context.WithCancel(t.Context())

	var sampling sync.WaitGroup

	sampling.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()

		for ctx.Err() == nil {
			<-tick.C

			nodes, err := f.nodes(ctx)
			b, budgetErr := f.budget(ctx, "web")

			if err != nil || budgetErr != nil {
				continue
			}

			up, down := 0, 0

			for _, n := range nodes {
				switch {
				case n.Type == "controlplane" && n.Up:
					up++
				case n.Type == "worker" && !n.Up:
					down++
				}
			}

			mu.Lock()
			fewest, most, worst, seen = min(fewest, up), max(most, down), min(worst, b.Status.CurrentHealthy), seen+1
			mu.Unlock()
		}
	})

	res, code := f.apply("--max-parallel", "2")

	stop()
	sampling.Wait()

	if code != 0 || res.Status != upgrade.ApplyOK || res.Upgraded != 9 || !res.Locked {
		t.Fatalf("exit code %d, %q, %d upgraded, locked %t: %s", code, res.Status, res.Upgraded, res.Locked, res.Error)
	}

	if fewest < 2 || most > 2 || worst < 4 || seen < 50 {
		t.Errorf("at least %d control planes up, at most %d workers down, at least %d healthy pods, in %d samples", fewest, most, worst, seen)
	}

	for _, n := range res.Nodes {
		if n.Status != upgrade.OK || !n.K8sReady || !n.Uncordoned || n.RunningTag != "v1.13.9" {
			t.Errorf("%s: %+v", n.Hostname, n)
		}
	}

	if res.DrainedPods < 6 {
		t.Errorf("%d pods were drained", res.DrainedPods)
	}

	f.released("v1.13.9")
}

// TestFleetKilled kills a run with SIGKILL in different stages, each time on the same cluster, and lets the
// last one finish.
func TestFleetKilled(t *testing.T) {
	t.Parallel()

	f := startFleet(t, "--controlplanes", "3", "--workers", "2", "--talos-version", "v1.13.8")
	f.workload("web", 4, 2)

	for _, stage := range []string{": pull: pulled", ": cordon:", ": drain:", ": install: installing", ": install: 20", ": reboot:", ": wait:", ": verify:", ": uncordon:"} {
		cmd := f.talosmate("upgrade", "apply", "-A", "--to", "v1.13.9", "--check-images=false", "--snapshot", "none", "--progress", "plain")

		pipe, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}

		if err = cmd.Start(); err != nil {
			t.Fatal(err)
		}

		killAt(pipe, stage, cmd.Process)
		_ = cmd.Wait() // killed, or done before the stage came again
	}

	res, code := f.apply()
	if code != 0 {
		t.Fatalf("exit code %d, %q: %s", code, res.Status, res.Error)
	}

	f.released("v1.13.9")

	for _, name := range []string{"cp-1", "cp-2", "cp-3", "worker-1", "worker-2"} {
		out, err := f.command(filepath.Join(f.bin, "talosmate-lab"), "ctl", "state", name).Output()
		if err != nil {
			t.Fatal(err)
		}

		if bytes.Contains(out, []byte(`"overwrote_running_slot": true`)) {
			t.Errorf("%s: an install overwrote the running slot:\n%s", name, out)
		}
	}
}

// killAt kills a process as soon as its output has a text.
func killAt(output interface{ Read([]byte) (int, error) }, text string, p *os.Process) {
	var seen bytes.Buffer

	chunk := make([]byte, 4096)

	for {
		n, err := output.Read(chunk)
		seen.Write(chunk[:n])

		if bytes.Contains(seen.Bytes(), []byte(text)) {
			_ = p.Kill() // it may have ended by itself
		}

		if err != nil {
			return
		}
	}
}

// TestFleetRefusals: a budget that can never be met, a second operator, a cordon by hand.
func TestFleetRefusals(t *testing.T) {
	t.Parallel()

	f := startFleet(t, "--controlplanes", "3", "--workers", "2", "--talos-version", "v1.13.8")
	f.workload("stuck", 2, 2)

	res, code := f.apply()
	if code != 5 || res.Status != upgrade.ApplyRefused || !strings.Contains(res.Error, "TM140") || !strings.Contains(res.Error, "default/stuck") {
		t.Errorf("exit code %d, %q: %s", code, res.Status, res.Error)
	}

	if err := f.kube.API.CoreV1().RESTClient().Delete().AbsPath("/apis/policy/v1/namespaces/default/poddisruptionbudgets/stuck").Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}

	other := kube.Holder{Name: "ann@elsewhere", Command: "talosmate upgrade apply", Process: kube.Process{PID: 1, Space: "elsewhere"}}

	lock, err := f.kube.TakeLock(t.Context(), other, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}

	if res, code = f.apply(); code != 5 || !strings.Contains(res.Error, "TM143") || !strings.Contains(res.Error, "ann@elsewhere") {
		t.Errorf("exit code %d, %q: %s", code, res.Status, res.Error)
	}

	if err = lock.Release(t.Context()); err != nil {
		t.Fatal(err)
	}

	patch := []byte(`{"spec":{"unschedulable":true}}`)
	if err = f.kube.API.CoreV1().RESTClient().Patch("application/merge-patch+json").AbsPath("/api/v1/nodes/worker-1").Body(patch).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}

	if res, code = f.apply(); code != 0 {
		t.Fatalf("exit code %d, %q: %s", code, res.Status, res.Error)
	}

	n, _, err := f.kube.Node(t.Context(), "worker-1")
	if err != nil || !n.Unschedulable {
		t.Errorf("somebody else's cordon was lifted: %+v, %v", n, err)
	}
}
