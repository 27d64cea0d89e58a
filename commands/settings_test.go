package commands_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/redact"
	"github.com/talosmate/talosmate/internal/testing/clitest"
)

// flagKey is a flag of a command with the key and the variable that it must have as a setting.
type flagKey struct {
	key, variable string
	cmd           *cobra.Command
	flag          *pflag.Flag
}

func flagKeys(t *testing.T) []flagKey {
	t.Helper()

	var out []flagKey

	add := func(cmd *cobra.Command, path string) func(*pflag.Flag) {
		return func(f *pflag.Flag) {
			if f.Name == "help" || f.Hidden && f.Name != "yes" { // a hidden flag is an old name
				return
			}

			key := path + f.Name
			out = append(out, flagKey{key, "TALOSMATE_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(key)), cmd, f})
		}
	}

	root := newRoot()
	root.PersistentFlags().VisitAll(add(root, ""))
	runnable(root, func(cmd *cobra.Command, words []string) {
		cmd.LocalNonPersistentFlags().VisitAll(add(cmd, strings.Join(words, ".")+"."))
	})

	if len(out) < 300 {
		t.Fatalf("only %d flags", len(out))
	}

	return out
}

// sample is a value of a flag that is not its default.
func sample(f *pflag.Flag) string {
	if words := cmdutil.Choices(f); words != nil {
		return words[len(words)-1]
	}

	switch f.Value.Type() {
	case "bool":
		return map[string]string{"true": "false"}[f.DefValue] + map[string]string{"false": "true", "": "true"}[f.DefValue]
	case "int", "int32", "int64", "uint", "uint32":
		return "7"
	case "duration":
		return "7s"
	default:
		return "json"
	}
}

func viewSettings(t *testing.T, env ...string) map[string]cmdutil.Setting {
	t.Helper()

	got := clitest.Run(t, env, "settings", "view", "--all", "-o", "json")

	var doc struct {
		Items []cmdutil.Setting `json:"items"`
	}

	if err := json.Unmarshal([]byte(got.Stdout), &doc); err != nil || got.Code != 0 {
		t.Fatalf("settings view: %v: %+v", err, got)
	}

	out := map[string]cmdutil.Setting{}

	for _, s := range doc.Items {
		out[s.Key] = s
	}

	return out
}

// TestEveryFlagIsASetting gives every flag of every command a value from each place that it may have one from, and from
// each place that it must not.
func TestEveryFlagIsASetting(t *testing.T) {
	t.Parallel()

	keys := flagKeys(t)
	known := viewSettings(t)
	quiet := []string{"output", "query", "sort-by", "max-items", "max-bytes", "talosconfig", "settings.view.all"} // They change what this test reads.

	var (
		env  []string
		file strings.Builder
	)

	variables := map[string]string{"TALOSMATE_CONFIG": "", "TALOSMATE_TALOSCONFIG_BASE64": "", cmdutil.EnvCompletionTimeout: ""}

	for _, k := range keys {
		if other, taken := variables[k.variable]; taken {
			t.Errorf("%s and %s have one variable: %s", k.key, other, k.variable)
		}

		variables[k.variable] = k.key
		places := known[k.key].Places

		if len(places) == 0 {
			t.Errorf("%s is not a setting", k.key)
		}

		if slices.Contains(quiet, k.key) {
			continue
		}

		if slices.Contains(places, "env") {
			env = append(env, k.variable+"="+sample(k.flag))
		}

		if slices.Contains(places, "file") {
			fmt.Fprintf(&file, "%s: %q\n", k.key, sample(k.flag))
		}
	}

	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}

	byEnv, byFile := viewSettings(t, append(env, "TALOSMATE_CONFIG="+config)...), viewSettings(t, "TALOSMATE_CONFIG="+config)

	for _, k := range keys {
		for place, got := range map[string]cmdutil.Setting{"env": byEnv[k.key], "file": byFile[k.key]} {
			want := cmdutil.Setting{Value: known[k.key].Value, Origin: "default"}
			if slices.Contains(known[k.key].Places, place) && !slices.Contains(quiet, k.key) {
				want = cmdutil.Setting{Value: sample(k.flag), Origin: place, Source: map[string]string{"env": "$" + k.variable, "file": config}[place]}
			}

			hidden := want.Origin != "default" && got.Value != want.Value && got.Value == redact.Hidden
			if slices.Contains(quiet, k.key) {
				continue
			}

			if got.Origin != want.Origin || got.Value != want.Value && !hidden || cmp.Or(want.Source, got.Source) != got.Source {
				t.Errorf("%s from %s: %+v, want %+v", k.key, place, got, want)
			}
		}
	}
}

// TestWhatIsNotASetting holds that what must be typed is refused elsewhere, and that every switch of a change was thought
// about.
func TestWhatIsNotASetting(t *testing.T) {
	t.Parallel()

	// A switch of a change that may be a setting says how it is done, not whether or how much.
	allowed := []string{
		"check", "kubernetes", "merge", "promiscuous", "rename", "secureboot", "secureboot-include-well-known-certs", "short", "skip", "strict", "with-cluster-discovery",
		"with-docs", "with-examples", "with-kubespan",
	}
	known := viewSettings(t)

	for _, k := range flagKeys(t) {
		spec, _ := cmdutil.SpecOf(k.cmd)
		places := known[k.key].Places

		if spec.Kind != "" && spec.Kind != cmdutil.Read && k.flag.Value.Type() == "bool" && len(places) > 1 && !slices.Contains(allowed, k.flag.Name) {
			t.Errorf("--%s of %s may be a setting: is it safe as one?", k.flag.Name, k.cmd.CommandPath())
		}

		if slices.Contains(places, "file") {
			continue
		}

		config := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(config, []byte(k.key+": true\n"), 0o600); err != nil {
			t.Fatal(err)
		}

		if got := clitest.Run(t, []string{"TALOSMATE_CONFIG=" + config}, "settings", "view"); got.Code != 2 || !strings.Contains(got.Stderr, k.key) {
			t.Errorf("%s in the file: %+v", k.key, got)
		}

		if slices.Contains(places, "env") {
			continue
		}

		got := clitest.Run(t, []string{k.variable + "=true"}, "settings", "view")
		if got.Code != 2 || !strings.Contains(got.Stderr, k.variable) {
			t.Errorf("$%s: %+v", k.variable, got)
		}
	}
}

// TestSettingsInTheDocumentation loads the file that docs/settings.md shows.
func TestSettingsInTheDocumentation(t *testing.T) {
	t.Parallel()

	text, err := os.ReadFile("../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}

	var file strings.Builder

	for _, block := range strings.Split(string(text), "```yaml\n")[1:] {
		yaml, _, _ := strings.Cut(block, "```")
		file.WriteString(yaml)
	}

	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}

	got := clitest.Run(t, []string{"TALOSMATE_CONFIG=" + config}, "settings", "view", "-o", "name")
	for _, key := range []string{"upgrade.apply.gate", "logs.tail", "aliases.up", "aliases.cp1-logs"} {
		if got.Code != 0 || !strings.Contains(got.Stdout, key+"\n") {
			t.Errorf("%s: %+v", key, got)
		}
	}
}
