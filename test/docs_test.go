package test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/factorystub"
	"github.com/talosmate/talosmate/internal/testing/imagerstub"
)

// offline is what every guide's shell begins with: the registries and the factory of the internet are not asked, those of the test
// are.
const offline = `
talosmate() {
  case "${1-} ${2-}" in
  'upgrade plan' | 'upgrade apply' | 'upgrade node' | 'upgrade kubernetes') set -- "$@" --check-images=false ;;
  'factory versions' | 'factory extensions') set -- "$@" --factory "$FACTORY" ;;
  'factory schematic') case $3 in create | get) set -- "$@" --factory "$FACTORY" ;; esac ;;
  'imager build' | 'imager extensions' | 'imager overlays') set -- "$@" --registry "$BASE" ;;
  esac
  command talosmate "$@"
}
`

// talosctlStub is the program that `upgrade kubernetes` drives.
const talosctlStub = `#!/bin/sh
case "$*" in
version*) printf 'Client:\n\tTag:         v1.14.1\n'; exit ;;
esac
cat <<'END'
automatically detected the lowest Kubernetes version 1.35.4
updating "kube-apiserver" to version "1.36.1"
 > "10.0.0.1": starting update
END
`

// TestGuides runs the shell blocks of the guides, top to bottom, each guide in one shell, against labs that have their nodes. The
// guides of one lab run in the order in which they stand here.
func TestGuides(t *testing.T) {
	t.Parallel()

	for name, bed := range map[string]struct {
		lab    []string
		guides []string
		images bool // a container engine and a registry for the imager
	}{
		"plain": {
			lab: []string{"--controlplanes", "3", "--workers", "1", "--maintenance", "2"},
			guides: []string{
				"docs/guides/first-five-minutes.md", "docs/agents.md", "docs/scripts.md", "docs/guides/configuration.md", "docs/guides/etcd.md",
				"docs/guides/ci.md", "docs/support.md", "docs/guides/nodes.md",
			},
		},
		"disaster": {lab: []string{"--workers", "1"}, guides: []string{"docs/guides/disaster-recovery.md"}},
		"kubernetes": {
			lab:    []string{"--kubernetes", "real", "--preset", "factory", "--workers", "1", "--talos-version", "v1.13.9"},
			guides: []string{"docs/guides/upgrade.md", "docs/guides/kubernetes.md"},
		},
		"images": {
			lab:    []string{"--controlplanes", "1", "--workers", "1", "--preset", "factory"},
			guides: []string{"docs/guides/boot-assets.md"}, images: true,
		},
		"none": {guides: []string{"docs/guides/lab.md"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			f := &fleet{t: t, bin: os.Getenv("TALOSMATE_TEST_BIN"), dir: t.TempDir(), env: os.Environ()}
			if bed.lab != nil {
				f = startLab(t, bed.lab...)
			}

			f.path(f.bin)
			f.env = append(f.env, "HOME="+f.dir, "XDG_CACHE_HOME="+filepath.Join(f.dir, "cache"), "FACTORY="+factorystub.Serve(t))

			if bed.images {
				b := imagerstub.Start(t)
				b.AsDocker(t)
				f.path(b.Bin())
				f.env = append(f.env, "BASE="+b.Base, "REGISTRY="+b.Host)
			}

			f.talosctl()

			for _, guide := range bed.guides {
				f.run(readPage(t, guide))
			}
		})
	}
}

// path puts a folder before the others of PATH.
func (f *fleet) path(dir string) {
	last := os.Getenv("PATH")

	for _, e := range f.env {
		if rest, ok := strings.CutPrefix(e, "PATH="); ok {
			last = rest
		}
	}

	f.env = append(f.env, "PATH="+dir+string(os.PathListSeparator)+last)
}

// talosctl puts a stub of talosctl on PATH.
func (f *fleet) talosctl() {
	f.t.Helper()

	dir := f.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "talosctl"), []byte(talosctlStub), 0o700); err != nil { //nolint:gosec // G306: a program
		f.t.Fatal(err)
	}

	f.path(dir)
}

