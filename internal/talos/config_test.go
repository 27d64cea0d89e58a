package talos_test

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos"
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
		talos.EnvBase64:    base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(oneContext, "NAME", "base64"))),
		"TALOS_HOME":       filepath.Join(dir, "home"),
		"SOMETHING_BESIDE": "x",
	}

	write(t, filepath.Join(dir, "home", "config"), "home")
	write(t, filepath.Join(project, "talosconfig"), "project")

	l := talos.Lookup{
		Flag: write(t, filepath.Join(dir, "flag"), "flag"), WorkingDir: deep, Stdin: strings.NewReader(strings.ReplaceAll(oneContext, "NAME", "stdin")),
		Env: func(k string) (string, bool) { v, ok := env[k]; return v, ok },
	}

	expect := func(want talos.Origin, context string) {
		t.Helper()

		cfg, err := talos.LoadConfig(l)
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}

		if cfg.Origin != want || cfg.Context != context {
			t.Errorf("found %s (%s), want %s (%s)", cfg.Origin, cfg.Context, want, context)
		}
	}

	expect(talos.OriginFlag, "flag")

	l.Flag = "-"
	expect(talos.OriginStdin, "stdin")

	l.Flag = ""
	expect(talos.OriginEnv, "env")

	delete(env, "TALOSCONFIG")
	expect(talos.OriginEnvBase64, "base64")

	delete(env, talos.EnvBase64)
	expect(talos.OriginProject, "project")

	// Without .git only the working directory itself counts.
	if err := os.Remove(filepath.Join(project, ".git")); err != nil {
		t.Fatal(err)
	}

	expect(talos.OriginHome, "home")

	l.WorkingDir = project
	expect(talos.OriginProject, "project")

	if err := os.Remove(filepath.Join(dir, "home", "config")); err != nil {
		t.Fatal(err)
	}

	l.WorkingDir = dir

	if _, err := talos.LoadConfig(l); errs.ExitCode(err) != errs.Usage {
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

		cfg, err := talos.LoadConfig(talos.Lookup{WorkingDir: dir, Env: func(k string) (string, bool) { return home, k == "TALOS_HOME" }})
		if err != nil {
			t.Fatal(err)
		}

		ignored := strings.HasPrefix(tt.warning, "others")
		if (cfg.Origin == talos.OriginHome) != ignored || len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0], tt.warning) {
			t.Errorf("file %o, directory %o: origin %s, warnings %v", tt.file, tt.dir, cfg.Origin, cfg.Warnings)
		}
	}
}

func TestMissingTalosconfigInTheEnvironmentIsUsage(t *testing.T) {
	t.Parallel()

	_, err := talos.LoadConfig(talos.Lookup{Env: func(k string) (string, bool) { return "/nonexistent/talosconfig", k == "TALOSCONFIG" }})
	if errs.ExitCode(err) != errs.Usage {
		t.Errorf("%v", err)
	}
}

func TestParseEtcdID(t *testing.T) {
	t.Parallel()

	for text, want := range map[string]talos.EtcdID{
		"8e9e05c52164694d": 10276657743932975437, "10276657743932975437": 10276657743932975437, "0x10": 16, "1234567890123456": 0x1234567890123456, "12": 12,
	} {
		if got, ok := talos.ParseEtcdID(text); !ok || got != want {
			t.Errorf("%s: %d %t, want %d", text, got, ok, want)
		}
	}

	if _, ok := talos.ParseEtcdID("cp-1"); ok {
		t.Error("a hostname is no ID")
	}

	if id := talos.EtcdID(10276657743932975437); id.Hex() != "8e9e05c52164694d" || id.Decimal() != "10276657743932975437" {
		t.Errorf("%s %s", id.Hex(), id.Decimal())
	}
}

func TestUpgradePath(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		from, to            string
		supported, fallback bool
	}{
		{"v1.13.8", "v1.13.9", true, false},
		{"v1.12.9", "v1.13.9", true, false},
		{"v1.11.0", "v1.13.9", true, false},
		{"v1.10.4", "v1.13.9", false, false},
		{"v1.12.0", "v1.14.0", true, true},
		{"v1.11.0", "v1.14.0", false, true},
		{"v1.13.9", "v1.12.9", true, false},
	} {
		p, err := talos.UpgradePath(c.from, c.to)
		if err != nil || p.Supported != c.supported || p.Fallback != c.fallback {
			t.Errorf("%s to %s: %+v, %v", c.from, c.to, p, err)
		}
	}

	if _, err := talos.UpgradePath("v1.13.9", "latest"); err == nil {
		t.Error("latest is no version")
	}
}

func TestKubernetesRange(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		kubernetes, talos string
		supported         bool
	}{
		{"1.36.3", "v1.13.9", true},
		{"1.37.0", "v1.13.9", false},
		{"1.30.0", "v1.13.9", false},
		{"1.37.0", "v1.14.0", true},
		{"1.31.0", "v1.14.0", false},
	} {
		p, err := talos.KubernetesRange(c.kubernetes, c.talos)
		if err != nil || p.Supported != c.supported {
			t.Errorf("Kubernetes %s on %s: %+v, %v", c.kubernetes, c.talos, p, err)
		}
	}
}
