package cmdutil_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

// TestSettingsMustBePositive gives a timeout and a concurrency from each place that they can come from.
func TestSettingsMustBePositive(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct {
		key   string
		value string
		code  int
	}{
		{"timeout", "5s", 0},
		{"timeout", "-1s", 2},
		{"timeout", "0s", 2},
		{"timeout", "10us", 2},
		{"concurrency", "3", 0},
		{"concurrency", "0", 2},
		{"concurrency", "-4", 2},
	} {
		file := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, []byte(tt.key+": "+tt.value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}

		variable := "TALOSMATE_" + strings.ToUpper(tt.key)

		for where, run := range map[string]func() clitest.Result{
			"--" + tt.key: func() clitest.Result { return clitest.Run(t, nil, "commands", "-o", "name", "--"+tt.key+"="+tt.value) },
			"$" + variable: func() clitest.Result {
				return clitest.Run(t, []string{variable + "=" + tt.value}, "commands", "-o", "name")
			},
			tt.key + " in " + file: func() clitest.Result {
				return clitest.Run(t, []string{"TALOSMATE_CONFIG=" + file}, "commands", "-o", "name")
			},
		} {
			got := run()
			if got.Code != tt.code || tt.code != 0 && !strings.Contains(got.Stderr, where+" must be") {
				t.Errorf("%s=%s: %+v", where, tt.value, got)
			}
		}
	}
}

// TestSettingsOfCommands runs commands whose own flags come from settings.
func TestSettingsOfCommands(t *testing.T) {
	t.Parallel()

	file := filepath.Join(t.TempDir(), "config.yaml")
	text := "commands.roles: true\nlogs: {tail: 3}\nnode: {reboot: {reboot-timeout: -5s}}\n"

	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	reboot := []string{"node", "reboot", "-n", "127.0.0.1", "--talosconfig", file, "--dry-run"}

	for _, tt := range []struct {
		name string
		env  string
		args []string
		code int
		want string // On stdout or stderr.
		not  string
	}{
		{"a file's switch", "", []string{"commands"}, 0, "ROLES", "SUMMARY"},
		{"a variable wins", "TALOSMATE_COMMANDS_ROLES=false", []string{"commands"}, 0, "SUMMARY", "ROLES"},
		{"an empty variable does not count", "TALOSMATE_COMMANDS_ROLES=", []string{"commands"}, 0, "ROLES", "SUMMARY"},
		{"a flag wins", "TALOSMATE_COMMANDS_ROLES=true", []string{"commands", "--roles=false"}, 0, "SUMMARY", "ROLES"},
		{"bounds hold", "", reboot, 2, "node.reboot.reboot-timeout in " + file + " must be positive", ""},
		{"for variables too", "TALOSMATE_NODE_REBOOT_REBOOT_TIMEOUT=0s", reboot, 2, "$TALOSMATE_NODE_REBOOT_REBOOT_TIMEOUT must be positive", ""},
		{"a short name", "TALOSMATE_DRY_RUN=1", reboot, 2, "$TALOSMATE_DRY_RUN is set, but there is no such setting", ""},
		{"a short name of a setting", "TALOSMATE_REBOOT_TIMEOUT=1m", reboot, 2, "the variable of --reboot-timeout is TALOSMATE_NODE_REBOOT_REBOOT_TIMEOUT", ""},
		{"a confirmation", "TALOSMATE_NODE_REBOOT_YES=1", reboot, 2, "--yes counts only on the command line", ""},
		{
			"nodes of a change", "TALOSMATE_NODES=127.0.0.1",
			[]string{"node", "reboot", "--reboot-timeout", "5s"},
			2,
			"$TALOSMATE_NODES is for commands that read", "",
		},
		{
			"all nodes of a change", "TALOSMATE_ALL_NODES=true",
			[]string{"node", "reboot", "--reboot-timeout", "5s"},
			2,
			"$TALOSMATE_ALL_NODES is for commands that read", "",
		},
	} {
		env := []string{"TALOSMATE_CONFIG=" + file, tt.env}

		got := clitest.Run(t, env, tt.args...)
		out := got.Stdout + got.Stderr

		if got.Code != tt.code || !strings.Contains(out, tt.want) || tt.not != "" && strings.Contains(out, tt.not) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

// TestNodesFromTheEnvironment reads from the nodes of $TALOSMATE_NODES unless the command line chooses.
func TestNodesFromTheEnvironment(t *testing.T) {
	t.Parallel()

	server := replay.Start(t, "talos-v1.13.8", nil)
	env := []string{"TALOSCONFIG=" + server.Talosconfig(t, "os:reader"), "TALOSMATE_NODES=10.5.0.2"}

	for want, args := range map[string][]string{
		"10.5.0.2\n":          nil,
		"10.5.0.5\n":          {"-n", "10.5.0.5"},
		"10.5.0.5,10.5.0.6\n": {"--workers"},
	} {
		got := clitest.Run(t, env, append([]string{"version", "--query", `.selection.nodes | join(",")`}, args...)...)
		if got.Stdout != want {
			t.Errorf("%v: %+v, want %q", args, got, want)
		}
	}
}
