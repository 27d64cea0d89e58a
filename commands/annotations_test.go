package commands_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

// TestAnnotations: findings are workflow commands on stderr, with their file and line, and nothing else changes.
func TestAnnotations(t *testing.T) {
	t.Parallel()

	file := filepath.Join(t.TempDir(), "broken.yaml")
	if err := os.WriteFile(file, []byte("machine:\n  type: worker\n  nosuch: 100%\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	before := clitest.Run(t, nil, "validate", "-f", file, "-o", "json", "--query", ".result")
	after := clitest.Run(t, nil, "validate", "-f", file, "-o", "json", "--query", ".result", "--annotations", "github")

	if before.Code != 3 || after.Code != before.Code || after.Stdout != before.Stdout {
		t.Errorf("with annotations: exit code %d and\n%swithout: %d and\n%s", after.Code, after.Stdout, before.Code, before.Stdout)
	}

	if strings.Contains(before.Stderr, "::") {
		t.Errorf("without the flag: %s", before.Stderr)
	}

	for _, want := range []string{"::error file=" + file, "title=machine configuration::", "::error title=talosmate validate::"} {
		if !strings.Contains(after.Stderr, want) {
			t.Errorf("no %q in\n%s", want, after.Stderr)
		}
	}

	if got := clitest.Run(t, []string{"TALOSMATE_ANNOTATIONS=github"}, "validate", "-f", file); !strings.Contains(got.Stderr, "::error file=") {
		t.Errorf("the variable: %s", got.Stderr)
	}

	if got := clitest.Run(t, nil, "validate", "-f", file, "--annotations", "gitlab"); got.Code != 2 || !strings.Contains(got.Stderr, "none, github") {
		t.Errorf("another system: exit code %d, %s", got.Code, got.Stderr)
	}
}

// TestAnnotationsOfStates: differences are annotations of the first file; a value of several lines stays in one command.
func TestAnnotationsOfStates(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	state := func(name, version string) string {
		path := filepath.Join(dir, name)
		text := `{"schema": "talosmate/v1/Fleet", "nodes": [{"hostname": "n1", "version": "` + version + `"}]}`

		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}

		return path
	}

	got := clitest.Run(t, nil, "state", "diff", state("a.json", "v1.14.0"), state("b.json", `v1\n::error::x`), "--annotations", "github")
	if got.Code != 3 || !strings.Contains(got.Stderr, ",title=drift::~ nodes.n1.version: v1.14.0 -> v1") || strings.Contains(got.Stderr, "\n::error::x") {
		t.Errorf("exit code %d\n%s", got.Code, got.Stderr)
	}
}
