package image_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

func TestList(t *testing.T) {
	t.Parallel()

	system := map[string]string{"ImageService.List": "system", "MachineService.Containers": "system"}

	clitest.Test(t, []clitest.Recorded{
		{Name: "list.system.table", Variants: system, Args: []string{"image", "list", "-n", "10.5.0.2,10.5.0.5", "--namespace", "system", "--group"}},
		{
			Name: "list.system.json", Variants: system, Args: []string{"image", "list", "-n", "10.5.0.2", "--namespace", "system", "--group", "-o", "json"},
		},
	})
}

// kubernetes serves one node and its pods, and returns a kubeconfig for it.
func kubernetes(t *testing.T, node string, pods func(node string) string) string {
	t.Helper()

	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, text string) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, text)
	}

	mux.HandleFunc("GET /api/v1/nodes/"+node, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"`+node+`"}}`)
	})

	if pods != nil {
		mux.HandleFunc("GET /api/v1/pods", func(w http.ResponseWriter, _ *http.Request) { reply(w, pods(node)) })
	}

	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"NotFound","code":404,"message":"not found"}`)
	})

	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{name: x, cluster: {server: \"" + server.URL +
		"\"}}]\ncontexts: [{name: x, context: {cluster: x, user: x}}]\nusers: [{name: x, user: {}}]\n"

	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	return path
}

// document is what the cases read from a document of image prune.
type document struct {
	Items []struct {
		Status      string `json:"status"`
		PodsChecked bool   `json:"pods_checked"`
		PodsError   string `json:"pods_error"`
		Gates       []struct {
			Gate    string `json:"gate"`
			Verdict string `json:"verdict"`
			Node    string `json:"node"`
		} `json:"gates"`
	} `json:"items"`
	Errors []struct {
		Gate string `json:"gate"`
		Node string `json:"node"`
		Hint string `json:"hint"`
	} `json:"errors"`
}

// TestPruneAsksKubernetes: images of pods that do not run are only known to Kubernetes. Without its answer a preview says
// so, and nothing is removed unless the user wants it.
func TestPruneAsksKubernetes(t *testing.T) {
	t.Parallel()

	none := func(string) string { return `{"apiVersion":"v1","kind":"PodList","items":[]}` }
	server := replay.Start(t, "talos-v1.13.8", map[string]string{"ImageService.List": "cri", "MachineService.Containers": "cri"})
	env := []string{"TALOSCONFIG=" + server.Talosconfig(t, "os:admin")}

	const question = "Kubernetes could not be asked for the pods of n4"

	for _, c := range []struct {
		name       string
		kubeconfig string
		args       []string
		code       int
		status     string
		asked      bool
		verdict    string
		problem    string
	}{
		{name: "answered", kubeconfig: kubernetes(t, "n4", none), args: []string{"--apply"}, status: "ok", asked: true},
		{name: "preview", kubeconfig: kubernetes(t, "n4", nil), status: "ok", verdict: "warn", problem: "cannot list the pods of n4"},
		{name: "apply", kubeconfig: kubernetes(t, "n4", nil), args: []string{"--apply"}, code: 5, status: "refused", verdict: "refuse", problem: "cannot list the pods of n4"},
		{name: "another cluster", kubeconfig: kubernetes(t, "n9", none), args: []string{"--apply"}, code: 5, status: "refused", verdict: "refuse", problem: "its API knows no node n4"},
		{name: "no kubeconfig", kubeconfig: filepath.Join(t.TempDir(), "none"), args: []string{"--apply"}, code: 5, status: "refused", verdict: "refuse", problem: "cannot use the kubeconfig"},
		{name: "without pods", kubeconfig: kubernetes(t, "n4", nil), args: []string{"--apply", "--without-pods"}, status: "ok", verdict: "warn", problem: "cannot list the pods of n4"},
		{name: "override", kubeconfig: kubernetes(t, "n4", nil), args: []string{"--apply", "--override", "TM141"}, status: "ok", verdict: "overridden", problem: "cannot list the pods of n4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			args := append([]string{"image", "prune", "-n", "10.5.0.5", "--kubeconfig", c.kubeconfig}, c.args...)
			got := clitest.Run(t, env, append(args, "-o", "json")...)

			var doc document
			if err := json.Unmarshal([]byte(got.Stdout), &doc); err != nil || len(doc.Items) != 1 {
				t.Fatalf("%v\n%s%s", err, got.Stdout, got.Stderr)
			}

			row := doc.Items[0]
			if got.Code != c.code || row.Status != c.status || row.PodsChecked != c.asked || !strings.Contains(row.PodsError, c.problem) || (row.PodsError == "") != (c.problem == "") {
				t.Errorf("exit code %d, %+v\n%s", got.Code, row, got.Stderr)
			}

			if c.verdict != "" && (len(row.Gates) != 1 || row.Gates[0].Verdict != c.verdict || row.Gates[0].Gate != "TM141" || row.Gates[0].Node != "10.5.0.5") {
				t.Errorf("gates %+v", row.Gates)
			}

			if c.code == 5 && (len(doc.Errors) != 1 || doc.Errors[0].Gate != "TM141" || doc.Errors[0].Node != "10.5.0.5" || !strings.Contains(doc.Errors[0].Hint, "--without-pods")) {
				t.Errorf("errors %+v", doc.Errors)
			}

			if (c.verdict != "") != strings.Contains(got.Stderr, question) {
				t.Errorf("stderr:\n%s", got.Stderr)
			}

			if table := clitest.Run(t, env, args...); c.code == 0 && c.verdict == "warn" && c.args == nil {
				lines := strings.Split(strings.TrimSpace(table.Stdout), "\n")
				if len(lines) < 2 || !strings.HasPrefix(lines[len(lines)-2], question) || !strings.HasPrefix(lines[len(lines)-1], "total: ") || table.Stderr != "" {
					t.Errorf("stdout:\n%s\nstderr:\n%s", table.Stdout, table.Stderr)
				}
			}
		})
	}
}

// TestListUnusedSaysThatItCouldNotAskKubernetes once for all nodes.
func TestListUnusedSaysThatItCouldNotAskKubernetes(t *testing.T) {
	t.Parallel()

	server := replay.Start(t, "talos-v1.13.8", map[string]string{"ImageService.List": "cri", "MachineService.Containers": "cri"})
	env := []string{"TALOSCONFIG=" + server.Talosconfig(t, "os:reader")}

	const question = "Kubernetes could not be asked for its pods, whose images may be listed as unused"

	for _, kubeconfig := range []string{
		filepath.Join(t.TempDir(), "none"),
		kubernetes(t, "n4", func(string) string { return `{"apiVersion":"v1","kind":"PodList","items":[]}` }), // It knows no n1.
	} {
		got := clitest.Run(t, env, "image", "list", "-n", "10.5.0.2,10.5.0.5", "--unused", "--kubeconfig", kubeconfig)
		if got.Code != 0 || strings.Count(got.Stderr, question) != 1 {
			t.Errorf("exit code %d\n%s", got.Code, got.Stderr)
		}
	}
}

// TestPruneOfTheSystemNamespace does not ask Kubernetes, whose pods cannot run from it.
func TestPruneOfTheSystemNamespace(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{{
		Name: "prune.system", Variants: map[string]string{"ImageService.List": "system", "MachineService.Containers": "system"},
		Args:   []string{"image", "prune", "-n", "10.5.0.2", "--namespace", "system", "--apply", "--kubeconfig", filepath.Join(t.TempDir(), "none")},
		Stderr: []string{"1 image of n1 kept because any may be that of kubelet, whose spec cannot be read: the role os:admin is needed"},
	}})
}
