//go:build kubebed

// Package bedtest runs the bed as its users do, with the binary whose path is
// in KUBEBED. It has a build tag because that binary takes minutes to build:
// whoever asks for these tests has built it, and a missing one is a failure.
package bedtest

import (
	"bufio"
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
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const nodesJSON = `{"nodes":[
 {"name":"cp-1","internal_ip":"127.0.1.2","control_plane":true,"talos_version":"v1.13.8"},
 {"name":"cp-2","internal_ip":"127.0.1.3","control_plane":true,"talos_version":"v1.13.8"},
 {"name":"worker-1","internal_ip":"127.0.1.4","talos_version":"v1.13.8","labels":{"zone":"a"}},
 {"name":"worker-2","internal_ip":"127.0.1.5","talos_version":"v1.13.8"}]}`

// patience bounds every wait. It is generous: these are real processes on a
// machine that may be busy.
const patience = 90 * time.Second

// status is what `kubebed up` prints.
type status struct {
	Kubeconfig string
	Server     string
	Control    string
	Pid        int
	Pids       []int
	Processes  map[string]int
	APIServer  string
}

// testbed is a bed under test.
type testbed struct {
	t *testing.T
	status
	client *kubernetes.Clientset
	cmd    *exec.Cmd
	exited chan error
	stderr *bytes.Buffer
	took   time.Duration
}

// start starts a bed, as the last arguments of wrapper when there is one.
func start(t *testing.T, wrapper ...string) *testbed {
	t.Helper()
	binary := os.Getenv("KUBEBED")
	if binary == "" {
		t.Fatal("KUBEBED is not set: run these tests with `KUBEBED=$(go run ./build) go test -tags kubebed ./bedtest`")
	}
	dir := t.TempDir()
	nodes := filepath.Join(dir, "nodes.json")
	if err := os.WriteFile(nodes, []byte(nodesJSON), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &testbed{t: t, exited: make(chan error, 1), stderr: &bytes.Buffer{}}
	argv := append(wrapper, binary, "up", "--dir", filepath.Join(dir, "bed"), "--nodes", nodes)
	b.cmd = exec.Command(argv[0], argv[1:]...)
	b.cmd.Stderr = b.stderr
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stop)
	line := make(chan []byte, 1)
	go func() {
		text, _ := bufio.NewReader(stdout).ReadBytes('\n')
		line <- text
		b.exited <- b.cmd.Wait()
	}()
	select {
	case text := <-line:
		if err := json.Unmarshal(text, &b.status); err != nil {
			t.Fatalf("up printed %q (%v)\n%s", text, err, b.stderr)
		}
	case <-time.After(patience):
		t.Fatal("up printed nothing")
	}
	b.took = time.Since(begun)
	cfg, err := clientcmd.BuildConfigFromFlags("", b.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS, cfg.Burst = 500, 1000
	if b.client, err = kubernetes.NewForConfig(cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

// stop ends the bed and waits, so that its directory can be removed.
func (b *testbed) stop() {
	b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.exited:
	case <-time.After(patience):
		b.cmd.Process.Kill()
		b.t.Error("the supervisor did not end")
	}
}

// await polls until check says nil.
func await(t *testing.T, what string, within time.Duration, check func() error) time.Duration {
	t.Helper()
	begun := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return time.Since(begun)
		}
		if time.Since(begun) > within {
			t.Fatalf("%s: not in %s: %v", what, within, err)
		}
		<-tick.C
	}
}

func (b *testbed) post(t *testing.T, path string, body any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(b.Control+path, "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode >= 300 {
		t.Fatalf("POST %s: %s: %s", path, resp.Status, answer)
	}
}

// namespace makes a namespace of the test's own, in which pods can be created.
func (b *testbed) namespace(t *testing.T) string {
	t.Helper()
	ns, err := b.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "default service account", patience, func() error {
		_, err := b.client.CoreV1().ServiceAccounts(ns.Name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return ns.Name
}

func template(labels, annotations map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.com/app:1"}}},
	}
}

// deploy makes a Deployment called app and waits until all replicas are ready.
func (b *testbed) deploy(t *testing.T, ns string, replicas int32, annotations map[string]string) {
	t.Helper()
	labels := map[string]string{"app": "app"}
	_, err := b.client.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "app"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template(labels, annotations),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.awaitReplicas(t, ns, replicas)
}

func (b *testbed) awaitReplicas(t *testing.T, ns string, want int32) {
	t.Helper()
	await(t, "replicas", patience, func() error {
		d, err := b.client.AppsV1().Deployments(ns).Get(t.Context(), "app", metav1.GetOptions{})
		if err == nil && d.Status.ReadyReplicas != want {
			err = fmt.Errorf("%d ready, want %d", d.Status.ReadyReplicas, want)
		}
		return err
	})
}

func (b *testbed) pods(t *testing.T, ns string) []corev1.Pod {
	t.Helper()
	list, err := b.client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func (b *testbed) evict(ctx context.Context, ns, name string) error {
	return b.client.PolicyV1().Evictions(ns).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns}})
}

