package commands_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"go.yaml.in/yaml/v4"
	"google.golang.org/grpc"

	"github.com/talosmate/talosmate/commands"
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/hostile"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

// patient keeps the tests from depending on speed: what does not answer in the recordings says so at once.
const patient = "TALOSMATE_TIMEOUT=5m"

// TestHostileFilesAreUsageErrors gives every command that reads YAML or JSON of the user a file whose alias contains
// itself, one whose aliases multiply and one that is nested too deep.
func TestHostileFilesAreUsageErrors(t *testing.T) {
	t.Parallel()

	nested := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for _, level := range []string{"ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"} {
		nested += level[1:] + ": &" + level[1:] + " [" + strings.TrimSuffix(strings.Repeat("*"+level[:1]+",", 9), ",") + "]\n"
	}

	dir := t.TempDir()
	server := replay.Start(t, "talos-v1.13.8", nil)
	server.Config = "version: v1alpha1\nmachine:\n  type: worker\n"
	env := []string{"TALOSCONFIG=" + server.Talosconfig(t, cmdutil.RoleAdmin)}

	for name, text := range map[string]string{
		"cycle": "a: &x\n  b: *x\n", "nested": nested, "deep": `{"a": ` + strings.Repeat("[", 3000) + strings.Repeat("]", 3000) + "}",
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}

		for _, args := range [][]string{
			{"validate", "-f", file},
			{"machineconfig", "diff", "-n", "10.5.0.5", "-f", file},
			{"machineconfig", "apply", "-n", "10.5.0.5", "-f", file},
			{"machineconfig", "patch", "-n", "10.5.0.5", "-p", "@" + file},
			{"node", "add", "-n", "10.5.0.5", "-f", file},
			{"config", "merge", file},
			{"upgrade", "apply", file, "--dry-run"},
			{"state", "diff", file, file},
			{"config", "contexts", "--talosconfig", file},
			{"config", "use", "x", "--talosconfig", file},
			{"factory", "schematic", "id", "-f", file},
			{"imager", "build", "-f", file, "--dry-run"},
			{"gen", "config", "c", "https://10.0.0.1:6443", "--with-secrets", file, "--output-dir", filepath.Join(dir, "out")},
			{"gen", "config", "c", "https://10.0.0.1:6443", "--config-patch", "@" + file, "--output-dir", filepath.Join(dir, "out")},
		} {
			t.Run(name+"/"+strings.Join(args[:2], " "), func(t *testing.T) {
				t.Parallel()

				got := clitest.Run(t, env, args...)
				if got.Code != int(errs.Usage) || strings.Contains(got.Stderr, "goroutine") {
					t.Errorf("%v: exit code %d\n%s", args, got.Code, got.Stderr)
				}

				t.Log(got.Stderr)
			})
		}
	}
}

// TestAliasesOfOneNodeAreItsError makes one node's answer a cycle of aliases: the others' rows are printed.
func TestAliasesOfOneNodeAreItsError(t *testing.T) {
	t.Parallel()

	server := replay.Start(t, "talos-v1.13.8", nil)
	h := hostile.Start(t, server.Talosconfig(t, cmdutil.RoleAdmin), server.Authority(t))

	for _, typ := range []string{"MachineStatuses.runtime.talos.dev", "HostnameStatuses.net.talos.dev"} {
		h.Resources(typ, func(node string, r *cosi.Resource) {
			if node == "10.5.0.3" {
				r.Spec.YamlSpec = "a: &x\n  b: *x\n"
			}
		})
	}

	got := clitest.Run(t, []string{"TALOSCONFIG=" + h.Talosconfig, patient}, "get", "machinestatus", "-n", "10.5.0.2,10.5.0.3,10.5.0.5", "-o", "json")

	var doc struct {
		Items  []any        `json:"items"`
		Errors []errs.Entry `json:"errors"`
	}

	if err := json.Unmarshal([]byte(got.Stdout), &doc); err != nil {
		t.Fatalf("%v\n%s\n%s", err, got.Stdout, got.Stderr)
	}

	if got.Code != int(errs.Partial) || len(doc.Items) != 2 || len(doc.Errors) != 1 || doc.Errors[0].Node != "10.5.0.3" ||
		!strings.Contains(doc.Errors[0].Message, "contains itself") {
		t.Errorf("exit code %d, %d items, %v", got.Code, len(doc.Items), doc.Errors)
	}

	if got = clitest.Run(t, []string{"TALOSCONFIG=" + h.Talosconfig}, "health", "-o", "json", "--timeout", "5s"); got.Stdout == "" || got.Code == int(errs.Failed) {
		t.Errorf("health: exit code %d\n%s\n%s", got.Code, got.Stdout, got.Stderr)
	}
}

