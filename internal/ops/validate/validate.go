// Package validate validates machine configurations with Talos's own loader and validation, and adds the line in the
// file to each problem.
package validate

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/validation"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/redact"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// Modes lists the kinds of machine that a configuration can be for.
func Modes() []string { return []string{"metal", "cloud", "container"} }

// Problem is one error or warning.
type Problem struct {
	Message string `json:"message"`        // What is wrong.
	Line    int    `json:"line,omitempty"` // The line in the file, where it is known.
	Path    string `json:"path,omitempty"` // The field, if the message names one.
}

// Result is the result for a configuration.
type Result struct {
	File     string    `json:"file"`     // The file.
	Mode     string    `json:"mode"`     // The kind of machine: metal, cloud or container.
	Strict   bool      `json:"strict"`   // Whether warnings that --strict turns into errors are errors.
	Valid    bool      `json:"valid"`    // Whether Talos accepts it.
	Warnings []Problem `json:"warnings"` // The warnings.
	Errors   []Problem `json:"errors"`   // The errors.
}

type mode string

func (m mode) String() string        { return string(m) }
func (m mode) RequiresInstall() bool { return m == "metal" }
func (m mode) InContainer() bool     { return m == "container" }

// String is the problem with its line, where that is known.
func (p Problem) String() string {
	if p.Line > 0 {
		return fmt.Sprintf("line %d: %s", p.Line, p.Message)
	}

	return p.Message
}

// Config validates a configuration for a mode, and for the newest release that this program knows.
func Config(text []byte, kind string, strict bool) Result { return For(text, kind, "", strict) }

// For is Config for the release that the node runs, v1.12.9: what only later releases know is an error. An empty version
// is that of this program.
func For(text []byte, kind, version string, strict bool) Result {
	out := Result{Mode: kind, Strict: strict, Warnings: []Problem{}, Errors: []Problem{}}
	where := locate(text)

	cfg, err := configloader.NewFromBytes(text)
	if err != nil {
		out.Errors = where.hidden(where.loadErrors(err))
	} else {
		out.Warnings, out.Errors = where.judge(cfg, mode(kind), strict)
	}

	if version != "" {
		out.Errors = append(out.Errors, where.tooNew(version)...)
	}

	if cfg != nil && kind == "metal" && release.NeedsInstall(version) && !hasInstall(cfg) {
		out.Errors = append(out.Errors, Problem{Message: fmt.Sprintf("machine.install is missing: Talos %s needs it", version), Path: "machine.install"})
	}

	out.Valid = len(out.Errors) == 0

	return out
}

// judge asks Talos's own validation.
func (s *source) judge(cfg config.Provider, m mode, strict bool) (warnings, problems []Problem) {
	options := []validation.Option{validation.WithLocal()}
	if strict {
		options = append(options, validation.WithStrict())
	}

	warned, err := cfg.ValidateAsClient(m, options...)
	warnings = s.hidden(append([]Problem{}, lists.Map(warned, s.problem)...))
	problems = s.hidden(append([]Problem{}, lists.Map(append(split(err), subnets(cfg)...), s.problem)...))

	return warnings, problems
}

// subnets finds what is not a subnet among the cluster's ranges, which Talos reads on every node and validates on none: the
// controllers that filter the node's addresses stop (Talos, internal/app/machined/pkg/controllers/k8s/address_filter.go).
func subnets(cfg config.Provider) []string {
	raw := cfg.RawV1Alpha1()
	if raw == nil || raw.ClusterConfig == nil || raw.ClusterConfig.ClusterNetwork == nil {
		return nil
	}

	var out []string

	check := func(field string, ranges []string) {
		for _, r := range ranges {
			if _, err := netip.ParsePrefix(strings.TrimSpace(r)); err != nil {
				out = append(out, fmt.Sprintf("cluster.network.%s: %q is not a subnet", field, r))
			}
		}
	}

	check("podSubnets", raw.ClusterConfig.ClusterNetwork.PodSubnet)
	check("serviceSubnets", raw.ClusterConfig.ClusterNetwork.ServiceSubnet)

	return out
}

