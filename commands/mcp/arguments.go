package mcp

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/lists"
)

// line is the command line that a tool call becomes.
type line struct {
	words []string
	stdin string
	text  bool // The result is not the command's document: an expression's, or that of a command without one.
}

// inherited are the global flags of the server that hold for every tool.
func inherited(flags *pflag.FlagSet) []string {
	var out []string

	for _, name := range []string{
		"talosconfig", "context", "endpoints", "direct", "concurrency", "timeout", "kubeconfig", "kube-context", "audit-log", "allowed-nodes",
		"read-only",
	} {
		f := flags.Lookup(name)

		switch {
		case f == nil || !f.Changed:
		case f.Value.Type() == "stringSlice":
			values, _ := flags.GetStringSlice(name)
			out = append(out, "--"+name+"="+commaSeparated(values...))
		default:
			out = append(out, "--"+name+"="+f.Value.String())
		}
	}

	return out
}

// commaSeparated writes values as a flag that splits at commas reads them.
func commaSeparated(values ...string) string {
	var text strings.Builder

	w := csv.NewWriter(&text)
	_ = w.Write(values) // a strings.Builder takes everything
	w.Flush()

	return strings.TrimSuffix(text.String(), "\n")
}

// line makes the command line of a call. Every value is one word behind its flag's name, or an argument after --, so that
// none can become another flag.
func (s *server) line(t tool, raw json.RawMessage) (line, error) {
	given, err := parseArguments(t, raw)
	if err != nil {
		return line{}, err
	}

	out := line{text: t.spec.Schema == "", words: slices.Concat(s.inherited, t.path, []string{"--output=json"})}

	if !s.options.changes {
		out.words = append(out.words, "--read-only=true")
	}

	if _, chosen := given["context"]; !chosen && len(s.options.contexts) > 0 {
		out.words = append(out.words, "--context="+s.options.contexts[0])
	}

	var arguments []string

	for _, p := range t.params {
		value, ok := given[p.name]
		if !ok {
			if p.required {
				return line{}, errs.Usagef("the argument %s is missing", p.name)
			}

			continue
		}

		words, err := s.words(p, value, &out)
		if err != nil {
			return line{}, err
		}

		if p.flag == "" {
			arguments = append(arguments, words...)

			continue
		}

		for _, w := range words {
			out.words = append(out.words, "--"+w)
		}
	}

	if len(arguments) > 0 {
		out.words = append(append(out.words, "--"), arguments...)
	}

	return out, nil
}

// parseArguments reads the arguments of a call; they may have the names that other servers give them.
func parseArguments(t tool, raw json.RawMessage) (map[string]any, error) {
	given := map[string]any{}

	if len(bytes.TrimSpace(raw)) > 0 {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()

		if err := dec.Decode(&given); err != nil {
			return nil, errs.Usagef("cannot read the arguments: %w", err)
		}
	}

	known := func(name string) bool {
		return slices.ContainsFunc(t.params, func(p param) bool { return p.name == name })
	}

	for name, value := range given {
		if known(name) {
			continue
		}

		ours, ok := lists.Find(otherNames()[name], known)
		if _, both := given[ours]; !t.alias || !ok || both {
			return nil, errs.Usagef("%s has no argument %q", t.name, name).
				WithHint("its arguments: %s", lists.Join(t.params, ", ", func(p param) string { return p.name }))
		}

		delete(given, name)
		given[ours] = value
	}

	for name, value := range given {
		if value == nil { // some clients send every argument
			delete(given, name)
		}
	}

	return given, nil
}

// words are the words that a value becomes: arguments, or flags without their dashes.
func (s *server) words(p param, value any, out *line) ([]string, error) {
	values, err := p.values(value)
	if err != nil {
		return nil, err
	}

	var words []string

	for _, v := range values {
		switch p.as {
		case asContent:
			if out.stdin, err = s.content(v); err != nil {
				return nil, err
			}

			v = "-"
		case asFile:
			if v, err = s.file(v); err != nil {
				return nil, err
			}
		case asNodes:
			if set, is := strings.CutPrefix(v, "@"); is {
				flag, known := nodeSets()[set]
				if !known {
					return nil, errs.Usagef("there is no set of nodes %q", v).WithHint("the sets: @controlplanes, @workers, @all")
				}

				words = append(words, flag+"=true")

				continue
			}
		}

		if p.csv {
			v = commaSeparated(v)
		}

		if p.flag != "" {
			v = p.flag + "=" + v
		}

		words = append(words, v)
	}

	out.text = out.text || p.name == "query"

	return words, nil
}

// nodeSets are the flags for sets of nodes.
func nodeSets() map[string]string {
	return map[string]string{"controlplanes": "controlplanes", "workers": "workers", "all": "all-nodes"}
}

// values checks a value against its schema and gives it as text.
func (p param) values(value any) ([]string, error) {
	wrong := func() error { return errs.Usagef("the argument %s must be %s", p.name, described(p.schema)) }

	list, several := value.([]any)
	if !several {
		list = []any{value}
	} else if p.schema.Type != "array" {
		return nil, wrong()
	}

	out := make([]string, 0, len(list))

	for _, v := range list {
		switch v := v.(type) {
		case string:
			switch p.schema.Type {
			case "boolean":
				if _, err := strconv.ParseBool(v); err != nil {
					return nil, wrong()
				}
			case "integer":
				if _, err := strconv.ParseInt(v, 10, 64); err != nil {
					return nil, wrong()
				}
			}

			if len(p.schema.Enum) > 0 && !slices.Contains(p.schema.Enum, v) {
				return nil, wrong()
			}

			out = append(out, v)
		case bool:
			if p.schema.Type != "boolean" {
				return nil, wrong()
			}

			out = append(out, strconv.FormatBool(v))
		case json.Number:
			if p.schema.Type == "boolean" || p.schema.Enum != nil || p.schema.Type == "integer" && strings.ContainsAny(v.String(), ".eE") {
				return nil, wrong()
			}

			out = append(out, v.String())
		default:
			return nil, wrong()
		}
	}

	return out, nil
}

func described(s property) string {
	switch {
	case len(s.Enum) > 0:
		return "one of " + strings.Join(s.Enum, ", ")
	case s.Type == "array":
		return "a list of texts"
	case s.Type == "boolean":
		return "true or false"
	case s.Type == "integer":
		return "a number"
	default:
		return "a text"
	}
}

// content is the text itself, or what a resource of this server holds.
func (s *server) content(text string) (string, error) {
	uri := strings.TrimSpace(text)
	if !strings.HasPrefix(uri, resultPrefix) {
		return text, nil
	}

	r, ok := s.results.find(uri)
	if !ok {
		return "", errs.Usagef("there is no resource %q any more", uri).WithHint("only the last %d results are kept", maxResults)
	}

	return string(r.text), nil
}

// file is the path of a name in the directory of --files. A link is refused: it could lead out of the directory.
func (s *server) file(name string) (string, error) {
	if name == "none" {
		return name, nil
	}

	if _, err := fsutil.Element(name); err != nil || strings.HasPrefix(name, ".") {
		return "", errs.Usagef("%q is not the name of a file", name).WithHint("give a plain name: the files are in one directory")
	}

	path := filepath.Join(s.options.files, name)

	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSymlink != 0 {
		return "", errs.Usagef("%q is a link, and links are not followed here", name)
	} else if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return "", errs.Usagef("%q is not a file", name)
	}

	return path, nil
}

// String is the command line as a person would type it, for the log.
func (l line) String() string { return fmt.Sprintf("talosmate %s", strings.Join(l.words, " ")) }