// run runs the shell blocks of a page in a folder of their own.
func (f *fleet) run(p page) {
	f.t.Helper()

	var script strings.Builder

	script.WriteString("set -eu\n" + offline)

	blocks := 0

	for _, b := range p.blocks {
		switch {
		case b.setup != "":
			fmt.Fprintf(&script, "echo '+ the test' >&2\n%s\n", b.setup)
		case b.language == "sh" && b.notRun == "":
			blocks++

			fmt.Fprintf(&script, "echo '+ %s:%d' >&2\nset -x\n%s\n{ set +x; } 2>/dev/null\n", p.path, b.line, b.text)
		}
	}

	if blocks == 0 {
		f.t.Errorf("%s has no blocks that run", p.path)
	}

	dir := f.t.TempDir()
	cmd := f.command("sh", "-c", script.String())
	cmd.Dir = dir

	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Errorf("%s: %v\n…%s", p.path, err, out[max(0, len(out)-4000):])
	}
}

// TestReadme runs the commands of the README's examples, and compares what they print with what the README shows: names, words and
// their order, not the numbers. A line with … stands for any lines.
func TestReadme(t *testing.T) {
	t.Parallel()

	f := startLab(t, "--talos-version", "v1.14.0", "--workers", "2", "--vip", "auto")
	f.path(f.bin)

	for _, b := range readPage(t, "README.md").blocks {
		switch {
		case b.setup != "":
			if out, err := f.command("sh", "-euc", b.setup).CombinedOutput(); err != nil {
				t.Fatalf("README.md:%d: %v\n%s", b.line, err, out)
			}
		case b.language == "console":
			f.console(b)
		}
	}
}

// console runs the command of a block and compares its output with the block's.
func (f *fleet) console(b block) {
	f.t.Helper()

	line, want, _ := strings.Cut(b.text, "\n")

	command, ok := strings.CutPrefix(line, "$ ")
	if !ok {
		f.t.Fatalf("README.md:%d does not begin with a command", b.line)
	}

	out, err := f.command("sh", "-c", offline+command).CombinedOutput()

	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatal(err)
	}

	rest := strings.Split(string(out), "\n")

	for shown := range strings.Lines(want) {
		pattern := shape(shown)
		if pattern == nil {
			continue
		}

		found := false

		for i, l := range rest {
			if pattern.MatchString(strings.Join(strings.Fields(l), " ")) {
				rest, found = rest[i+1:], true

				break
			}
		}

		if !found {
			f.t.Errorf("README.md:%d: %s prints no line like\n%sat this place:\n%s", b.line, command, shown, out)

			return
		}
	}
}

// shape is the pattern of a line: any run of digits and hex stands for any other, … for anything. A line of … only has none.
func shape(line string) *regexp.Regexp {
	line = strings.Join(strings.Fields(line), " ")
	if line == "" || line == "…" {
		return nil
	}

	number := regexp.MustCompile(`([0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{8,}|[0-9]+)`)

	var pattern strings.Builder

	for i, part := range strings.Split(line, "…") {
		if i > 0 {
			pattern.WriteString(".*")
		}

		at := 0

		for _, m := range number.FindAllStringIndex(part, -1) {
			pattern.WriteString(regexp.QuoteMeta(part[at:m[0]]) + "[0-9a-f-]+")
			at = m[1]
		}

		pattern.WriteString(regexp.QuoteMeta(part[at:]))
	}

	return regexp.MustCompile("^" + pattern.String() + "$")
}

// TestShape: the comparison of TestReadme sees another word and another order.
func TestShape(t *testing.T) {
	t.Parallel()

	for line, c := range map[string]struct {
		other string
		same  bool
	}{
		"cp-1   ok  48 checks": {other: "cp-2 ok 7 checks", same: true},
		"freed  866 MiB":       {other: "freed 866 GiB"},
		"error: … no route":    {other: "error: dial tcp: no route", same: true},
		"boot 826a2bb1-5995":   {other: "boot 0cafe0000-1", same: true},
		"healthy":              {other: "unhealthy"},
	} {
		if got := shape(line).MatchString(c.other); got != c.same {
			t.Errorf("%q and %q: %t", line, c.other, got)
		}
	}
}

// repository reads a file by its path in the repository.
func repository(t *testing.T, path string) []byte {
	t.Helper()

	raw, err := os.ReadFile(filepath.Join("..", path))
	if err != nil {
		t.Fatal(err)
	}

	return bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
}