func (b *testbed) node(ctx context.Context, name string) (*corev1.Node, corev1.ConditionStatus, error) {
	n, err := b.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, "", err
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return n, c.Status, nil
		}
	}
	return n, "", nil
}

func (b *testbed) awaitNode(t *testing.T, name string, is func(corev1.ConditionStatus) bool) time.Duration {
	t.Helper()
	return await(t, "node "+name, patience, func() error {
		_, status, err := b.node(t.Context(), name)
		if err == nil && !is(status) {
			err = fmt.Errorf("ready: %s", status)
		}
		return err
	})
}

func isReady(s corev1.ConditionStatus) bool  { return s == corev1.ConditionTrue }
func notReady(s corev1.ConditionStatus) bool { return s != corev1.ConditionTrue }

// TestBed shares one bed: starting it is most of the cost. The parts that
// disturb it come last.
func TestBed(t *testing.T) {
	b := start(t)
	t.Logf("ready %s after the start", b.took.Round(10*time.Millisecond))
	for _, part := range []struct {
		name string
		test func(*testing.T, *testbed)
	}{
		{"four ready nodes", fourReadyNodes},
		{"eviction answers 429 until there is room", evictionWaitsForRoom},
		{"a long shutdown is waited for", longShutdown},
		{"finalizers keep a pod that no longer runs", finalizer},
		{"daemon set", daemonSet},
		{"job", job},
		{"mirror pods come back", mirrorPods},
		{"taken down, a node is not ready; back, it is", nodeDown},
		{"a short reboot is seen", shortReboot},
		{"nodes come and go", nodesComeAndGo},
		{"API server hangs", func(t *testing.T, b *testbed) { outage(t, b, "hang") }},
		{"API server refuses", func(t *testing.T, b *testbed) { outage(t, b, "refuse") }},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, b) })
	}
}

func fourReadyNodes(t *testing.T, b *testbed) {
	list, err := b.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 4 {
		t.Fatalf("%d nodes, %v", len(list.Items), err)
	}
	for _, n := range list.Items {
		if _, status, err := b.node(t.Context(), n.Name); err != nil || !isReady(status) {
			t.Errorf("%s: ready %s, %v", n.Name, status, err)
		}
		if n.Status.NodeInfo.OSImage != "Talos (v1.13.8)" || !strings.HasPrefix(n.Status.NodeInfo.KubeletVersion, "v1.") {
			t.Errorf("%s: %+v", n.Name, n.Status.NodeInfo)
		}
		_, cp := n.Labels["node-role.kubernetes.io/control-plane"]
		if cp != strings.HasPrefix(n.Name, "cp-") {
			t.Errorf("%s: labels %v", n.Name, n.Labels)
		}
	}
	v, err := b.client.Discovery().ServerVersion()
	if err != nil || v.Major != "1" || v.Minor == "" || v.GitVersion == "v0.0.0" {
		t.Errorf("version %+v, %v", v, err)
	}
}

