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