// odd is a patch with secrets in unusual places.
const odd = `version: v1alpha1
machine:
  type: worker
  files:
    - path: /var/etc/registry.conf
      permissions: 0o600
      op: create
      content: |
        password = "SECRET-machine-file"
  pods:
    - apiVersion: v1
      kind: Pod
      metadata: {name: agent, namespace: kube-system}
      spec:
        containers:
          - name: agent
            image: registry.example/agent:v1
            env: [{name: DB_PASSWORD, value: SECRET-env-value}]
  kubelet:
    credentialProviderConfig:
      providers:
        - name: example
          env: [{name: REGISTRY_TOKEN, value: SECRET-provider-env}]
  logging:
    destinations:
      - endpoint: tcp://u:SECRET-userinfo@10.0.0.1:1
        format: json_lines
cluster:
  tokenn: SECRET-unknown-key
  inlineManifests:
    - name: ca
      contents: |
        apiVersion: v1
        kind: Secret
        metadata: {name: cilium-ca, namespace: kube-system}
        data: {ca.key: U0VDUkVULWlubGluZQ==}
  extraManifestHeaders:
    Authorization: Bearer SECRET-header
---
apiVersion: v1alpha1
kind: ExtensionServiceConfig
name: nut-client
configFiles:
  - content: MONITOR ups@host 1 remote SECRET-config-file slave
    mountPath: /usr/local/etc/nut/upsmon.conf
`

