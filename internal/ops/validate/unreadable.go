package validate

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/lists"
)

// maxUnreadable bounds how often a document is read to find its errors.
const maxUnreadable = 50

// Unreadable lists the reasons why Talos's reader rejects one document, each with its line, in the order of lines; none
// for a document that it reads. The reader stops at the first value that it cannot decode, so it reads the document again
// without that value.
func Unreadable(doc *yaml.Node, options ...configloader.Opt) []Problem {
	r := reader{rest: unfold(foreign.Clone(doc)), options: options, line: regexp.MustCompile(`\(line (\d+)\)$`)}

	for range maxUnreadable {
		if !r.read() {
			break
		}
	}

	lists.Sort(r.found, func(a, b Problem) int { return a.Line - b.Line })

	return r.found
}

// reader reads a document until it has all errors.
type reader struct {
	rest    *yaml.Node // The document without the values that could not be decoded.
	options []configloader.Opt
	found   []Problem
	line    *regexp.Regexp // The line that the loader names at the end of an error.
}

// spot is a line, and the kind of a node that begins there.
type spot struct {
	line int
	kind yaml.Kind
}

// at is a node of the document, and its path.
type at struct {
	node *yaml.Node
	path []string
}

// read reports whether there was an error after which there may be others.
func (r *reader) read() bool {
	text, err := yaml.Marshal(r.rest)
	if err != nil {
		r.add(Problem{Message: err.Error()})

		return false
	}

	if _, err = configloader.NewFromBytes(text, r.options...); err == nil {
		return false
	}

	written, readErr := foreign.Document(text)
	if readErr != nil || len(written.Content) == 0 {
		r.add(Problem{Message: err.Error()})

		return false
	}

	lines := map[spot]at{}
	parallel(written.Content[0], r.rest, nil, lines)

	var values *yaml.LoadErrors

	if _, tree, found := strings.Cut(err.Error(), "unknown keys found during decoding:"); found {
		return r.unknown(tree)
	}

	if errors.As(err, &values) {
		return r.undecodable(values.Errors, lines)
	}

	// The loader names the document and its first line, which is a line of the text that it was given.
	for message := range strings.Lines(regexp.MustCompile(`^error decoding document \S* \(line \d+\): `).ReplaceAllString(err.Error(), "")) {
		message = strings.TrimSpace(message)
		p := Problem{Message: message, Line: r.rest.Line}

		if m := r.line.FindStringSubmatch(message); m != nil {
			number, _ := strconv.Atoi(m[1])
			there := lines[spot{number, yaml.ScalarNode}]
			p.Message = strings.TrimSpace(strings.TrimSuffix(message, m[0]))
			p.Path = strings.Join(there.path, ".")

			if there.node != nil {
				p.Line = there.node.Line
			}
		}

		r.add(p)
	}

	return false
}

// undecodable lists values that cannot be decoded, and empties them.
func (r *reader) undecodable(all []*yaml.LoadError, lines map[spot]at) bool {
	emptied := false

	for _, e := range all {
		if block := lines[spot{e.Mark.Line, yaml.MappingNode}]; strings.Contains(e.Error(), "illegal base64 data") && block.node != nil {
			emptied = r.encoded(block) || emptied

			continue
		}

		there := lines[spot{e.Mark.Line, kindOf(e.Message)}]
		p := Problem{Message: e.Message, Path: strings.Join(there.path, "."), Line: r.rest.Line}

		if inner := e.Unwrap(); inner != nil {
			p.Message = inner.Error()
		}

		if p.Path != "" {
			p.Message = p.Path + ": " + p.Message
		}

		if there.node != nil {
			p.Line = there.node.Line
			emptied = emptied || there.node.Value != "" || len(there.node.Content) > 0
			there.node.Kind, there.node.Tag, there.node.Value, there.node.Style, there.node.Content = yaml.ScalarNode, "!!null", "", 0, nil
		}

		r.add(p)
	}

	return emptied
}

