package factory_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/factorystub"
	"github.com/talosmate/talosmate/internal/testing/golden"
)

func TestFactory(t *testing.T) {
	t.Parallel()

	base := factorystub.Serve(t)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	t.Cleanup(broken.Close)

	file := filepath.Join(t.TempDir(), "schematic.yaml")
	if err := os.WriteFile(file, []byte("customization:\n  systemExtensions:\n    officialExtensions:\n      - siderolabs/qemu-guest-agent\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		name   string // A golden file, empty for none.
		args   []string
		stdin  string
		code   errs.Code
		stderr string
	}{
		{name: "id.table", args: []string{"schematic", "id", "-f", file}},
		{name: "id.wide", args: []string{"schematic", "id", "-f", file, "-o", "wide"}},
		{name: "id.json", args: []string{"schematic", "id", "--extension", "zfs", "--kernel-arg", "a=b", "-o", "json"}},
		{name: "id.stdin", args: []string{"schematic", "id", "-f", "-", "-o", "name"}, stdin: "customization: {}\n"},
		{args: []string{"schematic", "id", "-f", file, "--extension", "zfs"}, code: errs.Usage, stderr: "not from both"},
		{args: []string{"schematic", "id", "-f", file + ".missing"}, code: errs.Usage, stderr: "cannot read the schematic"},
		{args: []string{"schematic", "id", "-f", "-"}, stdin: "extensions: []\n", code: errs.Usage, stderr: "fields that this program does not know: extensions (line 1)"},
		{args: []string{"schematic", "id", "-f", "-"}, stdin: " \n", code: errs.Usage, stderr: "the schematic is empty"},
		{args: []string{"schematic", "id", "--from-node", "n1", "-f", file}, code: errs.Usage, stderr: "omit -f"},
		{name: "create.json", args: []string{"schematic", "create", "-f", file, "--factory", base, "-o", "json"}},
		{args: []string{"schematic", "create", "--extension", "refused", "--factory", base}, code: errs.Usage, stderr: "extension is not known"},
		{args: []string{"schematic", "create", "--extension", "dropped", "--factory", base}, code: errs.Failed, stderr: "but its ID is"},
		{args: []string{"schematic", "create", "--factory", "http://127.0.0.1:1"}, code: errs.Unreachable, stderr: "check the factory's URL"},
		{args: []string{"schematic", "create", "--factory", broken.URL}, code: errs.Unreachable, stderr: "HTTP 502"},
		{args: []string{"schematic", "create", "--factory", "factory"}, code: errs.Usage, stderr: "not the URL of an Image Factory"},
		{name: "get.json", args: []string{"schematic", "get", "ce4c980550dd2ab1b17bbf2b08801c7eb59418eafe8f279833297925d67c7515", "--factory", base, "-o", "json"}},
		{name: "get.newer.json", args: []string{"schematic", "get", strings.Repeat("f", 64), "--factory", base, "-o", "json"}},
		{name: "get.table", args: []string{"schematic", "get", strings.Repeat("f", 64), "--factory", base}},
		{args: []string{"schematic", "get", strings.Repeat("e", 64), "--factory", base}, code: errs.Failed, stderr: "is not a schematic"},
		{args: []string{"schematic", "get", "unknown", "--factory", base}, code: errs.Failed, stderr: "HTTP 404"},
		{args: []string{"schematic", "get", "x/../y?z", "--factory", base}, code: errs.Failed, stderr: "HTTP 404"},
		{args: []string{"schematic", "get", "x", "--factory", "http://127.0.0.1:1"}, code: errs.Unreachable, stderr: "check the factory's URL"},
		{args: []string{"schematic", "get"}, code: errs.Usage, stderr: "ID"},
		{name: "url.table", args: []string{"url", "-f", file, "--arch", "amd64", "--talos-version", "v1.13.9"}},
		{name: "url.json", args: []string{"url", "iso", "--arch", "arm64", "--talos-version", "v1.13.9", "-o", "json"}},
		{name: "url.name", args: []string{"url", "installer", "--secureboot", "--platform", "aws", "--talos-version", "v1.13.9", "-o", "name"}},
		{args: []string{"url", "floppy"}, code: errs.Usage, stderr: "no asset of the kind"},
		{args: []string{"url", "-f", file, "--schematic", "x"}, code: errs.Usage, stderr: "not twice"},
		{name: "versions.table", args: []string{"versions", "--factory", base}},
		{name: "versions.json", args: []string{"versions", "--stable", "--factory", base, "-o", "json"}},
		{name: "extensions.table", args: []string{"extensions", "--talos-version", "v1.13.9", "--factory", base}},
		{name: "extensions.json", args: []string{"extensions", "--talos-version", "v1.13.9", "--factory", base, "-o", "json"}},
		{args: []string{"extensions", "--talos-version", "v0.1.0", "--factory", base}, code: errs.Failed, stderr: "hint: talosmate factory versions"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()

			got := clitest.RunContext(t, t.Context(), strings.NewReader(c.stdin), nil, append([]string{"factory"}, c.args...)...)
			if got.Code != int(c.code) || !strings.Contains(got.Stderr, c.stderr) {
				t.Errorf("exit code %d, want %d and %q\n%s", got.Code, c.code, c.stderr, got.Stderr)
			}

			if c.name != "" {
				golden.Assert(t, c.name, []byte(got.Stdout))
			}
		})
	}
}

func TestSaveSchematic(t *testing.T) {
	t.Parallel()

	path := filepath.Join(t.TempDir(), "schematic.yaml")

	got := clitest.Run(t, nil, "factory", "schematic", "id", "--extension", "zfs", "--save", path)
	if got.Code != 0 {
		t.Fatal(got.Stderr)
	}

	again := clitest.Run(t, nil, "factory", "schematic", "id", "-f", path)
	if again.Stdout != got.Stdout || again.Stdout == "" {
		t.Errorf("saved %q, read %q", got.Stdout, again.Stdout)
	}
}

// The recorded nodes run in containers and have no schematic.
func TestFromNode(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{
			Name: "from-node.none", Args: []string{"factory", "schematic", "id", "--from-node", "n1", "-o", "json"}, Code: 1,
			Stderr: []string{"cannot read the schematic of n1: the node has none", "hint: it was not installed from an Image Factory image"},
		},
		{
			Name: "from-node.dead", Args: []string{"factory", "schematic", "id", "--from-node", "10.5.0.4", "-o", "json"}, Code: 6,
			Stderr: []string{"no route to host"},
		},
	})
}
