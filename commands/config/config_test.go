package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

const two = `# ours
context: prod
contexts:
    prod: # behind the VPN
        endpoints:
            - 10.0.0.1
    test:
        endpoints:
            - 10.1.0.1
`

// TestEdits runs each edit on a file of its own: argv to exit code and content.
func TestEdits(t *testing.T) {
	t.Parallel()

	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("context: test\ncontexts:\n    test:\n        endpoints: [10.9.0.1]\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		args   []string
		code   int
		has    []string // What the file holds afterwards.
		stdout string
		stderr string
	}{
		"use":             {args: []string{"use", "test"}, has: []string{"context: test", "# ours", "# behind the VPN"}, stdout: "current context test"},
		"use dry run":     {args: []string{"use", "test", "--dry-run", "-o", "json", "--query", ".result.dry_run"}, has: []string{two}, stdout: "true"},
		"use read-only":   {args: []string{"use", "test", "--read-only"}, code: 5, has: []string{two}},
		"use unknown":     {args: []string{"use", "none"}, code: 2, has: []string{two}, stderr: "contexts: prod, test"},
		"endpoint":        {args: []string{"endpoint", "10.0.0.7", "10.0.0.8"}, has: []string{"            - 10.0.0.7\n            - 10.0.0.8\n"}},
		"endpoint none":   {args: []string{"endpoint"}, code: 2, has: []string{two}},
		"node":            {args: []string{"node", "--context", "test", "10.1.0.5"}, has: []string{"        nodes:\n            - 10.1.0.5\n"}},
		"remove":          {args: []string{"remove", "test"}, has: []string{"context: prod"}},
		"remove current":  {args: []string{"remove", "prod"}, code: 2, has: []string{two}, stderr: "config use test"},
		"merge clash":     {args: []string{"merge", other}, code: 2, has: []string{two}, stderr: "--overwrite, --rename or --skip"},
		"merge rename":    {args: []string{"merge", other, "--rename"}, has: []string{"    test-1:\n", "# ours"}, stdout: "renamed test as test-1"},
		"merge overwrite": {args: []string{"merge", other, "--overwrite"}, has: []string{"10.9.0.1"}},
		"merge both":      {args: []string{"merge", other, "--overwrite", "--skip"}, code: 2, has: []string{two}},
		"merge missing":   {args: []string{"merge", other + "x"}, code: 2, has: []string{two}},
		"add nothing":     {args: []string{"add", "new"}, code: 2, has: []string{two}, stderr: "--ca is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			path := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(path, []byte(two), 0o644); err != nil {
				t.Fatal(err)
			}

			got := clitest.Run(t, []string{"TALOSCONFIG=" + path}, append([]string{"config"}, c.args...)...)
			if got.Code != c.code || !strings.Contains(got.Stdout, c.stdout) || !strings.Contains(got.Stderr, c.stderr) {
				t.Errorf("exit %d\nstdout: %s\nstderr: %s", got.Code, got.Stdout, got.Stderr)
			}

			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}

			for _, want := range c.has {
				if !strings.Contains(string(raw), want) {
					t.Errorf("the file lacks %q:\n%s", want, raw)
				}
			}

			if info, err := os.Stat(path); err != nil || (string(raw) != two && info.Mode().Perm() != 0o600) {
				t.Errorf("mode %v %v", info.Mode(), err)
			}
		})
	}
}

// TestNullContext edits and reads a talosconfig with a context that is null.
func TestNullContext(t *testing.T) {
	t.Parallel()

	const null = "context: lab\ncontexts:\n  lab:\n    endpoints: [127.0.0.1:1]\n  other:\n  list: []\n"

	whole := strings.Replace(null, "  list: []\n", "", 1)
	other := filepath.Join(t.TempDir(), "other")

	if err := os.WriteFile(other, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		file   string
		args   []string
		code   int
		has    string // What the file holds afterwards.
		stdout string
		stderr string
	}{
		"info":            {whole, []string{"config", "info"}, 0, whole, `context "other" is empty`, ""},
		"contexts":        {whole, []string{"config", "contexts", "-o", "name"}, 0, whole, "lab\nother\n", ""},
		"check":           {whole, []string{"config", "check", "--context", "other"}, 3, whole, "unusable", `context "other" is empty`},
		"completion":      {whole, []string{"__complete", "config", "use", ""}, 0, whole, "lab\nother\n", ""},
		"the good one":    {whole, []string{"version", "--timeout", "2s"}, 6, whole, "", "127.0.0.1:1"},
		"the null one":    {whole, []string{"version", "--context", "other"}, 2, whole, "", `context "other" is empty`},
		"use":             {whole, []string{"config", "use", "lab"}, 0, "context: lab", "", ""},
		"use the null":    {whole, []string{"config", "use", "other"}, 2, whole, "", `context "other" is empty`},
		"use unparsable":  {null, []string{"config", "use", "lab"}, 2, null, "", "cannot parse the talosconfig"},
		"remove":          {null, []string{"config", "remove", "list"}, 0, "other:", "", ""},
		"remove the null": {whole, []string{"config", "remove", "other"}, 0, "127.0.0.1:1", "", ""},
		"endpoint":        {whole, []string{"config", "endpoint", "10.0.0.1", "--context", "other"}, 0, "- 10.0.0.1", "", ""},
		"endpoint bad":    {null, []string{"config", "endpoint", "10.0.0.1", "--context", "list"}, 2, null, "", "not a mapping"},
		"merge":           {two, []string{"config", "merge", other}, 0, "127.0.0.1:1", "skipped other", ""},
		"merge over":      {strings.Replace(two, "test:", "other:", 1), []string{"config", "merge", other, "--overwrite"}, 0, "10.1.0.1", "skipped other", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			path := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}

			got := clitest.Run(t, []string{"TALOSCONFIG=" + path}, c.args...)
			if got.Code != c.code || !strings.Contains(got.Stdout, c.stdout) || !strings.Contains(got.Stderr, c.stderr) {
				t.Errorf("exit %d\nstdout: %s\nstderr: %s", got.Code, got.Stdout, got.Stderr)
			}

			if raw, err := os.ReadFile(path); err != nil || !strings.Contains(string(raw), c.has) {
				t.Errorf("the file lacks %q: %v\n%s", c.has, err, raw)
			}
		})
	}
}

func TestEditsOfWhatIsNoFile(t *testing.T) {
	t.Parallel()

	for _, env := range [][]string{{"TALOSMATE_TALOSCONFIG_BASE64=Y29udGV4dDog"}, {"TALOSCONFIG=/nonexistent/config"}} {
		if got := clitest.Run(t, env, "config", "use", "x"); got.Code != 2 {
			t.Errorf("%v: %+v", env, got)
		}
	}
}

func TestContexts(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "contexts.table", Args: []string{"config", "contexts"}},
		{Name: "contexts.name", Args: []string{"config", "contexts", "-o", "name"}},
		{Name: "check.admin", Args: []string{"config", "check", "--query", ".items[] | [.context, .status, .version, .roles[0], .message]"}},
		{Name: "check.reader", Args: []string{"config", "check", "-o", "json", "--query", ".items[] | [.status, .roles[0], .version]"}, Roles: []string{"os:reader"}},
		{Name: "check.dead", Args: []string{"config", "check", "-e", "127.0.0.1:1", "-o", "json", "--query", ".items[].status"}, Code: 3},
	})
}
