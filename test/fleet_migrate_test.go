package test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/migration"
	"github.com/talosmate/talosmate/internal/ops/snapshot"
	"github.com/talosmate/talosmate/internal/runbook"
)

// TestFleetMigrate migrates a control plane whose rendered flags and files a real kube-apiserver runs with. Secrets that
// were written before are read afterwards, and requests are answered as before.
func TestFleetMigrate(t *testing.T) {
	t.Parallel()

	f := &migrated{fleet: startFleet(t, "--controlplanes", "3", "--workers", "1", "--talos-version", "v1.14.1", "--config-form", "v1alpha1", "--rendered-api-server")}
	f.awaitAPIServer()

	before := f.config("cp-1")
	secretbox := strings.TrimSpace(between(before, "secretboxEncryptionSecret:", "\n"))

	f.give(strings.Replace(before, "secretboxEncryptionSecret:", "aescbcEncryptionSecret:", 1))
	f.secret("written-with-aescbc")
	f.give(strings.Replace(before, "secretboxEncryptionSecret:", "aescbcEncryptionSecret: "+secretbox+"\n    secretboxEncryptionSecret:", 1))
	f.secret("written-with-secretbox")
	f.provenSnapshot()
	f.restrictedUser()

	answers := f.answers()
	for request, want := range map[string]string{
		"user lists pods": "200", "user lists secrets": "403", "anonymous /version": "401", "anonymous /api/v1/pods": "401", "node reads its own node": "true",
		"node reads another node's lease": "false",
	} {
		if answers[request] != want {
			t.Errorf("before: %s: %s", request, answers[request])
		}
	}

	if got, code := f.migrate("cp-1"); code != 0 || got.Status != runbook.OK || got.Equivalence == nil || len(got.Equivalence.Differences) > 0 {
		t.Fatalf("exit code %d: %+v", code, got)
	}

	f.awaitAPIServer()
	f.readable("written-with-aescbc", "written-with-secretbox")

	if now := f.answers(); !maps.Equal(now, answers) {
		t.Errorf("the answers were %v and are %v", answers, now)
	}

	f.controls(answers)
	f.locks()
}

// migrated is a cluster whose first control plane is migrated.
type migrated struct {
	*fleet

	token string
}

func between(text, from, to string) string {
	_, rest, _ := strings.Cut(text, from)
	out, _, _ := strings.Cut(rest, to)

	return out
}

func (f *migrated) config(node string) string {
	f.t.Helper()

	return f.output("machineconfig", "get", "-n", node, "--show-secrets")
}

// awaitAPIServer waits until the API server is ready with what was rendered last.
func (f *migrated) awaitAPIServer() {
	f.t.Helper()
	f.until("kube-apiserver to be ready", func(ctx context.Context) bool {
		var events []struct{ Event string }

		err := f.control(ctx, &events, "timeline", "cp-1")
		last := ""

		for _, e := range events {
			if strings.HasPrefix(e.Event, "apiserver-") {
				last = e.Event
			}
		}

		return err == nil && last == "apiserver-ready"
	})
}

// applyConfig gives cp-1 a configuration.
func (f *migrated) applyConfig(text string) {
	f.t.Helper()
	f.output("machineconfig", "apply", "-n", "cp-1", "-f", f.write("config.yaml", text))
}

// give gives cp-1 a configuration and waits until kube-apiserver runs with it.
func (f *migrated) give(text string) {
	f.t.Helper()
	f.applyConfig(text)
	f.awaitAPIServer()
}

const secrets = "/api/v1/namespaces/default/secrets"

