package about_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/golden"
)

// TestSettingsView shows values from every place.
func TestSettingsView(t *testing.T) {
	t.Parallel()

	env := []string{
		"TALOSMATE_CONFIG=testdata/config.yaml", "TALOSMATE_OUTPUT=table", "TALOSMATE_CONCURRENCY=8", "TALOSMATE_NODES=cp-1,cp-2",
		"TALOSMATE_LOGS_TAIL=20", "TALOSMATE_HEALTH_WAIT=true", "TALOSMATE_FACTORY_URL_META=0x0a=secret",
	}

	for name, args := range map[string][]string{
		"settings-view":      {"--concurrency", "2"},
		"settings-view-wide": {"-o", "wide"},
		"settings-view-json": {"-o", "json", "--query", `.items[] | select(.origin != "default")`},
		"settings-view-keys": {"logs.tail", "timeout"},
		"settings-view-name": {"-o", "name"},
	} {
		got := clitest.Run(t, env, append([]string{"settings", "view"}, args...)...)
		if got.Code != 0 || got.Stderr != "" {
			t.Errorf("%s: %+v", name, got)
		}

		golden.Assert(t, name, []byte(got.Stdout))
	}
}

// TestConfigurationFiles has files with mistakes, and what is said about each.
func TestConfigurationFiles(t *testing.T) {
	t.Parallel()

	for text, want := range map[string]string{
		"":                                     "",
		"# nothing\n":                          "",
		"timeout: 5s":                          "",
		"timout: 5s":                           `unknown setting "timout"|did you mean timeout?`,
		"Timeout: 5s":                          "",
		"max-parallel: 3":                      `unknown setting "max-parallel"|did you mean machineconfig.rollout.apply.max-parallel or machineconfig.rollout.plan.max-parallel or upgrade.apply.max-parallel?`,
		"upgrade: {aply: {max-parallel: 3}}":   `unknown setting "upgrade.aply.max-parallel"|did you mean upgrade.apply.max-parallel`,
		"quite-something-else: 1":              "settings view --all",
		"output: [json]":                       "it is a list, and --output takes one value",
		"output: {json: true}":                 `bad value for output in |want a word`,
		"output: ~":                            "want a word",
		"output: xml":                          "xml",
		"timeout: 5":                           `bad value "5" for timeout in `,
		"concurrency: 0":                       "concurrency in ",
		"progress: loud":                       "want one of auto, tty, plain, json, none",
		"settings: {view: {all: perhaps}}":     `bad value "perhaps" for settings.view.all in `,
		"timeout: 5s\ntimeout: 6s":             "timeout",
		"logs.tail: 5\nlogs: {tail: 6}":        "logs.tail is given twice",
		"nodes: [cp-1]":                        "--nodes belongs to one cluster|$TALOSMATE_NODES",
		"talosconfig: /tmp/x":                  "--talosconfig belongs to one cluster",
		"node: {reset: {yes: true}}":           "--yes counts only on the command line|help settings",
		"machineconfig.get.show-secrets: true": "--show-secrets counts only on the command line",
		"[output]":                             "it is not a mapping",
		"output: json\n\t- x":                  "cannot read the configuration file",
		"a: &a [*a]":                           "a",
		strings.Repeat("#", 1<<20) + "#":       "it is larger than 1 MiB",
		"aliases: [x]":                         "want a mapping of names to command lines",
		"aliases: {health: version}":           `bad alias "health"|talosmate has a command of that name`,
		"aliases: {help: version}":             "talosmate has a command of that name",
		"aliases: {__complete: version}":       "letters, digits",
		"aliases: {'a b': version}":            "letters, digits",
		"aliases: {v: ''}":                     "it has no command line",
		"aliases: {v: \"logs 'x\"}":            "unterminated single-quoted string",
		"aliases: {v: {x: y}}":                 "want a command line or a list of words",
		"aliases: {boom: 'node reset --yes'}":  "--yes counts only where it is typed, not in an alias",
		"aliases: {x: 'upgrade node --override=TM120'}": "--override counts only where it is typed, not in an alias",
		"aliases: {v: version -o json}":                 "",
	} {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}

		got := clitest.Run(t, []string{"TALOSMATE_CONFIG=" + path}, "settings", "view")
		code := 2

		if want == "" {
			code = 0
		}

		if got.Code != code {
			t.Errorf("%.60q: %+v", text, got)
		}

		for _, part := range strings.Split(want, "|") {
			if !strings.Contains(got.Stderr, part) {
				t.Errorf("%.60q: stderr does not contain %q:\n%s", text, part, got.Stderr)
			}
		}
	}
}
