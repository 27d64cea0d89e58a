package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestInfoNamesSourceAndProblems(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "info.roles", Roles: []string{"os:reader", "os:etcd:backup"}, Args: []string{"config", "info", "--query", ".result | [.source, .contexts[0].roles]"}},
		{Name: "info.unknown-context", Args: []string{"config", "info", "--context", "nosuch"}, Code: 2, Stderr: []string{`no context "nosuch"`, "contexts: recorded"}},
	})
}

func TestInfoWithoutCertificate(t *testing.T) {
	t.Parallel()

	path := filepath.Join(t.TempDir(), "talosconfig")
	text := "context: one\ncontexts:\n  one:\n    endpoints: [10.0.0.1]\n    cluster: prod\n  omni:\n    endpoints: [omni.example]\n    auth:\n      siderov1:\n        identity: me@example.com\n"

	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	got := clitest.Run(t, nil, "--talosconfig", path, "config", "info", "--query", ".result.contexts[] | .name + \" \" + (.identity // \"\") + \": \" + (.problem // \"fine\")")
	want := "omni me@example.com: fine\none : fine\n"

	if got.Code != 0 || got.Stdout != want {
		t.Errorf("code %d, stdout %q, stderr %q", got.Code, got.Stdout, got.Stderr)
	}

	refused := clitest.Run(t, nil, "--talosconfig", path, "--context", "omni", "version")
	if refused.Code != 6 || !strings.Contains(refused.Stderr, "cannot sign requests as me@example.com") {
		t.Errorf("an Omni context without a key gave exit code %d: %s", refused.Code, refused.Stderr)
	}
}

func TestMissingFileInTheEnvironmentIsUsage(t *testing.T) {
	t.Parallel()

	got := clitest.Run(t, []string{"TALOSCONFIG=/nonexistent/talosconfig"}, "config", "info", "-o", "json")
	if got.Code != 2 {
		t.Errorf("exit code %d, want 2; stderr %s", got.Code, got.Stderr)
	}
}