func evictionWaitsForRoom(t *testing.T, b *testbed) {
	ns := b.namespace(t)
	b.deploy(t, ns, 2, nil)
	two := intstr.FromInt32(2)
	_, err := b.client.PolicyV1().PodDisruptionBudgets(ns).Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "app"},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: &two, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "app"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	victim := b.pods(t, ns)[0].Name
	await(t, "disruption controller", patience, func() error {
		pdb, err := b.client.PolicyV1().PodDisruptionBudgets(ns).Get(t.Context(), "app", metav1.GetOptions{})
		if err == nil && pdb.Status.CurrentHealthy != 2 {
			err = fmt.Errorf("%d healthy", pdb.Status.CurrentHealthy)
		}
		return err
	})
	for range 3 {
		if err := b.evict(t.Context(), ns, victim); !apierrors.IsTooManyRequests(err) {
			t.Fatalf("eviction without room: %v", err)
		}
	}
	scale, err := b.client.AppsV1().Deployments(ns).GetScale(t.Context(), "app", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	scale.Spec.Replicas = 3
	if _, err := b.client.AppsV1().Deployments(ns).UpdateScale(t.Context(), "app", scale, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "eviction with room", patience, func() error { return b.evict(t.Context(), ns, victim) })
	await(t, "end of the evicted pod", patience, func() error { return b.gone(t.Context(), ns, victim) })
	b.awaitReplicas(t, ns, 3)
}

func (b *testbed) gone(ctx context.Context, ns, pod string) error {
	_, err := b.client.CoreV1().Pods(ns).Get(ctx, pod, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	}
	return errors.New("still there")
}

func longShutdown(t *testing.T, b *testbed) {
	ns := b.namespace(t)
	b.deploy(t, ns, 1, map[string]string{"lab.talosmate.dev/shutdown-seconds": "3"})
	pod := b.pods(t, ns)[0].Name
	if err := b.evict(t.Context(), ns, pod); err != nil {
		t.Fatal(err)
	}
	took := await(t, "end of the pod", patience, func() error { return b.gone(t.Context(), ns, pod) })
	if took < 2500*time.Millisecond {
		t.Errorf("the pod shut down in %s, want 3s", took)
	}
}

func finalizer(t *testing.T, b *testbed) {
	ns := b.namespace(t)
	pods := b.client.CoreV1().Pods(ns)
	p := template(nil, nil)
	_, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{"example.com/hold"}}, Spec: p.Spec,
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	awaitPhase(t, b, ns, "held", corev1.PodRunning)
	if err := pods.Delete(t.Context(), "held", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitPhase(t, b, ns, "held", corev1.PodSucceeded)
	if _, err := pods.Patch(t.Context(), "held", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "end of the pod", patience, func() error { return b.gone(t.Context(), ns, "held") })
}

func awaitPhase(t *testing.T, b *testbed, ns, pod string, want corev1.PodPhase) {
	t.Helper()
	await(t, "pod "+pod, patience, func() error {
		p, err := b.client.CoreV1().Pods(ns).Get(t.Context(), pod, metav1.GetOptions{})
		if err == nil && p.Status.Phase != want {
			err = fmt.Errorf("it is %s, want %s", p.Status.Phase, want)
		}
		return err
	})
}

func daemonSet(t *testing.T, b *testbed) {
	ns := b.namespace(t)
	labels := map[string]string{"app": "agent"}
	tpl := template(labels, nil)
	tpl.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	_, err := b.client.AppsV1().DaemonSets(ns).Create(t.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		Spec:       appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: tpl},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "daemon set", patience, func() error {
		d, err := b.client.AppsV1().DaemonSets(ns).Get(t.Context(), "agent", metav1.GetOptions{})
		if err == nil && d.Status.NumberReady != 4 {
			err = fmt.Errorf("%d ready, want 4", d.Status.NumberReady)
		}
		return err
	})
}

