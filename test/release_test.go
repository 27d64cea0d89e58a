package test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// release is what the tests read of goreleaser.yaml. `make snapshot` reads the rest.
type release struct {
	Builds []struct {
		Main               string
		Goos, Goarch, Tags []string
	}
	Archives []struct {
		Files []struct{ Src string }
	}
	NFPMs []struct {
		Formats  []string
		Contents []struct{ Src, Dst, Packager string }
	} `yaml:"nfpms"`
	Casks []struct {
		Manpages    []string
		Completions map[string]string
	} `yaml:"homebrew_casks"`
}

// TestRelease: each file that goreleaser.yaml puts into an archive or a package exists, or is a man page, which hack/man.sh makes, and
// each package has the completions of three shells and the manual. A missing file would otherwise show at the first release.
func TestRelease(t *testing.T) {
	t.Parallel()

	var r release
	if err := yaml.Unmarshal(repository(t, "goreleaser.yaml"), &r); err != nil {
		t.Fatal(err)
	}

	if len(r.Builds) != 1 || len(r.Archives) != 1 || len(r.NFPMs) != 1 || len(r.Casks) != 1 {
		t.Fatalf("not one of each: %+v", r)
	}

	const man = "bin/man/*.1.gz"

	if !strings.Contains(string(repository(t, "hack/man.sh")), "bin/man") {
		t.Errorf("hack/man.sh does not write %s", man)
	}

	b := r.Builds[0]
	if !slices.Equal(b.Goos, []string{"linux", "darwin", "windows"}) || !slices.Equal(b.Goarch, []string{"amd64", "arm64"}) {
		t.Errorf("platforms: %v, %v", b.Goos, b.Goarch)
	}

	var files []string
	for _, f := range r.Archives[0].Files {
		files = append(files, f.Src)
	}

	p := r.NFPMs[0]
	for _, format := range p.Formats {
		packaged := 0

		for _, c := range p.Contents {
			if files = append(files, c.Src); c.Packager != "" && c.Packager != format {
				continue
			}

			if strings.HasPrefix(c.Src, "completions/") || c.Src == man && c.Dst == "/usr/share/man/man1/" {
				packaged++
			}
		}

		if packaged != 4 {
			t.Errorf("%s has %d of three completions and the manual", format, packaged)
		}
	}

	for _, file := range append(files, b.Main) {
		found, err := filepath.Glob(filepath.Join("..", file))
		if err != nil || len(found) == 0 && file != man {
			t.Errorf("goreleaser.yaml names %s, which does not exist (%v)", file, err)
		}
	}

	if !slices.Contains(files, man) || !slices.Contains(files, "completions/*") {
		t.Errorf("the archives have no completions or no manual: %v", files)
	}

	if len(r.Casks[0].Completions) != 3 {
		t.Errorf("the cask has the completions %v", r.Casks[0].Completions)
	}

	for _, file := range r.Casks[0].Completions {
		if _, err := os.Stat(filepath.Join("..", file)); err != nil {
			t.Error(err)
		}
	}
}

// TestReleaseTags: the tags of the Makefile, of goreleaser.yaml and of hack/man.sh are the same, or a release would be another program than
// the one that is tested here.
func TestReleaseTags(t *testing.T) {
	t.Parallel()

	var r release
	if err := yaml.Unmarshal(repository(t, "goreleaser.yaml"), &r); err != nil {
		t.Fatal(err)
	}

	tags := func(file, pattern, separator string) []string {
		m := regexp.MustCompile(pattern).FindSubmatch(repository(t, file))
		if m == nil {
			t.Fatalf("%s has no tags", file)
		}

		return strings.Split(string(m[1]), separator)
	}

	want := tags("Makefile", `(?m)^TAGS +:= (.+)$`, " ")
	if man := tags("hack/man.sh", ` -tags (\S+)`, ","); !slices.Equal(r.Builds[0].Tags, want) || !slices.Equal(man, want) {
		t.Errorf("the Makefile has the tags %v, goreleaser.yaml %v, hack/man.sh %v", want, r.Builds[0].Tags, man)
	}
}

// TestReleaseWorkflow: the workflow runs targets that exist, looks for vulnerabilities and rehearses before anything is published, and its
// actions have a version.
func TestReleaseWorkflow(t *testing.T) {
	t.Parallel()

	workflow := string(repository(t, ".github/workflows/release.yml"))
	makefile := string(repository(t, "Makefile"))

	var targets []string

	for _, m := range regexp.MustCompile(`(?m)^\s+(?:run: )?make ([a-z-]+)$`).FindAllStringSubmatch(workflow, -1) {
		targets = append(targets, m[1])

		if !strings.Contains(makefile, "\n"+m[1]+":") {
			t.Errorf("the Makefile has no target %s", m[1])
		}
	}

	if want := []string{"vulnerabilities", "snapshot", "release"}; !slices.Equal(targets, want) {
		t.Errorf("the workflow runs %v, not %v", targets, want)
	}

	uses := regexp.MustCompile(`uses: (\S+)`).FindAllStringSubmatch(workflow, -1)
	if len(uses) == 0 {
		t.Error("no actions")
	}

	for _, m := range uses {
		if !regexp.MustCompile(`@(v\d+\.\d+\.\d+|[0-9a-f]{40})$`).MatchString(m[1]) {
			t.Errorf("%s has no full version", m[1])
		}
	}
}
