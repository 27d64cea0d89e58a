// Package configrollout gives a cluster its machine configurations from files, node by node: what can cut a node off is
// tried first, and kept only after the node was seen again.
package configrollout

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/talos"
)

// MappingFile is the file that says which configuration is whose where the names of the files do not.
const MappingFile = "rollout.yaml"

// Mapping is the content of the mapping file.
type Mapping struct {
	Nodes map[string]string `json:"nodes" yaml:"nodes"` // The file of each node, by its name or address.
}

// Files are the files of a directory by their names.
type Files map[string][]byte

// source is the configuration of a node.
type source struct {
	file   string
	text   []byte
	config machineconfig.Config
}

// match finds the configuration of each member, by address. Files that belong to nobody are listed; two files of one node
// are an error.
func (f Files) match(members []talos.Member) (found map[string]source, unmatched []string, err error) {
	found, unmatched = map[string]source{}, []string{}

	mapped, err := f.mapping(members)
	if err != nil {
		return nil, nil, err
	}

	for _, file := range slices.Sorted(maps.Keys(f)) {
		if file == MappingFile {
			continue
		}

		cfg, err := machineconfig.Parse(f[file])
		if err != nil {
			return nil, nil, errs.Usagef("%s: %w", file, err)
		}

		owners, listed := mapped[file]
		if !listed {
			owners = owner(file, cfg, members)
		}

		if len(owners) == 0 {
			unmatched = append(unmatched, file)
		}

		for _, m := range owners {
			if other, twice := found[m.Node]; twice {
				return nil, nil, errs.Usagef("%s and %s are both the configuration of %s", other.file, file, m.NodeName()).
					WithHint("remove one of them, or say in %s which it is", MappingFile)
			}

			found[m.Node] = source{file: file, text: f[file], config: cfg}
		}
	}

	return found, unmatched, nil
}

// mapping reads the mapping file. A node may have no other file then.
func (f Files) mapping(members []talos.Member) (map[string][]talos.Member, error) {
	text, has := f[MappingFile]
	if !has {
		return nil, nil //nolint:nilnil // nothing is mapped
	}

	var m Mapping
	if err := foreign.Strict(text, &m); err != nil {
		return nil, errs.Usagef("cannot read %s: %w", MappingFile, err).WithHint("for example: nodes: {worker-1: worker.yaml}")
	}

	out := map[string][]talos.Member{}

	for _, name := range slices.Sorted(maps.Keys(m.Nodes)) {
		file := m.Nodes[name]
		if _, there := f[file]; !there {
			return nil, errs.Usagef("%s names the file %q of %s, and the directory has no such file", MappingFile, file, name)
		}

		member, known := lists.Find(members, func(m talos.Member) bool { return m.Hostname == name || m.Target().Has(name) })
		if !known {
			return nil, errs.Usagef("%s names the node %q, which is not a member of the cluster", MappingFile, name).WithHint("`talosmate members` lists them")
		}

		out[file] = append(out[file], member)
	}

	return out, nil
}

// owner finds whose configuration a file is: by its name, which is the node's or an address of it (topf), or ends with the
// node's after the cluster's (talhelper), or else by the hostname in it.
func owner(file string, cfg machineconfig.Config, members []talos.Member) []talos.Member {
	base := strings.TrimSuffix(file, path.Ext(file))
	host, _, _ := strings.Cut(cfg.Hostname(), ".")

	for _, is := range []func(talos.Member) bool{
		func(m talos.Member) bool { return strings.EqualFold(m.Hostname, base) || m.Target().Has(base) },
		func(m talos.Member) bool {
			return m.Hostname != "" && strings.HasSuffix(strings.ToLower(base), "-"+strings.ToLower(m.Hostname))
		},
		func(m talos.Member) bool { return host != "" && strings.EqualFold(m.Hostname, host) },
	} {
		if fit := lists.Filter(members, is); len(fit) > 0 {
			return []talos.Member{slices.MaxFunc(fit, func(a, b talos.Member) int { return len(a.Hostname) - len(b.Hostname) })}
		}
	}

	return nil
}
