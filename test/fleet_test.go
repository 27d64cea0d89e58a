package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/rollout"
)

// fleet is a lab with a real Kubernetes control plane behind it.
type fleet struct {
	t    *testing.T
	bin  string
	dir  string
	lab  string // The lab's control endpoint.
	kube *kube.Client
	env  []string
}

// startFleet starts a cluster with a real Kubernetes that ends with the test.
func startFleet(t *testing.T, args ...string) *fleet {
	t.Helper()

	return startLab(t, append([]string{"--kubernetes", "real", "--preset", "factory"}, args...)...)
}

// startLab starts a cluster that ends with the test.
func startLab(t *testing.T, args ...string) *fleet {
	t.Helper()

	f := &fleet{t: t, bin: os.Getenv("TALOSMATE_TEST_BIN"), dir: t.TempDir()}
	lab := filepath.Join(f.dir, "lab")
	f.env = append(os.Environ(), "XDG_STATE_HOME="+f.dir, "TALOSMATE_LAB_DIR="+lab, "NO_COLOR=1", "TALOSCONFIG="+filepath.Join(lab, "talosconfig"))

	up := append([]string{
		"up", "--detach", "--dir", lab, "--install-time", "300ms", "--shutdown-time", "200ms", "--boot-time", "1s",
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

	var info struct {
		Kubeconfig, Control string
		Nodes               []struct{ Name, Address string }
	}
	if err = json.Unmarshal(out, &info); err != nil {
		t.Fatal(err)
	}

	f.lab = info.Control

	for _, n := range info.Nodes { // as in the scenarios: CP_1, NEW_2
		f.env = append(f.env, strings.ToUpper(strings.ReplaceAll(n.Name, "-", "_"))+"="+n.Address)
	}

	if info.Kubeconfig == "" {
		return f
	}

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

// output runs talosmate, which must succeed, and returns its output.
func (f *fleet) output(args ...string) string {
	f.t.Helper()

	cmd := f.talosmate(args...)

	var stderr strings.Builder

	cmd.Stderr = &stderr

	out, err := cmd.Output()
	if err != nil {
		f.t.Fatalf("talosmate %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}

	return string(out)
}

// ctl runs the lab's ctl, which must succeed, and returns its answer.
func (f *fleet) ctl(args ...string) []byte {
	f.t.Helper()

	out, err := f.command(filepath.Join(f.bin, "talosmate-lab"), append([]string{"ctl"}, args...)...).CombinedOutput()
	if err != nil {
		f.t.Fatalf("ctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}

	return out
}

// write makes a file in the test's folder and returns its path.
func (f *fleet) write(name, text string) string {
	f.t.Helper()

	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		f.t.Fatal(err)
	}

	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		f.t.Fatal(err)
	}

	return path
}

// apply runs `upgrade apply` and returns its result and exit code.
func (f *fleet) apply(args ...string) (rollout.ApplyResult, int) {
	f.t.Helper()

	cmd := f.talosmate(append([]string{
		"upgrade", "apply", "-A", "--to", "v1.13.9", "--check-images=false", "--snapshot", "none", "-o", "json", "--progress", "plain",
	}, args...)...)

	var stdout, stderr bytes.Buffer

	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()

	var doc struct{ Result rollout.ApplyResult }
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

// read reads a field of a Kubernetes object.
func (f *fleet) read(ctx context.Context, path string, into any) error {
	raw, err := f.kube.API.CoreV1().RESTClient().Get().RequestURI(path).Do(ctx).Raw()
	if err != nil {
		return err
	}

	return json.Unmarshal(raw, into)
}

// workload makes a Deployment with a disruption budget, and waits until all its pods are ready.
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

// lonePod makes an unmanaged pod on a node, with annotations and more metadata ("" or `,"key":value`), and waits until
// it is ready.
func (f *fleet) lonePod(name, node, annotations, metadata string) {
	f.t.Helper()
	f.post("/api/v1/namespaces/default/pods", podJSON(name, node, annotations, `,"labels":{"app":"`+name+`"}`+metadata))

	f.until(name+" to be ready", func(ctx context.Context) bool {
		n, err := f.readyPods(ctx, name)

		return err == nil && n == 1
	})
}

func podJSON(name, node, annotations, metadata string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"annotations":%s%s},
		"spec":{"nodeName":%q,"terminationGracePeriodSeconds":30,"volumes":[{"name":"scratch","emptyDir":{}}],"containers":[{"name":"c","image":"x"}]}}`,
		name, annotations, metadata, node)
}

type pod struct {
	Metadata struct{ DeletionTimestamp string }
	Status   struct{ Phase string }
}

func (f *fleet) readPod(ctx context.Context, name string) (p pod, err error) {
	return p, f.read(ctx, "/api/v1/namespaces/default/pods/"+name, &p)
}

type budget struct {
	Status struct{ CurrentHealthy, DesiredHealthy, ExpectedPods, ObservedGeneration int }
}

func (f *fleet) budget(ctx context.Context, name string) (b budget, err error) {
	return b, f.read(ctx, "/apis/policy/v1/namespaces/default/poddisruptionbudgets/"+name, &b)
}

func (f *fleet) until(what string, done func(context.Context) bool) {
	f.t.Helper()

	ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Minute)
	defer cancel()

	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()

	for !done(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.t.Fatalf("waited five minutes for %s", what)
		}
	}
}

// labNode is a node in the lab's own description.
type labNode struct {
	Name, Address, Type, Version string
	Up                           bool
	BootID                       string `json:"boot_id"`
	EtcdHealthy                  bool   `json:"etcd_healthy"`
}

func (f *fleet) nodes(ctx context.Context) (out []labNode, err error) {
	return out, f.control(ctx, &out, "nodes", "")
}

// machine is one node in the lab's own description.
func (f *fleet) machine(name string) labNode {
	f.t.Helper()

	all, err := f.nodes(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}

	at := slices.IndexFunc(all, func(n labNode) bool { return n.Name == name })
	if at < 0 {
		f.t.Fatalf("the lab has no node %s", name)
	}

	return all[at]
}

// control sends a verb to the lab; params are pairs of a name and a value.
func (f *fleet) control(ctx context.Context, into any, verb, node string, params ...string) error {
	request := struct {
		Verb   string            `json:"verb"`
		Node   string            `json:"node"`
		Params map[string]string `json:"params"`
	}{verb, node, map[string]string{}}

	for i := 0; i+1 < len(params); i += 2 {
		request.Params[params[i]] = params[i+1]
	}

	body, err := json.Marshal(request)
	if err != nil {
		return err
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.lab+"/ctl", bytes.NewReader(body))
	if err != nil {
		return err
	}

	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read

	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(resp.Body) // a partial result is better than none

		return fmt.Errorf("the lab on %s %s: %s", verb, node, said)
	}

	return json.NewDecoder(resp.Body).Decode(into)
}

// tellLab is control that must succeed and whose answer does not matter.
func (f *fleet) tellLab(verb, node string, params ...string) {
	f.t.Helper()

	var answer any
	if err := f.control(f.t.Context(), &answer, verb, node, params...); err != nil {
		f.t.Fatal(err)
	}
}

// fault arms a fault on a node.
func (f *fleet) fault(node, spec string) {
	f.t.Helper()
	f.tellLab("fault", node, "spec", spec)
}

// history returns the events of a machine.
type history struct {
	Reboots  []time.Time
	Installs []struct {
		ExitCode    int  `json:"exit_code"`
		Overwritten bool `json:"overwrote_running_slot"`
	}
}

func (f *fleet) histories() map[string]history {
	f.t.Helper()

	var states map[string]struct{ History history }
	if err := f.control(f.t.Context(), &states, "state", ""); err != nil {
		f.t.Fatal(err)
	}

	out := map[string]history{}
	for name, s := range states {
		out[name] = s.History
	}

	return out
}

// released fails the test when the cluster still has traces of an upgrade.
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
