package commands_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

// TestAliases runs command lines that begin with an alias, against a recorded cluster.
func TestAliases(t *testing.T) {
	t.Parallel()

	const file = `aliases:
  mine: service list -n 10.5.0.2
  ids: mine -o name
  table: -o table service
  one: mine --query '.items[] | select(.id == "apid") | .id'
  words: [mine, --query, '.items[0].id + " $HOME $(id) ; id"']
  loop: pool -o json
  pool: loop
  reboot: node reboot
`

	dir := t.TempDir()
	config := filepath.Join(dir, "config.yaml")

	if err := os.WriteFile(config, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}

	server := replay.Start(t, "talos-v1.13.8", nil)
	env := []string{"TALOSCONFIG=" + server.Talosconfig(t, "os:admin"), "TALOSMATE_CONFIG=" + config}

	for _, tt := range []struct {
		line string
		code int
		want string // On stdout or stderr.
	}{
		{"mine", 0, "HEALTH"},
		{"mine -o name", 0, "apid\ncontainerd\n"},
		{"-o json mine", 0, `"schema"`},
		{"--context= mine", 0, "HEALTH"},
		{"ids", 0, "apid\ncontainerd\n"},
		{"table list -n 10.5.0.2", 0, "HEALTH"},
		{"one", 0, "apid\n"},
		{"words", 0, "apid $HOME $(id) ; id\n"}, // no shell
		{"mine --help", 0, "talosmate service list [flags]"},
		{"mine too many", 2, "want no arguments"},
		{"loop", 2, "loop → pool → loop"},
		{"reboot", 2, "no nodes chosen"},
		{"reboot -n 10.5.0.2 --read-only", 5, "TM111"},
		{"version mine", 2, "want no arguments"}, // a command's argument is not an alias
		{"service mine", 2, `unknown command "mine" for "talosmate service"`},
		{"mines", 2, `unknown command "mines"`},
		{"__complete mi", 0, "mine\talias for service list -n 10.5.0.2\n:4"},
		{"__complete ids --no-h", 0, "--no-headers"},
		{"__complete reboot --reboot-mode f", 0, "force"},
		{"__complete loop --no", 0, ":"},
	} {
		got := clitest.Run(t, env, strings.Fields(tt.line)...)
		if got.Code != tt.code || !strings.Contains(got.Stdout+got.Stderr, tt.want) {
			t.Errorf("%s: exit code %d, want %d and %q\n%s%s", tt.line, got.Code, tt.code, tt.want, got.Stdout, got.Stderr)
		}
	}

	// The file is read for a word that is not a command only.
	if err := os.WriteFile(config, []byte("aliases: 5"), 0o600); err != nil {
		t.Fatal(err)
	}

	for line, code := range map[string]int{"help": 0, "health --help": 0, "mine": 2, "version --client": 2, "__complete mi": 0, "__complete s": 0} {
		if got := clitest.Run(t, env, strings.Fields(line)...); got.Code != code {
			t.Errorf("%s with a bad file: exit code %d, want %d\n%s", line, got.Code, code, got.Stderr)
		}
	}
}