func job(t *testing.T, b *testbed) {
	ns := b.namespace(t)
	tpl := template(nil, map[string]string{"lab.talosmate.dev/run-seconds": "0.5"})
	tpl.Spec.RestartPolicy = corev1.RestartPolicyNever
	_, err := b.client.BatchV1().Jobs(ns).Create(t.Context(), &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "job"}, Spec: batchv1.JobSpec{Template: tpl},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "job", patience, func() error {
		j, err := b.client.BatchV1().Jobs(ns).Get(t.Context(), "job", metav1.GetOptions{})
		if err == nil && j.Status.Succeeded != 1 {
			err = errors.New("not finished")
		}
		return err
	})
}

func mirrorPods(t *testing.T, b *testbed) {
	const name = "kube-scheduler-cp-2"
	pods := b.client.CoreV1().Pods(metav1.NamespaceSystem)
	awaitPhase(t, b, metav1.NamespaceSystem, name, corev1.PodRunning)
	before, err := pods.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if before.Annotations[corev1.MirrorPodAnnotationKey] == "" {
		t.Errorf("annotations %v", before.Annotations)
	}
	if err := pods.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "mirror pod", patience, func() error {
		p, err := pods.Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && p.UID == before.UID {
			err = errors.New("still the old one")
		}
		return err
	})
	awaitPhase(t, b, metav1.NamespaceSystem, name, corev1.PodRunning)
}

