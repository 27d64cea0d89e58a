package migrate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
)

// at follows a path such as machine.network.interfaces[0], nil where it ends.
func at(n *yaml.Node, path string) *yaml.Node {
	_, value := entry(n, path)

	return value
}

// entry is at with the key of the last step, nil for an element of a list.
func entry(n *yaml.Node, path string) (key, value *yaml.Node) {
	for _, step := range steps(path) {
		if key, n = step1(n, step); n == nil {
			return nil, nil
		}
	}

	return key, n
}

// steps splits a path such as machine.registries.mirrors[docker.io].endpoints[0].
func steps(path string) []string {
	var out []string

	for path != "" {
		if path[0] == '[' {
			if end := strings.IndexByte(path, ']'); end > 0 {
				out, path = append(out, path[1:end]), strings.TrimPrefix(path[end+1:], ".")

				continue
			}
		}

		end := strings.IndexAny(path, ".[")
		if end < 0 {
			return append(out, path)
		}

		out, path = append(out, path[:end]), strings.TrimPrefix(path[end:], ".")
	}

	return out
}

func join(path string, step ...string) string {
	for _, s := range step {
		switch {
		case strings.ContainsAny(s, "./[") || s != "" && strings.Trim(s, "0123456789") == "":
			path += "[" + s + "]"
		case path == "":
			path = s
		default:
			path += "." + s
		}
	}

	return path
}

func step1(n *yaml.Node, step string) (key, value *yaml.Node) {
	if n != nil && n.Kind == yaml.SequenceNode {
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return nil, n.Content[i]
		}
	}

	return foreign.Entry(n, step)
}

// remove deletes the entry of a mapping at a path, and parents that it leaves empty.
func remove(root *yaml.Node, path string) {
	all := steps(path)
	parent, last := join("", all[:len(all)-1]...), all[len(all)-1]
	n := at(root, parent)
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}

	foreign.Delete(n, last)

	// The two sections are required.
	if len(n.Content) == 0 && len(all) > 2 {
		remove(root, parent)
	}
}

// whole replaces aliases by what they stand for, so that parts of the tree can move.
func whole(n *yaml.Node) (*yaml.Node, error) {
	if n.Kind == yaml.AliasNode {
		target, err := whole(n.Alias)
		if err != nil {
			return nil, err
		}

		target.HeadComment, target.LineComment, target.FootComment = n.HeadComment, n.LineComment, n.FootComment

		return target, nil
	}

	own := *n
	own.Anchor, own.Content = "", nil

	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.ShortTag() == "!!merge" {
			return nil, errs.Usagef("cannot migrate the machine configuration: line %d merges mappings with <<", child.Line).
				WithHint("write out what is merged")
		}

		copied, err := whole(child)
		if err != nil {
			return nil, err
		}

		own.Content = append(own.Content, copied)
	}

	return &own, nil
}

// leaves maps the path of every scalar and empty collection to its value.
func leaves(n *yaml.Node, path string, out map[string]string) {
	switch {
	case n.Kind == yaml.MappingNode && len(n.Content) > 0:
		for i := 0; i+1 < len(n.Content); i += 2 {
			leaves(n.Content[i+1], join(path, n.Content[i].Value), out)
		}
	case n.Kind == yaml.SequenceNode && len(n.Content) > 0:
		for i, child := range n.Content {
			leaves(child, join(path, strconv.Itoa(i)), out)
		}
	default:
		out[path] = n.ShortTag() + " " + n.Value
	}
}

// bare reports whether a tree holds nothing but empty collections and what was taken.
func bare(n *yaml.Node, path string, taken []string) bool {
	all := map[string]string{}
	leaves(n, path, all)

	for leaf, value := range all {
		if value != "!!map " && value != "!!seq " && !slices.ContainsFunc(taken, func(t string) bool { return below(leaf, t) }) {
			return false
		}
	}

	return true
}

// below reports whether a path is another one or below it.
func below(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, parent+".") || strings.HasPrefix(path, parent+"[")
}

// comment copies comments where both trees have the same shape.
func comment(from, to *yaml.Node) {
	if from == nil || to == nil {
		return
	}

	note(from, to)

	switch {
	case from.Kind != to.Kind:
	case from.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(from.Content); i += 2 {
			if key, value := step1(to, from.Content[i].Value); value != nil {
				note(from.Content[i], key)
				comment(from.Content[i+1], value)
			}
		}
	case from.Kind == yaml.SequenceNode && len(from.Content) == len(to.Content):
		for i := range from.Content {
			comment(from.Content[i], to.Content[i])
		}
	}
}

func note(from, to *yaml.Node) {
	if from == nil || to == nil {
		return
	}

	for _, c := range []struct {
		from string
		to   *string
	}{{from.HeadComment, &to.HeadComment}, {from.LineComment, &to.LineComment}, {from.FootComment, &to.FootComment}} {
		if *c.to == "" {
			*c.to = c.from
		}
	}
}

// comments counts the comment lines of a tree by their text.
func comments(n *yaml.Node, out map[string]int) {
	for _, text := range []string{n.HeadComment, n.LineComment, n.FootComment} {
		for line := range strings.SplitSeq(text, "\n") {
			if line = strings.TrimSpace(line); line != "" {
				out[line]++
			}
		}
	}

	for _, child := range n.Content {
		comments(child, out)
	}
}

// lost lists what is not conserved: leaves of the source that are neither below a path that was taken nor still there.
func lost(source, result *yaml.Node, taken []string) []string {
	before, after := map[string]string{}, map[string]string{}
	leaves(source, "", before)
	leaves(result, "", after)

	var out []string

	for path, value := range before {
		kept, there := after[path]
		if there && kept == value || slices.ContainsFunc(taken, func(t string) bool { return below(path, t) }) {
			continue
		}

		out = append(out, path)
	}

	for path := range after {
		if _, there := before[path]; !there {
			out = append(out, path)
		}
	}

	slices.Sort(out)

	return out
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