func (f *migrated) secret(name string) {
	f.t.Helper()
	f.post(secrets, fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":%q},"stringData":{"key":%q}}`, name, name))
}

func (f *migrated) readable(names ...string) {
	f.t.Helper()

	for _, name := range names {
		var s struct{ Data map[string][]byte }
		if err := f.read(f.t.Context(), secrets+"/"+name, &s); err != nil || string(s.Data["key"]) != name {
			f.t.Errorf("%s: %q, %v", name, s.Data, err)
		}
	}
}

// restrictedUser makes a service account that may only list pods, and takes a token for it.
func (f *migrated) restrictedUser() {
	f.t.Helper()
	f.post("/api/v1/namespaces/default/serviceaccounts", `{"metadata":{"name":"ann"}}`)
	f.post("/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", `{"metadata":{"name":"ann"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["list"]}]}`)
	f.post("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", `{"metadata":{"name":"ann"},
		"subjects":[{"kind":"ServiceAccount","name":"ann","namespace":"default"}],"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"ann"}}`)

	raw, err := f.kube.API.CoreV1().RESTClient().Post().AbsPath("/api/v1/namespaces/default/serviceaccounts/ann/token").
		SetHeader("Content-Type", "application/json").Body([]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}`)).Do(f.t.Context()).Raw()
	if err != nil {
		f.t.Fatal(err)
	}

	var answer struct{ Status struct{ Token string } }
	if err = json.Unmarshal(raw, &answer); err != nil {
		f.t.Fatal(err)
	}

	f.token = answer.Status.Token
}

// answers asks the API server as several users, and returns what it answers.
func (f *migrated) answers() map[string]string {
	f.t.Helper()

	out := map[string]string{}

	for what, path := range map[string]string{"user lists pods": "/api/v1/namespaces/default/pods", "user lists secrets": secrets, "user lists nodes": "/api/v1/nodes"} {
		out[what] = f.ask(path, f.token)
	}

	for _, path := range []string{"/version", "/livez", "/api/v1/pods"} {
		out["anonymous "+path] = f.ask(path, "")
	}

	for what, attributes := range map[string]string{
		"node reads its own node":         `"resource":"nodes","name":"worker-1","verb":"get"`,
		"node reads another node's lease": `"group":"coordination.k8s.io","resource":"leases","namespace":"kube-node-lease","name":"cp-1","verb":"get"`,
		"node deletes a secret":           `"resource":"secrets","namespace":"default","name":"x","verb":"delete"`,
	} {
		raw, err := f.kube.API.CoreV1().RESTClient().Post().AbsPath("/apis/authorization.k8s.io/v1/subjectaccessreviews").SetHeader("Content-Type", "application/json").
			Body([]byte(`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"system:node:worker-1","groups":["system:nodes"],
				"resourceAttributes":{` + attributes + `}}}`)).Do(f.t.Context()).Raw()
		if err != nil {
			f.t.Fatal(err)
		}

		var answer struct{ Status struct{ Allowed bool } }
		if err = json.Unmarshal(raw, &answer); err != nil {
			f.t.Fatal(err)
		}

		out[what] = fmt.Sprint(answer.Status.Allowed)
	}

	return out
}

// ask sends a request with a token or as nobody, and returns the code of the answer.
func (f *migrated) ask(path, token string) string {
	f.t.Helper()

	access, err := clientcmd.BuildConfigFromFlags("", filepath.Join(f.dir, "lab", "kubeconfig"))
	if err != nil {
		f.t.Fatal(err)
	}

	anonymous := rest.AnonymousClientConfig(access)
	anonymous.BearerToken = token

	client, err := rest.HTTPClientFor(anonymous)
	if err != nil {
		f.t.Fatal(err)
	}

	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, access.Host+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}

	resp, err := client.Do(req)
	if err != nil { // it is being started again
		return err.Error()
	}
	defer resp.Body.Close() //nolint:errcheck // it was read

	if _, err = io.Copy(io.Discard, resp.Body); err != nil {
		f.t.Fatal(err)
	}

	return fmt.Sprint(resp.StatusCode)
}

// migrate runs `machineconfig migrate --apply` on a node and returns what became of it, and the exit code.
func (f *migrated) migrate(node string) (migration.Applied, int) {
	f.t.Helper()

	cmd := f.talosmate("machineconfig", "migrate", "--to", "v1.14", "-n", node, "--apply", "--ready-timeout", "40s", "--settle-time", "1s", "-o", "json")

	var stderr strings.Builder

	cmd.Stderr = &stderr
	out, err := cmd.Output()

	var doc struct {
		Items []struct{ Apply migration.Applied }
	}
	if jsonErr := json.Unmarshal(out, &doc); jsonErr != nil || len(doc.Items) != 1 {
		f.t.Fatalf("%v: %v\n%s\n%s", err, jsonErr, out, stderr.String())
	}

	return doc.Items[0].Apply, cmd.ProcessState.ExitCode()
}

// copyDatabase copies the database of the real kube-apiserver's etcd, between two of its writes.
func (f *migrated) copyDatabase(to string) {
	f.t.Helper()

	var found []string

	err := filepath.WalkDir(f.dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "/etcd/member/snap/db") {
			found = append(found, path)
		}

		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}

	f.until("the database of kube-apiserver to be copied at rest", func(context.Context) bool {
		for _, path := range found {
			content, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(content, []byte("/registry/secrets/default/written-with-secretbox")) {
				continue
			}

			again, err := os.ReadFile(path)

			return err == nil && bytes.Equal(content, again) && os.WriteFile(to, content, 0o600) == nil
		}

		return false
	})
}

// provenSnapshot reads what a real kube-apiserver wrote: every Secret decrypts, each of the two keys is
// named when it is another one, and a plain text of neither is shown.
func (f *migrated) provenSnapshot() {
	f.t.Helper()

	path, config := filepath.Join(f.dir, "proven.db"), f.config("cp-1")
	f.copyDatabase(path)

	verify := func(config string) (snapshot.Report, int) {
		cmd := f.talosmate("etcd", "verify-snapshot", path, "--config", f.write("keys.yaml", config), "-o", "json")
		out, _ := cmd.Output() // the exit code shows it

		var doc struct{ Result snapshot.Report }
		if err := json.Unmarshal(out, &doc); err != nil || strings.Contains(string(out), "written-with-secretbox\"}") {
			f.t.Fatalf("%v\n%s", err, out)
		}

		return doc.Result, cmd.ProcessState.ExitCode()
	}

	got, code := verify(config)
	if code != 0 || !got.Restorable || got.Contents == nil || got.Contents.Newest == nil || len(got.Contents.Kinds) < 10 || len(got.Contents.Namespaces) < 4 {
		f.t.Fatalf("exit code %d: %+v", code, got)
	}

	decrypted := map[string]bool{}
	for _, e := range got.Encryption {
		decrypted[e.Provider] = e.Status == snapshot.StatusDecrypted || e.Status == snapshot.StatusPlain
	}

	if !decrypted["aescbc"] || !decrypted["secretbox"] {
		f.t.Errorf("%+v", got.Encryption)
	}

	for provider, name := range map[string]string{"aescbc": "key1", "secretbox": "key2"} {
		field := provider + "EncryptionSecret:"
		old := strings.TrimSpace(between(config, field, "\n"))
		other := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 32)))

		got, code := verify(strings.Replace(config, field+" "+old, field+" "+other, 1))
		if code != 3 || len(got.Problems) != 1 || got.Problems[0].Code != snapshot.WrongKey || !strings.Contains(got.Problems[0].Message, name+" of "+provider) {
			f.t.Errorf("another %s: exit code %d: %+v", name, code, got.Problems)
		}
	}
}

// controls breaks the migrated configuration: what the test asks shows it.
func (f *migrated) controls(answers map[string]string) {
	f.t.Helper()

	after := f.config("cp-1")

	for name, secret := range map[string]string{"name: key1\n": "written-with-aescbc", "name: key2\n": "written-with-secretbox"} {
		if strings.Count(after, name) != 1 {
			f.t.Fatalf("no key with %s in\n%s", name, after)
		}

		f.applyConfig(strings.Replace(after, name, "name: other\n", 1))
		f.until(secret+" to be unreadable", func(ctx context.Context) bool {
			return apierrors.IsInternalError(f.read(ctx, secrets+"/"+secret, &struct{}{}))
		})
		f.give(after)
		f.readable(secret)
	}

	documents := strings.Split(after, "\n---\n")
	rbac := func(document string) bool {
		return strings.Contains(document, "kind: KubeAuthorizerConfig\n") && strings.Contains(document, "RBAC")
	}

	if !slices.ContainsFunc(documents, rbac) {
		f.t.Fatalf("no RBAC authorizer in\n%s", after)
	}

	f.applyConfig(strings.Join(slices.DeleteFunc(slices.Clone(documents), rbac), "\n---\n"))
	f.until("the user to be refused", func(context.Context) bool { return f.ask("/api/v1/namespaces/default/pods", f.token) == "403" })
	f.give(after)

	if now := f.answers(); !maps.Equal(now, answers) {
		f.t.Errorf("the answers were %v and are %v", answers, now)
	}
}

// locks runs a migration while another one holds the cluster's lock, and one after that was killed.
func (f *migrated) locks() {
	f.t.Helper()
	f.fault("cp-2", "hold-answer=ApplyConfiguration:1")

	first := f.talosmate("machineconfig", "migrate", "--to", "v1.14", "-n", "cp-2", "--apply")
	if err := first.Start(); err != nil {
		f.t.Fatal(err)
	}

	f.until("the configuration to be sent", func(ctx context.Context) bool {
		var events []struct{ Event string }

		err := f.control(ctx, &events, "timeline", "cp-2")

		return err == nil && slices.ContainsFunc(events, func(e struct{ Event string }) bool { return e.Event == "fault-holds" })
	})

	if got, code := f.migrate("cp-3"); code != 5 || got.Status != runbook.Refused || !strings.Contains(got.Error, "TM143") {
		f.t.Errorf("a second run: exit code %d: %+v", code, got)
	}

	_ = first.Process.Kill() // the exit code shows it
	_ = first.Wait()

	if first.ProcessState.ExitCode() != -1 {
		f.t.Errorf("the first run ended by itself: %d", first.ProcessState.ExitCode())
	}

	f.tellLab("clear", "cp-2")

	if got, code := f.migrate("cp-2"); code != 0 || got.Status != runbook.OK || !got.Resumed || !takesOver(got.Record) {
		f.t.Errorf("after the kill: exit code %d: %+v", code, got)
	}

	if got, code := f.migrate("cp-3"); code != 0 || got.Status != runbook.OK || takesOver(got.Record) {
		f.t.Errorf("at last: exit code %d: %+v", code, got)
	}

	f.released("v1.14.1")
}

// takesOver reports whether a run took the cluster's lock over.
func takesOver(r runbook.Record) bool {
	return slices.ContainsFunc(r.Gates, func(g gate.Verdict) bool { return strings.Contains(g.Message, "taken over from") })
}