// split splits a joined error.
func split(err error) []string {
	switch typed := err.(type) { //nolint:errorlint // the tree is walked by hand
	case nil:
		return nil
	case interface{ WrappedErrors() []error }:
		return splitAll(typed.WrappedErrors())
	case interface{ Unwrap() []error }:
		return splitAll(typed.Unwrap())
	default:
		if inner := errors.Unwrap(err); inner != nil && inner.Error() == err.Error() {
			return split(inner)
		}

		return splitText(err.Error())
	}
}

// splitText splits the text of a joined error that was wrapped once more.
func splitText(text string) []string {
	head, list, found := strings.Cut(text, " occurred:\n")
	if !found || !strings.Contains(head, "error") {
		return []string{strings.TrimSpace(text)}
	}

	var out []string

	for part := range strings.SplitSeq(list, "\t* ") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}

	return out
}

func splitAll(all []error) []string {
	return slices.Concat(lists.Map(all, split)...)
}

// source knows the lines of a configuration's fields.
type source struct {
	documents []*yaml.Node
	words     *regexp.Regexp
	line      *regexp.Regexp
	quoted    *regexp.Regexp
}

func locate(text []byte) *source {
	s := &source{
		words: regexp.MustCompile(`[A-Za-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)+`),
		line:  regexp.MustCompile(`\bline (\d+)`),

		quoted: regexp.MustCompile(`"([^"]+)"`),
	}

	documents, _ := foreign.Documents(text) // the loader reports what cannot be read
	for _, doc := range documents {
		if len(doc.Content) > 0 {
			s.documents = append(s.documents, doc.Content[0])
		}
	}

	return s
}

// hidden hides the configuration's secrets in messages that quote its values.
func (s *source) hidden(all []Problem) []Problem {
	for i := range all {
		all[i].Message = redact.Message(all[i].Message, s.documents...)
	}

	return all
}

// problem finds the field that a message names: the longest dotted path in it that exists.
func (s *source) problem(message string) Problem {
	out := Problem{Message: message}

	if m := s.line.FindStringSubmatch(message); m != nil {
		out.Line, _ = strconv.Atoi(m[1])

		return out
	}

	deepest := 0

	for _, word := range s.words.FindAllString(message, -1) {
		path := strings.Split(word, ".")

		for _, doc := range s.documents {
			if depth, line := descend(doc, path); depth > deepest {
				deepest, out.Line, out.Path = depth, line, word
			}
		}
	}

	for _, m := range s.quoted.FindAllStringSubmatch(message, -1) {
		if out.Line == 0 {
			out.Line = s.valueLine(m[1])
		}
	}

	if out.Line == 0 {
		out.Line = s.documentLine(message)
	}

	return out
}

// valueLine is the line of the only value with this text, 0 when there is none or more.
func (s *source) valueLine(text string) int {
	line, found := 0, 0

	var walk func(*yaml.Node)

	walk = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && n.Value == text {
			line, found = n.Line, found+1
		}

		for _, c := range n.Content {
			walk(c)
		}
	}

	for _, doc := range s.documents {
		walk(doc)
	}

	if found != 1 {
		return 0
	}

	return line
}

// documentLine is the line of the document whose kind a message names.
func (s *source) documentLine(message string) int {
	for _, doc := range s.documents {
		if kind := foreign.Get(doc, "kind"); kind != nil && strings.Contains(message, kind.Value) {
			return kind.Line
		}
	}

	return 0
}

// loadErrors are the reasons why the loader rejects the documents: those of each one, or else those of all together.
func (s *source) loadErrors(err error) []Problem {
	var out []Problem

	for _, doc := range s.documents {
		out = append(out, Unreadable(doc)...)
	}

	if len(out) == 0 {
		return lists.Map(split(err), s.problem)
	}

	return out
}

// descend follows a path as far as it exists.
func descend(n *yaml.Node, path []string) (depth, line int) {
	for _, key := range path {
		name, next := foreign.Entry(n, key)

		if i, err := strconv.Atoi(key); err == nil && n.Kind == yaml.SequenceNode && i < len(n.Content) {
			name, next = n.Content[i], n.Content[i]
		}

		if next == nil {
			break
		}

		depth, line, n = depth+1, name.Line, next // a nested value begins on the line after its key
	}

	return depth, line
}
