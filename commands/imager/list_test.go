package imager_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/golden"
	"github.com/talosmate/talosmate/internal/testing/imagerstub"
)

func TestLists(t *testing.T) {
	t.Parallel()

	base := imagerstub.Registry(t)

	for _, c := range []struct {
		name string
		args []string
	}{
		{"profiles.table", []string{"profiles", "--talos-version", "v1.14.1"}},
		{"profiles.wide", []string{"profiles", "--talos-version", "v1.14.0", "-o", "wide"}},
		{"profiles.json", []string{"profiles", "--talos-version", "v1.12.0", "-o", "json"}},
		{"extensions.table", []string{"extensions", "--talos-version", "v1.14.1", "--registry", base}},
		{"extensions.json", []string{"extensions", "--talos-version", "v1.14.1", "--registry", base, "-o", "json"}},
		{"extensions.core", []string{"extensions", "--talos-version", "v1.14.1", "--registry", base, "--query", ".items[] | select(.tier == \"core\") | .name"}},
		{"overlays.table", []string{"overlays", "--talos-version", "v1.14.1", "--registry", base}},
		{"overlays.json", []string{"overlays", "--talos-version", "v1.14.1", "--registry", base, "-o", "json"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			got := clitest.Run(t, nil, append([]string{"imager"}, c.args...)...)
			if got.Code != 0 {
				t.Fatal(got.Stderr)
			}

			golden.Assert(t, c.name, regexp.MustCompile(`sha256:[0-9a-f]{64}`).ReplaceAll([]byte(got.Stdout), []byte("sha256:DIGEST")))
		})
	}
}

func TestListFailures(t *testing.T) {
	t.Parallel()

	base := imagerstub.Registry(t)

	for label, c := range map[string]struct {
		args []string
		code errs.Code
		says string
	}{
		"no such release":    {[]string{"extensions", "--talos-version", "v1.13.1", "--registry", base}, errs.Failed, "the registry does not have it"},
		"not a catalogue":    {[]string{"overlays", "--talos-version", "v1.13.2", "--registry", base}, errs.Failed, "is not an overlays catalogue"},
		"registry away":      {[]string{"overlays", "--registry", "127.0.0.1:1/x"}, errs.Unreachable, "the registry cannot be reached"},
		"not a version":      {[]string{"profiles", "--talos-version", "latest"}, errs.Usage, "`latest` is not a version"},
		"CA file missing":    {[]string{"extensions", "--registry-ca", "/nonexistent"}, errs.Usage, "cannot read the registry's certificate authority"},
		"in a JSON document": {[]string{"extensions", "--registry", "127.0.0.1:1/x", "-o", "json"}, errs.Unreachable, "the registry cannot be reached"},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()

			got := clitest.Run(t, nil, append([]string{"imager"}, c.args...)...)
			if got.Code != int(c.code) || !strings.Contains(got.Stderr, c.says) {
				t.Errorf("exit code %d, want %d and %q\n%s", got.Code, c.code, c.says, got.Stderr)
			}

			if strings.Contains(label, "JSON") != strings.Contains(got.Stdout, `"code": "unreachable"`) {
				t.Errorf("stdout %s", got.Stdout)
			}
		})
	}
}

// Completion offers names, never files.
func TestCompletion(t *testing.T) {
	t.Parallel()

	base := imagerstub.Registry(t)

	for label, c := range map[string]struct {
		args []string
		want string
	}{
		"profile":   {[]string{"imager", "build", "--talos-version", "v1.14.0", "metal"}, "metal-4k\timage"},
		"extension": {[]string{"imager", "build", "--registry", base, "--talos-version", "v1.14.1", "--extension", ""}, "zfs\tcontrib"},
		"overlay":   {[]string{"imager", "build", "--registry", base, "--talos-version", "v1.14.1", "--overlay", ""}, "rpi_generic\t"},
		"engine":    {[]string{"imager", "build", "--engine", ""}, "podman"},
		"asset":     {[]string{"factory", "url", ""}, "installer"},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()

			got := clitest.Run(t, nil, append([]string{"__complete"}, c.args...)...)
			if !strings.Contains(got.Stdout, c.want) || !strings.Contains(got.Stdout, "\n:4\n") {
				t.Errorf("offered\n%s", got.Stdout)
			}
		})
	}
}
