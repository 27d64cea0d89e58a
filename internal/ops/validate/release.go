package validate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/talos/release"
)

// For validates a configuration for a mode and for the release that the node runs, v1.12.9: what only later releases
// know is an error. An empty version is that of this program.
func For(text []byte, kind, version string, strict bool) Result {
	out := Config(text, kind, strict)
	if version == "" {
		return out
	}

	where := locate(text)

	for _, doc := range where.documents {
		out.Errors = append(out.Errors, tooNew(doc, version)...)
	}

	if kind == "metal" && release.NeedsInstall(version) && !hasInstall(text) {
		out.Errors = append(out.Errors, Problem{Message: fmt.Sprintf("machine.install is missing: Talos %s needs it", version), Path: "machine.install"})
	}

	out.Valid = len(out.Errors) == 0

	return out
}

// tooNew names what a document has that a release does not know.
func tooNew(doc *yaml.Node, version string) []Problem {
	name := value(doc, "kind")
	if name == nil {
		return nil
	}

	var out []Problem

	for _, added := range release.DocumentsAfter(version) {
		if slices.Contains(added.Kinds, name.Value) {
			return []Problem{{
				Message: fmt.Sprintf("%s needs Talos 1.%d, this is for %s", name.Value, added.Minor, version), Line: name.Line, Path: name.Value,
			}}
		}

		for _, path := range added.Fields[name.Value] {
			if line := find(doc, strings.Split(path, ".")); line > 0 {
				out = append(out, Problem{
					Message: fmt.Sprintf("%s of %s needs Talos 1.%d, this is for %s", path, name.Value, added.Minor, version), Line: line, Path: path,
				})
			}
		}
	}

	return out
}

// find is the line of the first field at a path, 0 when there is none; * is each element of a list.
func find(n *yaml.Node, path []string) int {
	if path[0] == "*" {
		for _, c := range n.Content {
			if line := find(c, path[1:]); line > 0 {
				return line
			}
		}

		return 0
	}

	next := value(n, path[0])

	switch {
	case next == nil:
		return 0
	case len(path) == 1:
		return keyLine(n, path[0], next)
	default:
		return find(next, path[1:])
	}
}

// hasInstall reports whether a configuration has the section machine.install. One that cannot be read is left to its
// own errors.
func hasInstall(text []byte) bool {
	cfg, err := configloader.NewFromBytes(text)
	if err != nil {
		return true
	}

	raw := cfg.RawV1Alpha1()

	return raw == nil || raw.MachineConfig == nil || raw.MachineConfig.MachineInstall != nil
}
