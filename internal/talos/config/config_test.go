package config_test

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/config"
)

const oneContext = "context: NAME\ncontexts:\n  NAME:\n    endpoints: [10.0.0.1]\n"

func write(t *testing.T, path, name string) string {
	t.Helper()

	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(path, []byte(strings.ReplaceAll(oneContext, "NAME", name)), 0o600); err != nil {
		t.Fatal(err)
	}

	return path
}

// TestLoadConfigOrder removes the strongest source one by one.
func TestLoadConfigOrder(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	project := filepath.Join(dir, "project")
	deep := filepath.Join(project, "a", "b")

	for _, d := range []string{deep, filepath.Join(project, ".git")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}

	env := map[string]string{
		"TALOSCONFIG":      write(t, filepath.Join(dir, "env"), "env"),
		config.EnvBase64:   base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(oneContext, "NAME", "base64"))),
		"TALOS_HOME":       filepath.Join(dir, "home"),
		"SOMETHING_BESIDE": "x",
	}

	write(t, filepath.Join(dir, "home", "config"), "home")
	write(t, filepath.Join(project, "talosconfig"), "project")

	l := config.Lookup{
		Flag: write(t, filepath.Join(dir, "flag"), "flag"), WorkingDir: deep, Stdin: strings.NewReader(strings.ReplaceAll(oneContext, "NAME", "stdin")),
		Env: func(k string) (string, bool) { v, ok := env[k]; return v, ok },
	}

	expect := func(want config.Origin, context string) {
		t.Helper()

		cfg, err := config.Load(l)
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}

		if cfg.Origin != want || cfg.Context != context {
			t.Errorf("found %s (%s), want %s (%s)", cfg.Origin, cfg.Context, want, context)
		}
	}

	expect(config.OriginFlag, "flag")

	l.Flag = "-"
	expect(config.OriginStdin, "stdin")

	l.Flag = ""
	expect(config.OriginEnv, "env")

	delete(env, "TALOSCONFIG")
	expect(config.OriginEnvBase64, "base64")

	delete(env, config.EnvBase64)
	expect(config.OriginProject, "project")

	// Without .git only the working directory itself counts.
	if err := os.Remove(filepath.Join(project, ".git")); err != nil {
		t.Fatal(err)
	}

	expect(config.OriginHome, "home")

	l.WorkingDir = project
	expect(config.OriginProject, "project")

	if err := os.Remove(filepath.Join(dir, "home", "config")); err != nil {
		t.Fatal(err)
	}

	l.WorkingDir = dir

	if _, err := config.Load(l); errs.ExitCode(err) != errs.Usage {
		t.Errorf("no talosconfig at all gave %v", err)
	}
}

func TestProjectConfigThatOthersMayWriteIsIgnored(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct {
		file, dir os.FileMode
		warning   string
	}{
		{0o600, 0o755, "using the project's talosconfig"},
		{0o644, 0o1755, "using the project's talosconfig"},
		{0o666, 0o755, "others may write it"},
		{0o600, 0o777, "others may write its directory"},
		{0o600, 0o775, "others may write its directory"},
		{0o600, os.ModeSticky | 0o777, "others may write its directory"},
	} {
		dir := filepath.Join(t.TempDir(), "project")
		path := write(t, filepath.Join(dir, "talosconfig"), "planted")
		home := filepath.Join(t.TempDir(), "home")
		write(t, filepath.Join(home, "config"), "home")

		if err := errors.Join(os.Chmod(path, tt.file), os.Chmod(dir, tt.dir)); err != nil {
			t.Fatal(err)
		}

		cfg, err := config.Load(config.Lookup{WorkingDir: dir, Env: func(k string) (string, bool) { return home, k == "TALOS_HOME" }})
		if err != nil {
			t.Fatal(err)
		}

		ignored := strings.HasPrefix(tt.warning, "others")
		if (cfg.Origin == config.OriginHome) != ignored || len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0], tt.warning) {
			t.Errorf("file %o, directory %o: origin %s, warnings %v", tt.file, tt.dir, cfg.Origin, cfg.Warnings)
		}
	}
}

func TestMissingTalosconfigInTheEnvironmentIsUsage(t *testing.T) {
	t.Parallel()

	_, err := config.Load(config.Lookup{Env: func(k string) (string, bool) { return "/nonexistent/talosconfig", k == "TALOSCONFIG" }})
	if errs.ExitCode(err) != errs.Usage {
		t.Errorf("%v", err)
	}
}