// encoded lists the values of a mapping that are not base64, and empties them: the reader names the line of the mapping.
func (r *reader) encoded(block at) bool {
	emptied := false

	for i := 1; i < len(block.node.Content); i += 2 {
		name, n := block.node.Content[i-1].Value, block.node.Content[i]

		if _, err := base64.StdEncoding.DecodeString(n.Value); err != nil && n.Kind == yaml.ScalarNode {
			path := strings.Join(append(slices.Clone(block.path), name), ".")
			r.add(Problem{Message: path + ": " + err.Error(), Path: path, Line: n.Line})

			n.Tag, n.Value, n.Style, emptied = "!!null", "", 0, true
		}
	}

	return emptied
}

// kindOf is the kind of the node that a decoder's message is about.
func kindOf(message string) yaml.Kind {
	switch {
	case strings.Contains(message, "!!map"):
		return yaml.MappingNode
	case strings.Contains(message, "!!seq"):
		return yaml.SequenceNode
	default:
		return yaml.ScalarNode
	}
}

// unknown lists the keys of the loader's tree of unknown keys, and drops them.
func (r *reader) unknown(tree string) bool {
	keys, err := foreign.Document([]byte(tree))
	if err != nil || len(keys.Content) == 0 {
		r.add(Problem{Message: "unknown keys", Line: r.rest.Line})

		return false
	}

	paths := leaves(keys.Content[0], nil)

	for _, path := range paths {
		_, line := descend(r.rest, path)
		r.add(Problem{Message: "unknown key " + strings.Join(path, "."), Path: strings.Join(path, "."), Line: cmp.Or(line, r.rest.Line)})
	}

	dropped := false

	for _, path := range paths {
		in := r.rest
		if len(path) > 1 { // a document may need its keys, even empty
			in, path = foreign.Get(in, path[0]), path[1:]
		}

		dropped = in != nil && drop(in, path) || dropped
	}

	return dropped && len(r.rest.Content) > 0
}

func (r *reader) add(p Problem) {
	same := func(q Problem) bool { return p == q }
	if !slices.ContainsFunc(r.found, same) {
		r.found = append(r.found, p)
	}
}

// leaves are the paths of a tree of unknown keys: every leaf key, since everything below an unknown key is unknown too.
func leaves(n *yaml.Node, path []string) [][]string {
	var out [][]string

	switch {
	case n.Kind == yaml.MappingNode && len(n.Content) > 0:
		for i := 0; i+1 < len(n.Content); i += 2 {
			out = append(out, leaves(n.Content[i+1], append(path[:len(path):len(path)], n.Content[i].Value))...)
		}
	case n.Kind == yaml.SequenceNode && len(n.Content) > 0 && n.Content[0].Kind == yaml.MappingNode:
		for i, c := range n.Content {
			out = append(out, leaves(c, append(path[:len(path):len(path)], strconv.Itoa(i)))...)
		}
	default:
		out = append(out, path)
	}

	return out
}

// drop removes the key at a path, and the mappings that this leaves empty.
func drop(n *yaml.Node, path []string) bool {
	next := foreign.Get(n, path[0])
	if next == nil {
		return false
	}

	if len(path) > 1 {
		if !drop(next, path[1:]) {
			return false
		}

		if len(next.Content) > 0 {
			return true
		}
	}

	return foreign.Delete(n, path[0])
}

// parallel maps the lines of a document that was written out to the nodes from which it was.
func parallel(written, from *yaml.Node, path []string, lines map[spot]at) {
	if here := (spot{written.Line, from.Kind}); lines[here].node == nil {
		lines[here] = at{node: from, path: path}
	}

	for i := range min(len(written.Content), len(from.Content)) {
		below := slices.Clone(path)

		switch {
		case from.Kind == yaml.SequenceNode && len(below) > 0:
			below[len(below)-1] += fmt.Sprintf("[%d]", i)
		case from.Kind == yaml.MappingNode && i%2 == 0:
			continue // a key; its value has the path
		case from.Kind == yaml.MappingNode:
			below = append(below, from.Content[i-1].Value)
		}

		parallel(written.Content[i], from.Content[i], below, lines)
	}
}

// unfold writes everything on a line of its own.
func unfold(n *yaml.Node) *yaml.Node {
	n.Style &^= yaml.FlowStyle

	for _, c := range n.Content {
		unfold(c)
	}

	return n
}
