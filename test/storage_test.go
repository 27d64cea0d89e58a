package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/runbook"
)

// outside are the systems that the storage guide talks to: Alertmanager and a chat.
type outside struct {
	mu    sync.Mutex
	calls []string
}

// upgraded is the document of `upgrade apply` for one node.
type upgraded struct {
	Result rollout.ApplyResult
	Errors []struct{ Message, Hint string }
}

// upgrade upgrades one node. What it says is in the file said.
func (f *fleet) upgrade(node string, args ...string) (out upgraded, code int) {
	f.t.Helper()

	cmd := f.talosmate(append([]string{
		"upgrade", "apply", "-n", node, "--to", "v1.14.1", "--check-images=false", "--snapshot", "none", "-o", "json", "--progress", "plain",
	}, args...)...)

	said, err := os.Create(filepath.Join(f.dir, "said"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer said.Close() //nolint:errcheck // only read by this test

	var stdout bytes.Buffer

	cmd.Stdout, cmd.Stderr = &stdout, said
	err = cmd.Run()

	if wrong := json.Unmarshal(stdout.Bytes(), &out); wrong != nil {
		f.t.Errorf("%v: %v", err, wrong)
	}

	return out, cmd.ProcessState.ExitCode()
}

func (o *outside) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()

	var body struct {
		Text     string
		Matchers []struct{ Name, Value string }
		EndsAt   string
	}

	raw, err := io.ReadAll(r.Body)
	if r.Method == http.MethodPost {
		err = json.Unmarshal(raw, &body)
	}

	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)

		return
	case r.Method == http.MethodPost && r.URL.Path == "/api/v2/silences" && len(body.Matchers) == 1 && body.EndsAt != "":
		o.calls = append(o.calls, "silence "+body.Matchers[0].Value)
		fmt.Fprintf(w, `{"silenceID":"id-of-%s"}`, body.Matchers[0].Value)
	case r.Method == http.MethodDelete:
		o.calls = append(o.calls, "end "+strings.TrimPrefix(r.URL.Path, "/api/v2/silence/id-of-"))
	case r.URL.Path == "/chat" && body.Text != "":
		o.calls = append(o.calls, body.Text)
	default:
		http.NotFound(w, r)
	}
}

const cephHealth = `k8s("ceph.rook.io/v1", "CephCluster", "rook-ceph", "rook-ceph").status.ceph.health == "HEALTH_OK"`

const ceph = "/apis/ceph.rook.io/v1/namespaces/rook-ceph/cephclusters"

// TestStorageGuide: gates read objects of a real Kubernetes, and the commands of the guide do what it says.
func TestStorageGuide(t *testing.T) {
	t.Parallel()

	f := startFleet(t, "--controlplanes", "1", "--workers", "2", "--talos-version", "v1.14.0")
	f.post("/api/v1/namespaces", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"rook-ceph"}}`)
	f.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"cephclusters.ceph.rook.io"},
		"spec":{"group":"ceph.rook.io","scope":"Namespaced","names":{"plural":"cephclusters","singular":"cephcluster","kind":"CephCluster","listKind":"CephClusterList"},
		"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`)

	cluster := `{"apiVersion":"ceph.rook.io/v1","kind":"CephCluster","metadata":{"name":"rook-ceph"},"status":{"ceph":{"health":"HEALTH_WARN"}}}`
	api := f.kube.API.CoreV1().RESTClient()

	f.until("the CephCluster", func(ctx context.Context) bool {
		return api.Post().AbsPath(ceph).SetHeader("Content-Type", "application/json").Body([]byte(cluster)).Do(ctx).Error() == nil
	})

	for _, c := range []struct{ gate, says string }{
		{`k8s("ceph.rook.io/v2", "CephCluster", "rook-ceph", "rook-ceph").kind != ""`, "kubectl api-versions"},
		{`k8s("ceph.rook.io/v1", "CephClustr", "rook-ceph", "rook-ceph").kind != ""`, "kubectl api-resources"},
		{`k8s("ceph.rook.io/v1", "CephCluster", "rook-ceph", "rock-ceph").kind != ""`, "cannot read CephCluster rook-ceph/rock-ceph"},
		{`k8s("ceph.rook.io/v1", "CephCluster", "", "rook-ceph").kind != ""`, "a CephCluster is in a namespace"},
		{`k8s("v1", "Node", "default", "worker-1").kind != ""`, "a Node is in no namespace"},
		{`k8s("v1", "Secret", "default", "x").kind != ""`, "does not read Secrets"},
		{`k8s("v1", "Node", "", "worker-1").status.ready`, "no such key: ready"},
	} {
		got, code := f.upgrade("worker-2", "--gate", c.gate)
		if code != 5 || got.Result.Status != runbook.Halted || len(got.Result.Nodes) != 0 || !strings.Contains(fmt.Sprint(got.Errors), c.says) {
			t.Errorf("%s: exit code %d, %s: %s", c.gate, code, got.Result.Status, got.Errors)
		}
	}

	// The gate is waited for.
	done := make(chan struct{})

	go func() {
		defer close(done)

		got, code := f.upgrade("worker-2", "--gate", cephHealth, "--gate", `k8s("v1", "Node", "", next).metadata.name == next`, "--before-node", "touch begun")
		if code != 0 || got.Result.Status != runbook.OK {
			t.Errorf("exit code %d, %s: %s", code, got.Result.Status, got.Errors)
		}
	}()

	f.until("the gate", func(context.Context) bool {
		said, _ := os.ReadFile(filepath.Join(f.dir, "said"))

		return strings.Contains(string(said), "cel")
	})

	if _, err := os.Stat(filepath.Join(f.dir, "begun")); err == nil {
		t.Error("the node was begun while Ceph was not healthy")
	}

	if err := api.Patch(types.MergePatchType).AbsPath(ceph + "/rook-ceph").Body([]byte(`{"status":{"ceph":{"health":"HEALTH_OK"}}}`)).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}

	<-done

	// The guide.
	o := &outside{}
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)

	f.path(f.bin)
	f.path(filepath.Dir(f.write("kubectl", "#!/bin/sh\necho \"$*\" >> \"$CALLS\"\n")))
	f.env = append(f.env, "ALERTMANAGER="+server.URL, "CHAT_WEBHOOK="+server.URL+"/chat", "CALLS="+filepath.Join(f.dir, "calls"))
	f.run(readPage(t, "docs/guides/storage.md"))

	calls, err := os.ReadFile(filepath.Join(f.dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}

	const tools = "-n rook-ceph exec deploy/rook-ceph-tools -- ceph osd "
	if want := tools + "set noout\n" + tools + "unset noout\n" + tools + "unset noout\n"; string(calls) != want {
		t.Errorf("ceph was told\n%s", calls)
	}

	if want := []string{"silence cp-1", "end cp-1", "lab: the upgrade to v1.14.1: ok"}; !slices.Equal(o.calls, want) {
		t.Errorf("%q", o.calls)
	}
}
