package gen_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestGen(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	secrets := filepath.Join(dir, "secrets.yaml")

	run := func(code int, args ...string) clitest.Result {
		t.Helper()

		got := clitest.Run(t, nil, args...)
		if got.Code != code {
			t.Fatalf("%v: exit %d, want %d: %s", args, got.Code, code, got.Stderr)
		}

		return got
	}

	run(0, "gen", "secrets", "--output-file", secrets)
	run(2, "gen", "secrets", "--output-file", secrets)
	run(0, "gen", "config", "prod", "https://10.0.0.1:6443", "--with-secrets", secrets, "--output-dir", dir)
	run(2, "gen", "config", "prod", "https://10.0.0.1:6443", "--with-secrets", secrets, "--output-dir", dir)
	run(2, "gen", "config", "prod", "10.0.0.1", "--output-dir", filepath.Join(dir, "x"))
	run(2, "gen", "config", "prod", "https://10.0.0.1:6443", "--output-types", "init", "--output-dir", filepath.Join(dir, "x"))
	run(2, "gen", "config", "prod", "https://10.0.0.1:6443", "--output-dir", "-")

	for _, name := range []string{"secrets.yaml", "controlplane.yaml", "worker.yaml", "talosconfig"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}

	for _, name := range []string{"controlplane.yaml", "worker.yaml"} {
		run(0, "validate", "-f", filepath.Join(dir, name), "--mode", "metal", "--strict")
	}

	again := run(0, "gen", "config", "prod", "https://10.0.0.1:6443", "--with-secrets", secrets, "--output-types", "worker", "--output-dir", "-")
	if worker, err := os.ReadFile(filepath.Join(dir, "worker.yaml")); err != nil || again.Stdout != string(worker) {
		t.Error("the same secrets give another configuration")
	}

	patched := run(0, "gen", "config", "prod", "https://10.0.0.1:6443", "--output-types", "worker", "--output-dir", "-",
		"--config-patch", "machine: {certSANs: [patched.example.com]}")
	if !strings.Contains(patched.Stdout, "patched.example.com") {
		t.Error("the patch is not there")
	}

	listed := run(0, "gen", "config", "prod", "https://10.0.0.1:6443", "--output-dir", filepath.Join(dir, "new"), "-o", "json", "--query", ".result.files[].type")
	if listed.Stdout != "controlplane\nworker\ntalosconfig\n" {
		t.Errorf("lists %q", listed.Stdout)
	}
}

func TestGenConfigPatches(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}

		return path
	}

	const hostname = "apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: wk-new\n"

	for name, c := range map[string]struct {
		patch string
		code  int
		want  string // On stderr.
	}{
		"a file without @":         {write("sans.yaml", "machine: {certSANs: [patched.example.com]}"), 0, ""},
		"what Talos rejects":       {"@" + write("hostname.yaml", hostname), 3, "'auto' and 'hostname' cannot be set at the same time"},
		"a comment":                {"@" + write("comment.yaml", "# only a comment\n"), 2, "patch 1 is empty"},
		"separators":               {"@" + write("separators.yaml", "---\n---\n"), 2, "patch 1 is empty"},
		"no operations":            {"[]", 2, "patch 1 is empty"},
		"a blank interface":        {"machine:\n  network:\n    interfaces:\n      -\n", 2, "line 4: null value is not allowed"},
		"an unknown key":           {"machine: {kublet: {x: y}}", 2, "unknown key machine.kublet.x"},
		"an unknown document":      {"apiVersion: v1alpha1\nkind: FutureConfig\n", 2, "not registered"},
		"encrypted":                {"machine: {token: 'ENC[AES256_GCM,data:QUJD,type:str]'}\nsops: {version: 3.10.2}\n", 2, "encrypted with SOPS"},
		"absent, with a name":      {"apiVersion: v1alpha1\nkind: UserVolumeConfig\nname: data\n$patch: delete\n", 0, ""},
		"absent, without a name":   {"apiVersion: v1alpha1\nkind: ResolverConfig\n$patch: delete\n", 0, ""},
		"a missing file without @": {filepath.Join(dir, "missing.yaml"), 2, "no such file"},
	} {
		got := clitest.Run(t, nil, "gen", "config", "prod", "https://10.0.0.1:6443", "--output-types", "worker", "--output-dir", "-", "--config-patch", c.patch)
		if got.Code != c.code || !strings.Contains(got.Stderr, c.want) {
			t.Errorf("%s: exit %d, want %d and %q: %s", name, got.Code, c.code, c.want, got.Stderr)
		}

		if c.code != 2 && strings.Contains(got.Stdout, "\n{}\n") {
			t.Errorf("%s: an empty document in\n%s", name, got.Stdout)
		}
	}

	sealed := write("secrets.yaml", "cluster: {id: 'ENC[AES256_GCM,data:QUJD,type:str]'}\nsops: {version: 3.10.2}\n")
	if got := clitest.Run(t, nil, "gen", "config", "prod", "https://10.0.0.1:6443", "--output-dir", dir, "--with-secrets", sealed); got.Code != 2 || !strings.Contains(got.Stderr, "encrypted with SOPS") {
		t.Errorf("encrypted secrets: exit %d: %s", got.Code, got.Stderr)
	}
}