func nodeDown(t *testing.T, b *testbed) {
	ns := b.namespace(t)
	_, err := b.client.CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec:       corev1.PodSpec{NodeName: "worker-1", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	awaitPhase(t, b, ns, "p", corev1.PodRunning)
	old, _, err := b.node(t.Context(), "worker-1")
	if err != nil {
		t.Fatal(err)
	}
	b.post(t, "/nodes/worker-1", map[string]any{"up": false})
	took := b.awaitNode(t, "worker-1", notReady)
	t.Logf("not ready after %s", took.Round(10*time.Millisecond))
	if took < 4*time.Second || took > 12*time.Second {
		t.Errorf("not ready after %s, want about 6s", took)
	}
	b.post(t, "/nodes/worker-1", map[string]any{"up": true, "version": "v1.13.9"})
	took = b.awaitNode(t, "worker-1", isReady)
	t.Logf("ready again after %s", took.Round(10*time.Millisecond))
	n, _, err := b.node(t.Context(), "worker-1")
	if err != nil || n.Status.NodeInfo.BootID == old.Status.NodeInfo.BootID || n.Status.NodeInfo.OSImage != "Talos (v1.13.9)" {
		t.Errorf("after the reboot: %+v, %v", n.Status.NodeInfo, err)
	}
	await(t, "restart of the pod", patience, func() error {
		p, err := b.client.CoreV1().Pods(ns).Get(t.Context(), "p", metav1.GetOptions{})
		if err == nil && (p.Status.ContainerStatuses[0].RestartCount != 1 || !p.Status.ContainerStatuses[0].Ready) {
			err = fmt.Errorf("%+v", p.Status.ContainerStatuses[0])
		}
		return err
	})
}

func shortReboot(t *testing.T, b *testbed) {
	w, err := b.client.CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=worker-2"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	b.post(t, "/nodes/worker-2", map[string]any{"boot_id": "the-second-boot"})
	deadline := time.After(patience)
	for down := false; ; {
		select {
		case <-deadline:
			t.Fatal("the reboot was not seen")
		case ev := <-w.ResultChan():
			n, ok := ev.Object.(*corev1.Node)
			if !ok {
				t.Fatalf("watch: %+v", ev)
			}
			for _, c := range n.Status.Conditions {
				if c.Type != corev1.NodeReady || n.Status.NodeInfo.BootID != "the-second-boot" {
					continue
				}
				if c.Status != corev1.ConditionTrue {
					down = true
				} else if down {
					return
				}
			}
		}
	}
}

func nodesComeAndGo(t *testing.T, b *testbed) {
	do := func(method, path, body string, want int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, b.Control+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != want {
			t.Fatalf("%s %s: %s %s", method, path, resp.Status, answer)
		}
	}
	do(http.MethodPut, "/nodes/extra", `{"internal_ip":"127.0.1.20"}`, http.StatusCreated)
	b.awaitNode(t, "extra", isReady)
	do(http.MethodDelete, "/nodes/extra", "", http.StatusOK)
	if _, _, err := b.node(t.Context(), "extra"); !apierrors.IsNotFound(err) {
		t.Errorf("after the removal: %v", err)
	}
	do(http.MethodGet, "/nodes/extra", "", http.StatusNotFound)
}

// outage takes the API server away and checks that all is well afterwards.
func outage(t *testing.T, b *testbed, mode string) {
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := b.client.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{})
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	b.post(t, "/apiserver/outage", map[string]any{"seconds": 3, "mode": mode})
	if err := ask(); err == nil {
		t.Error("the API server answers")
	}
	await(t, "API server", patience, ask)
	if took := time.Since(begun); took < 2900*time.Millisecond {
		t.Errorf("the API server was back after %s", took)
	}
	t.Logf("answers %s after the start of an outage of 3s", time.Since(begun).Round(10*time.Millisecond))
	for _, n := range []string{"cp-1", "cp-2", "worker-1", "worker-2"} {
		b.awaitNode(t, n, isReady)
	}
	// The controllers and the scheduler are back at work.
	b.deploy(t, b.namespace(t), 2, nil)
	await(t, "status", patience, func() error {
		var s status
		resp, err := http.Get(b.Control + "/status")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
			return err
		}
		if s.APIServer != "up" || len(s.Pids) != 4 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

// alive tells which of the processes are there and not merely unburied.
func alive(pids []int) []int {
	var left []int
	for _, pid := range pids {
		if syscall.Kill(pid, 0) != nil {
			continue
		}
		// In a container nobody may bury those whose parent died.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && strings.Contains(string(stat), ") Z ") {
			continue
		}
		left = append(left, pid)
	}
	return left
}

func awaitDeath(t *testing.T, b *testbed) {
	t.Helper()
	await(t, "end of all processes", patience, func() error {
		if left := alive(b.Pids); len(left) > 0 {
			return fmt.Errorf("alive: %v", left)
		}
		return nil
	})
}

func TestSIGTERMEndsEverything(t *testing.T) {
	b := start(t)
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	err := <-b.exited
	b.exited <- nil // for stop
	if err != nil {
		t.Errorf("exit: %v\n%s", err, b.stderr)
	}
	t.Logf("ended in %s", time.Since(begun).Round(10*time.Millisecond))
	if left := alive(b.Pids); len(left) > 0 {
		t.Errorf("children left behind: %v", left)
	}
}

func TestChildrenDieWithAKilledSupervisor(t *testing.T) {
	b := start(t)
	// A stopped child must die too.
	b.post(t, "/apiserver/outage", map[string]any{"seconds": 600, "mode": "hang"})
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitDeath(t, b)
}

func TestBedEndsWithWhoeverStartedIt(t *testing.T) {
	b := start(t, "sh", "-c", `"$@" & wait`, "sh")
	if err := b.cmd.Process.Kill(); err != nil { // the shell's
		t.Fatal(err)
	}
	awaitDeath(t, b)
	await(t, "end of the supervisor", patience, func() error {
		if len(alive([]int{b.Pid})) > 0 {
			return errors.New("alive")
		}
		return nil
	})
}

func TestDeadChildEndsTheBed(t *testing.T) {
	b := start(t)
	if err := syscall.Kill(b.Processes["kube-scheduler"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := <-b.exited
	b.exited <- nil // for stop
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(b.stderr.String(), "kube-scheduler") {
		t.Errorf("exit: %v\n%s", err, b.stderr)
	}
	awaitDeath(t, b)
}