// TestSecretsInUnusualPlacesAreHidden looks for secrets in every format of what shows a configuration or a resource, in
// errors and in the audit log.
func TestSecretsInUnusualPlacesAreHidden(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	if got := clitest.Run(t, nil, "gen", "config", "c", "https://10.0.0.1:6443", "--talos-version", "v1.13", "--output-dir", dir, "--output-types", "worker"); got.Code != 0 {
		t.Fatal(got.Stderr)
	}

	have, err := os.ReadFile(filepath.Join(dir, "worker.yaml"))
	if err != nil {
		t.Fatal(err)
	}

	server := replay.Start(t, "talos-v1.13.8", nil)
	server.Config = string(have)
	h := hostile.Start(t, server.Talosconfig(t, cmdutil.RoleAdmin), server.Authority(t))

	h.Serve(machine.MachineService_ApplyConfiguration_FullMethodName, func(_ string, stream grpc.ServerStream) error {
		return stream.SendMsg(&machine.ApplyConfigurationResponse{Messages: []*machine.ApplyConfiguration{{Mode: machine.ApplyConfigurationRequest_TRY}}})
	})

	h.Resources("Environments.runtime.talos.dev", func(_ string, r *cosi.Resource) {
		r.Spec.YamlSpec = "variables:\n  - PATH=/usr/bin\n  - USERDATA=" + base64.StdEncoding.EncodeToString([]byte("machine: SECRET-userdata")) + "\n"
	})
	h.Resources("Manifests.kubernetes.talos.dev", func(_ string, r *cosi.Resource) {
		r.Spec.YamlSpec = "- kind: Secret\n  stringData:\n    token-id: abc\n    token-secret: SECRET-bootstrap\n"
	})

	known := strings.Replace(odd, "  tokenn: SECRET-unknown-key\n", "", 1)
	file, clean, broken := filepath.Join(dir, "odd.yaml"), filepath.Join(dir, "known.yaml"), filepath.Join(dir, "broken.yaml")
	auditLog := filepath.Join(dir, "audit.log")

	for path, text := range map[string]string{
		file: odd, clean: known, broken: "machine:\n  type: worker\n  certSANs: SECRET-broken\n  install: SECRET-install\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	all := ""

	for _, row := range []struct {
		code errs.Code
		args []string
	}{
		{errs.OK, []string{"get", "environments", "-n", "10.5.0.2,10.5.0.5"}},
		{errs.OK, []string{"get", "manifests", "-n", "10.5.0.2"}},
		{errs.Negative, []string{"machineconfig", "diff", "-n", "10.5.0.5", "-f", file}},
		{errs.Negative, []string{"validate", "-f", file}},
		{errs.Negative, []string{"validate", "-f", broken}},
		{errs.OK, []string{"machineconfig", "patch", "-n", "10.5.0.5", "--dry-run", "--audit-log", auditLog, "-p", known}},
		{errs.OK, []string{"machineconfig", "patch", "-n", "10.5.0.5", "--dry-run", "--audit-log", auditLog, "-p", "@" + clean}},
		{errs.Usage, []string{"machineconfig", "patch", "-n", "10.5.0.5", "--dry-run", "--audit-log", auditLog, "-p", odd}},
		{errs.Usage, []string{"machineconfig", "patch", "-n", "10.5.0.5", "--audit-log", auditLog, "-p", "machine: {install: SECRET-install}"}},
		{errs.Usage, []string{"machineconfig", "apply", "-n", "10.5.0.5", "--audit-log", auditLog, "-f", file}},
		{errs.Usage, []string{"machineconfig", "apply", "-n", "10.5.0.5", "--audit-log", auditLog, "-f", broken}},
		{errs.Usage, []string{"gen", "config", "c", "https://10.0.0.1:6443", "--config-patch", odd, "--output-dir", filepath.Join(dir, "out")}},
		{errs.Usage, []string{"gen", "config", "c", "https://10.0.0.1:6443", "--config-patch", "@" + broken, "--output-dir", filepath.Join(dir, "out")}},
	} {
		args := row.args

		for _, format := range []string{"table", "wide", "json", "yaml", "ndjson"} {
			got := clitest.Run(t, []string{"TALOSCONFIG=" + h.Talosconfig, patient}, append(slices.Clone(args), "-o", format)...)
			if got.Stdout+got.Stderr == "" || got.Code != int(row.code) {
				t.Errorf("%v -o %s: exit code %d, want %d\n%s", args, format, got.Code, row.code, got.Stderr)
			}

			for _, secret := range []string{"SECRET-", "U0VDUkVU", base64.StdEncoding.EncodeToString([]byte("machine: SECRET"))[:18]} {
				if strings.Contains(got.Stdout+got.Stderr, secret) {
					t.Errorf("%v -o %s shows a secret:\n%s\n%s", args, format, got.Stdout, got.Stderr)
				}
			}

			all += got.Stdout
			t.Logf("%v: exit code %d, %d bytes, %s", args[:2], got.Code, len(got.Stdout), got.Stderr)
		}

		got := clitest.Run(t, []string{"TALOSCONFIG=" + h.Talosconfig, patient}, append(slices.Clone(args), "--query", ".")...)
		if strings.Contains(got.Stdout+got.Stderr, "SECRET-") {
			t.Errorf("%v --query shows a secret:\n%s\n%s", args, got.Stdout, got.Stderr)
		}
	}

	if log, err := os.ReadFile(auditLog); err != nil || strings.Contains(string(log), "SECRET-") {
		t.Errorf("audit log: %v\n%s", err, log)
	}

	for _, kept := range []string{"sha256", "PATH=/usr/bin", "nut-client"} {
		if !strings.Contains(all, kept) {
			t.Errorf("hides %q", kept)
		}
	}

	got := clitest.Run(t, []string{"TALOSCONFIG=" + h.Talosconfig, patient}, "get", "manifests", "--show-secrets", "-o", "json")
	if !strings.Contains(got.Stdout, "SECRET-bootstrap") {
		t.Errorf("--show-secrets hides: %s", got.Stderr)
	}
}

// poison fills every number, time and text that v holds with what JSON or YAML cannot. It reports whether there was a
// number or a time.
func poison(v reflect.Value, depth int) bool {
	if v.CanSet() && v.Type() == reflect.TypeOf(time.Time{}) {
		v.Set(reflect.ValueOf(time.Date(20_000, 1, 1, 0, 0, 0, 0, time.UTC)))

		return true
	}

	if depth > 8 || !v.CanSet() {
		return false
	}

	found := false

	switch v.Kind() { //nolint:exhaustive // the rest can be encoded
	case reflect.Float32, reflect.Float64:
		v.SetFloat(math.NaN())

		return true
	case reflect.String:
		v.SetString("\xff\x1b[31m\u0085\u202e\x00\ufffe" + strings.Repeat("k", 1500))
	case reflect.Interface:
		if v.NumMethod() == 0 {
			v.Set(reflect.ValueOf(math.Inf(1)))

			return true
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))

		return poison(v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Node" {
				found = poison(v.Field(i), depth+1) || found
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))

		return poison(v.Index(0), depth+1)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()

		poison(key, depth+1)
		found = poison(value, depth+1)

		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	}

	return found
}

