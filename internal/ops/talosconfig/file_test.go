package talosconfig_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/talosconfig"
)

const mine = `# our clusters
context: prod # the one that matters
contexts:
  prod:
    # behind the VPN
    endpoints:
      - 10.0.0.1
      - 10.0.0.2 # the new one
    ca: Q0E=
    crt: Q1JU
    key: S0VZ
    custom: kept
  # for experiments
  test:
    endpoints: [10.1.0.1]
`

func open(t *testing.T, content string) *talosconfig.File {
	t.Helper()

	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}

	f, err := talosconfig.Open(path)
	if err != nil {
		t.Fatal(err)
	}

	return f
}

func saved(t *testing.T, f *talosconfig.File) string {
	t.Helper()

	if _, err := f.Save(true); err != nil {
		t.Fatal(err)
	}

	raw, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}

	if info, err := os.Stat(f.Path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}

	return string(raw)
}

func TestEditsKeepTheRest(t *testing.T) {
	t.Parallel()

	f := open(t, mine)
	if err := f.Use("test"); err != nil {
		t.Fatal(err)
	}

	if got, want := saved(t, f), strings.Replace(mine, "context: prod", "context: test", 1); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	if bak, _ := os.ReadFile(f.Path + ".bak"); string(bak) != mine {
		t.Error("the backup differs")
	}

	f = open(t, mine)
	if err := f.SetList("prod", "nodes", []string{"10.0.0.5"}); err != nil {
		t.Fatal(err)
	}

	if got, want := saved(t, f), strings.Replace(mine, "    custom: kept\n", "    custom: kept\n    nodes:\n      - 10.0.0.5\n", 1); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAddToNothing(t *testing.T) {
	t.Parallel()

	f, err := talosconfig.Open(filepath.Join(t.TempDir(), "new", "config"))
	if err != nil {
		t.Fatal(err)
	}

	if err = f.Add("one", talosconfig.Context{Endpoints: []string{"10.0.0.1"}, CA: "Q0E=", Crt: "Q1JU", Key: "S0VZ"}); err != nil {
		t.Fatal(err)
	}

	if err = f.Use("one"); err != nil {
		t.Fatal(err)
	}

	want := "context: one\ncontexts:\n    one:\n        endpoints:\n            - 10.0.0.1\n        ca: Q0E=\n        crt: Q1JU\n        key: S0VZ\n"
	if got := saved(t, f); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	if err = f.Add("one", talosconfig.Context{}); errs.ExitCode(err) != errs.Usage {
		t.Errorf("twice: %v", err)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()

	f := open(t, mine)
	if err := f.Remove("prod"); errs.ExitCode(err) != errs.Usage {
		t.Errorf("the current context: %v", err)
	}

	if err := f.Remove("none"); errs.ExitCode(err) != errs.Usage {
		t.Errorf("an unknown context: %v", err)
	}

	if err := f.Remove("test"); err != nil {
		t.Fatal(err)
	}

	if err := f.Remove("prod"); err != nil || f.Current() != "" || len(f.Names()) != 0 {
		t.Errorf("the last: %v %q %v", err, f.Current(), f.Names())
	}

	if err := f.Add("again", talosconfig.Context{Endpoints: []string{"10.0.0.1"}}); err != nil || !strings.Contains(saved(t, f), "  again:\n") {
		t.Errorf("added to an empty talosconfig: %v", err)
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()

	other, err := talosconfig.Parse([]byte("context: new\ncontexts:\n    test:\n        endpoints: [10.9.0.1]\n    new:\n        endpoints: [10.8.0.1]\n"))
	if err != nil {
		t.Fatal(err)
	}

	if _, err = open(t, mine).Merge(other, ""); errs.ExitCode(err) != errs.Usage {
		t.Errorf("a clash: %v", err)
	}

	for policy, want := range map[string]struct {
		names string
		test  string
	}{
		talosconfig.Overwrite: {"prod test new", "10.9.0.1"},
		talosconfig.Rename:    {"prod test test-1 new", "10.1.0.1"},
		talosconfig.Skip:      {"prod test new", "10.1.0.1"},
	} {
		f := open(t, mine)

		if _, err = f.Merge(other, policy); err != nil {
			t.Fatal(err)
		}

		text := saved(t, f)
		if got := strings.Join(f.Names(), " "); got != want.names || f.Current() != "prod" || !strings.Contains(text, "test:\n    endpoints: ["+want.test) || !strings.Contains(text, "# behind the VPN") {
			t.Errorf("%s: %s\n%s", policy, got, text)
		}
	}

	empty, _ := talosconfig.Parse(nil)
	if _, err = empty.Merge(other, ""); err != nil || empty.Current() != "new" {
		t.Errorf("into nothing: %v, current %q", err, empty.Current())
	}
}
