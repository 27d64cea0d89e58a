package validate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// tooNew names what the documents have that a release does not know.
func (s *source) tooNew(version string) []Problem {
	var out []Problem

	added := release.DocumentsAfter(version)

	for _, doc := range s.documents {
		if kind := foreign.Get(doc, "kind"); kind != nil {
			out = append(out, documentTooNew(doc, kind, added, version)...)
		}
	}

	return out
}

func documentTooNew(doc, kind *yaml.Node, added []release.Documents, version string) []Problem {
	var out []Problem

	for _, a := range added {
		if slices.Contains(a.Kinds, kind.Value) {
			return []Problem{{
				Message: fmt.Sprintf("%s needs Talos 1.%d, this is for %s", kind.Value, a.Minor, version), Line: kind.Line, Path: kind.Value,
			}}
		}

		for _, path := range a.Fields[kind.Value] {
			line := 0 // Of the first such field.

			foreign.Walk(doc, strings.Split(path, "."), func(key, _ *yaml.Node) {
				if line == 0 {
					line = key.Line
				}
			})

			if line > 0 {
				out = append(out, Problem{
					Message: fmt.Sprintf("%s of %s needs Talos 1.%d, this is for %s", path, kind.Value, a.Minor, version), Line: line, Path: path,
				})
			}
		}
	}

	return out
}

// hasInstall reports whether a configuration has the section machine.install, or no machine section at all.
func hasInstall(cfg config.Provider) bool {
	raw := cfg.RawV1Alpha1()

	return raw == nil || raw.MachineConfig == nil || raw.MachineConfig.MachineInstall != nil
}