// TestOneRowCannotEmptyADocument takes every type of document and prints one with a good and a bad row, or a bad
// result, in every format.
func TestOneRowCannotEmptyADocument(t *testing.T) {
	t.Parallel()

	f := cmdutil.NewFactory(&iostreams.Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Env: func(string) (string, bool) { return "", false }}, cmdutil.Build{})
	commands.NewRoot(f)

	seen := 0

	for name, document := range f.Documents() {
		body := reflect.New(reflect.TypeOf(document)).Elem()
		row := body.Type()

		if items, is := row.FieldByName("Items"); is && items.Type.Kind() == reflect.Slice {
			row = items.Type.Elem()
		} else if result, is := row.FieldByName("Result"); is {
			row = result.Type
		}

		bad := reflect.New(row).Elem()
		if !poison(bad, 0) {
			continue
		}

		seen++

		for _, format := range []output.Format{output.JSON, output.YAML, output.NDJSON, output.Table, output.Name} {
			for _, query := range []string{"", ".schema"} {
				t.Run(fmt.Sprintf("%s/%s%s", name, format, query), func(t *testing.T) {
					var out bytes.Buffer

					p := &output.Printer{Out: &out, Format: format, Query: query, Schema: name, Now: time.Now}
					err := output.PrintList(p, []any{map[string]string{"good": "row"}, bad.Interface(), map[string]string{"good": "row"}}, nil,
						[]output.Column[any]{{Header: "X", Value: func(any) string { return "good" }}}, func(any) string { return "good" })
					checkPrinted(t, out.String(), format, query, err, 2)

					out.Reset()

					err = output.PrintResult[any](p, bad.Interface(), nil, func(w io.Writer, _ any) error { _, err := io.WriteString(w, "good"); return err }, "good")
					checkPrinted(t, out.String(), format, query, err, -1)
				})
			}
		}
	}

	if seen < 20 {
		t.Errorf("only %d documents have a number or a time", seen)
	}
}

func checkPrinted(t *testing.T, text string, format output.Format, query string, err error, items int) {
	t.Helper()

	var nodes *errs.Nodes
	if !errors.As(err, &nodes) || len(nodes.Errors) != 1 || !strings.Contains(err.Error(), "cannot show") {
		t.Errorf("the error is %v", err)
	}

	switch {
	case query != "":
		if !strings.Contains(text, "talosmate/v1/") {
			t.Errorf("the query gave %q", text)
		}
	case format == output.JSON, format == output.YAML:
		var doc struct {
			Items  []any        `json:"items"  yaml:"items"`
			Errors []errs.Entry `json:"errors" yaml:"errors"`
		}

		err := json.Unmarshal([]byte(text), &doc)
		if format == output.YAML {
			err = yaml.Unmarshal([]byte(text), &doc)
		}

		if err != nil || len(doc.Errors) != 1 || (items >= 0 && len(doc.Items) != items) {
			t.Errorf("%v: %d items, %d errors", err, len(doc.Items), len(doc.Errors))
		}
	case format == output.NDJSON:
		for line := range strings.Lines(text) {
			if !json.Valid([]byte(line)) {
				t.Errorf("not JSON: %q", line)
			}
		}

		if items >= 0 && (strings.Count(text, `"type":"item"`) != items || strings.Count(text, `"type":"error"`) != 1) {
			t.Errorf("got %s", text)
		}
	case !strings.Contains(text, "good"):
		t.Errorf("got %q", text)
	}
}
