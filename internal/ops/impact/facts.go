// Package impact reports what the Talos releases on the way to a version change for a cluster. What a release changes is
// data, a file for each release in facts; the expressions in it are evaluated over what the nodes and Kubernetes show.
package impact

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/condition"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/talos/release"
)

//go:embed facts/*.yaml
var embedded embed.FS

// anyRelease is the release of facts that hold for each release.
const anyRelease = "any"

// Fact is a change of a release. Node or Cluster is a CEL expression that lists what shows it, on one node or in the
// cluster; where the list is empty it does not apply.
type Fact struct {
	ID       string   `yaml:"id"`
	Title    string   `yaml:"title"`
	Blocking bool     `yaml:"blocking"` // Whether an upgrade breaks something until the user acts.
	Needs    []string `yaml:"needs"`    // What must be known: config, extensions, pods, metrics.
	Node     string   `yaml:"node"`
	Cluster  string   `yaml:"cluster"`
	Remedy   string   `yaml:"remedy"`
	Command  string   `yaml:"command"` // The next command line, with {node} and {to}.
	Note     string   `yaml:"note"`    // What the expression cannot see.
	Source   string   `yaml:"source"`  // A URL, or a repository, version and file.

	release string
	shown   *condition.List
}

// What a fact may need.
const (
	NeedsConfig     = "config"     // The node's machine configuration.
	NeedsExtensions = "extensions" // The Image Factory's list for the target.
	NeedsPods       = "pods"       // The pods of the cluster.
	NeedsMetrics    = "metrics"    // The metrics of the Kubernetes API.
)

// passes reports whether an upgrade from one version to another passes the fact's release.
func (f *Fact) passes(from, to string) bool {
	if f.release == anyRelease {
		return release.Lower(minor(from), minor(to))
	}

	return release.Lower(minor(from), f.release) && !release.Lower(minor(to), f.release)
}

// minor is the first release of a version's minor: v1.14.0 for v1.14.0-rc.1 and v1.14.3.
func minor(version string) string { return fmt.Sprintf("v1.%d.0", release.Minor(version)) }

// load reads the facts of all releases in their order, and returns the releases that have a file.
func load(files fs.FS) (facts []*Fact, known []string, err error) {
	names, err := fs.Glob(files, "facts/*.yaml")
	if err != nil {
		return nil, nil, err
	}

	seen := map[string]bool{}

	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, nil, err
		}

		var file struct {
			Release string  `yaml:"release"`
			Facts   []*Fact `yaml:"facts"`
		}

		err = foreign.Strict(text, &file)
		if err == nil && file.Release != strings.TrimSuffix(path.Base(name), ".yaml") {
			err = errors.New("its release is not that of its name")
		}

		for _, f := range file.Facts {
			f.release = file.Release
			err = cmp.Or(err, f.check())

			if seen[f.ID] {
				err = cmp.Or(err, fmt.Errorf("the fact %q is there twice", f.ID))
			}

			seen[f.ID] = true
		}

		if err != nil {
			return nil, nil, errs.New(errs.Failed, "cannot read the facts of %s: %w", name, err)
		}

		facts, known = append(facts, file.Facts...), append(known, file.Release)
	}

	lists.Sort(facts, func(a, b *Fact) int { return cmp.Compare(release.Minor(a.release), release.Minor(b.release)) })

	return facts, known, nil
}

// check reports what a fact lacks.
func (f *Fact) check() error {
	for name, value := range map[string]string{"id": f.ID, "title": f.Title, "remedy": f.Remedy, "source": f.Source} {
		if strings.TrimSpace(value) == "" {
			return fmt.Errorf("the fact %q has no %s", f.ID, name)
		}
	}

	for _, need := range f.Needs {
		if !slices.Contains([]string{NeedsConfig, NeedsExtensions, NeedsPods, NeedsMetrics}, need) {
			return fmt.Errorf("the fact %q needs %q, which is not known", f.ID, need)
		}
	}

	if (f.Node == "") == (f.Cluster == "") {
		return fmt.Errorf("the fact %q needs one of node and cluster", f.ID)
	}

	return nil
}

// compile compiles the expression.
func (f *Fact) compile() (err error) {
	if f.Cluster != "" {
		f.shown, err = condition.CompileList(f.Cluster, "cluster")
	} else {
		f.shown, err = condition.CompileList(f.Node, "node", "cluster")
	}

	if err != nil {
		return errs.New(errs.Failed, "cannot read the fact %s: %w", f.ID, err)
	}

	return nil
}
