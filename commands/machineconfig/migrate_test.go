package machineconfig_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestMigrateFile(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	source, out := filepath.Join(dir, "controlplane.yaml"), filepath.Join(dir, "new")

	run := func(code int, args ...string) clitest.Result {
		t.Helper()

		got := clitest.Run(t, nil, args...)
		if got.Code != code {
			t.Fatalf("%v: exit %d, want %d: %s%s", args, got.Code, code, got.Stdout, got.Stderr)
		}

		return got
	}

	run(0, "gen", "config", "prod", "https://10.0.0.1:6443", "--talos-version", "v1.13", "--output-dir", dir, "--with-docs=false", "--with-examples=false")
	run(2, "machineconfig", "migrate", "-f", source, "--to", "v1.11")
	run(2, "machineconfig", "migrate", "-f", source, "--only", "NoSuchConfig")
	run(2, "machineconfig", "migrate", "-f", source, "-n", "10.0.0.1")
	run(2, "machineconfig", "migrate", "--links", "eth0")

	got := run(0, "machineconfig", "migrate", "-f", source, "--output-dir", out, "-o", "json", "--query", ".items[] | .documents[]")
	for _, kind := range []string{"KubeAuthorizerConfig/node", "KubeAuthenticationConfig", "UnattendedInstallConfig", "KubeEtcdEncryptionConfig"} {
		if !strings.Contains(got.Stdout, kind) {
			t.Errorf("no %s in %s", kind, got.Stdout)
		}
	}

	migrated := filepath.Join(out, "controlplane.yaml")
	if info, err := os.Stat(migrated); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}

	run(2, "machineconfig", "migrate", "-f", source, "--output-dir", out)
	run(0, "validate", "-f", migrated, "--strict")

	if text := run(0, "machineconfig", "migrate", "-f", migrated).Stdout; !strings.Contains(text, "nothing to migrate") {
		t.Error(text)
	}

	text := run(0, "machineconfig", "migrate", "-f", source, "--only", "KubePrismConfig", "--output-dir", "-").Stdout
	if strings.Count(text, "\n---\n") < 1 || !strings.Contains(text, "kind: KubePrismConfig") || strings.Contains(text, "kind: KubeletConfig") {
		t.Error(text)
	}

	if text = run(0, "machineconfig", "migrate", "-f", source).Stdout; strings.Contains(text, "PRIVATE KEY") || !strings.Contains(text, "moved cluster.apiServer.image -> KubeAPIServerConfig image") {
		t.Error(text)
	}
}
