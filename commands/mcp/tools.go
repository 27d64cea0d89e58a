package mcp

import (
	"path"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
)

// tool is a command as a client sees it.
type tool struct {
	name   string
	path   []string // The words of the command.
	short  string
	spec   cmdutil.Spec
	params []param
	files  bool // It reads or writes files in the directory of --files.
	listed bool // Whether it is in the list that clients receive.
	alias  bool // The name is that of another server's tool.
}

// What a parameter's value becomes.
const (
	asFlag     = iota // A flag's value.
	asArgument        // An argument of the command line.
	asContent         // The text that the command reads from stdin; the flag, or the argument, is -.
	asFile            // The name of a file in the directory of --files.
	asNodes           // The names of nodes, or @ and the name of a set.
)

// param is one parameter of a tool.
type param struct {
	name     string
	flag     string // Empty for an argument.
	as       int
	csv      bool // The flag splits its value at commas.
	required bool
	schema   property
}

// property is the JSON Schema of a parameter.
type property struct {
	Type        string    `json:"type"`
	Description string    `json:"description,omitempty"`
	Enum        []string  `json:"enum,omitempty"`
	Items       *property `json:"items,omitempty"`
}

func texts(description string) property {
	return property{Type: "array", Description: description, Items: &property{Type: "string"}}
}

// notTools are the commands without a tool, each with the reason, which the documentation repeats.
func notTools() map[string]string {
	return map[string]string{
		"commands":           "the list of tools is the catalogue",
		"settings view":      "the settings are the operator's",
		"mcp serve":          "it is the server",
		"config add":         "it changes the operator's talosconfig",
		"config check":       "it dials every context of the talosconfig",
		"config contexts":    "config_info has them",
		"config endpoint":    "it changes the operator's talosconfig",
		"config merge":       "it changes the operator's talosconfig",
		"config new":         "it writes credentials to a file",
		"config node":        "it changes the operator's talosconfig",
		"config remove":      "it changes the operator's talosconfig",
		"config use":         "it changes the operator's talosconfig",
		"fs cp":              "it writes trees of files; fs_read reads one file",
		"gen config":         "it writes the secrets of a new cluster to files",
		"gen secrets":        "it writes the secrets of a new cluster to a file",
		"imager build":       "it runs a container engine and writes files",
		"kubeconfig":         "it writes credentials to a file",
		"machineconfig edit": "it runs an editor",
		"support":            "it writes a bundle for people",
		"top":                "it is a view for people at a terminal",
	}
}

// needsFiles are the commands that are tools only with --files: they are useless without a file.
func needsFiles() []string {
	return []string{"etcd snapshot", "etcd snapshot-status", "etcd verify-snapshot", "network capture", "state diff", "state save"}
}

// notParameters are the flags that no tool has: streams without an end, other programs, other servers to dial.
func notParameters() []string {
	return []string{
		"help", "follow", "watch", "factory", "registry", "registry-auth", "registry-ca", "plain-http", "talosctl", "gate-command",
		"before-node", "after-node", "on-end", "hook-timeout", "kubernetes-endpoint", "server",
	}
}

// toolsOf makes the tools of the command tree, in its order.
func toolsOf(root *cmdutil.Cmd, o options) ([]tool, error) {
	var out []tool

	for _, cmd := range commandsIn(root) {
		if t, ok := toolOf(cmd, o); ok {
			out = append(out, t)
		}
	}

	if o.compat {
		out = append(out, aliasesOf(out)...)
	}

	return chosen(out, o.tools)
}

// chosen keeps the tools that the patterns name, without those that a pattern with ! names.
func chosen(all []tool, patterns []string) ([]tool, error) {
	used := map[string]bool{}
	wanted := lists.Filter(patterns, func(p string) bool { return !strings.HasPrefix(p, "!") })

	all = lists.Filter(all, func(t tool) bool {
		kept := len(wanted) == 0

		for _, p := range patterns {
			name, not := strings.CutPrefix(p, "!")
			if ok, _ := path.Match(name, t.name); ok {
				used[p], kept = true, !not
			}
		}

		return kept
	})

	for _, p := range patterns {
		if !used[p] {
			return nil, errs.Usagef("no tool matches %q in --tools", p).WithHint("a tool has the words of its command with _ between: service_list")
		}
	}

	return all, nil
}

func commandsIn(cmd *cmdutil.Cmd) []*cmdutil.Cmd {
	var out []*cmdutil.Cmd

	if _, ok := cmdutil.SpecOf(cmd); ok && !cmd.Hidden {
		out = append(out, cmd)
	}

	for _, child := range cmd.Commands() {
		out = append(out, commandsIn(child)...)
	}

	return out
}

func toolOf(cmd *cmdutil.Cmd, o options) (tool, bool) {
	spec, _ := cmdutil.SpecOf(cmd)
	_, words, _ := strings.Cut(cmd.CommandPath(), " ")

	t := tool{
		name: strings.NewReplacer(" ", "_", "-", "_").Replace(words), path: strings.Fields(words), short: cmd.Short, spec: spec,
		listed: spec.Kind == cmdutil.Read || o.changes,
	}

	switch _, not := notTools()[words]; {
	case not:
		return t, false
	case words == "fs read" && !o.secrets:
		return t, false
	case slices.Contains(needsFiles(), words):
		t.files = true

		if o.files == "" {
			return t, false
		}
	}

	for _, arg := range cmdutil.Arguments(cmd.Use) {
		p, ok := argumentParam(arg, o)
		if !ok {
			return t, false
		}

		t.params = append(t.params, p)
	}

	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if p, ok := flagParam(f, t, o); ok {
			t.params = append(t.params, p)
		}
	})

	if len(spec.Roles) > 0 {
		t.params = append(t.params, nodeParams(o)...)
	}

	if spec.Schema != "" {
		t.params = append(t.params, param{name: "query", flag: "query", schema: property{Type: "string", Description: "yq expression"}})
	}

	t.files = t.files || slices.ContainsFunc(t.params, func(p param) bool { return p.as == asFile })

	return t, true
}

// nodeParams are those that choose nodes and the cluster.
func nodeParams(o options) []param {
	out := []param{
		{name: "nodes", flag: "nodes", as: asNodes, csv: true, schema: texts("addresses, hostnames, @controlplanes, @workers, @all")},
	}

	if len(o.contexts) > 1 {
		out = append(out, param{name: "context", flag: "context", schema: property{Type: "string", Enum: o.contexts}})
	}

	return out
}

// argumentParam is the parameter for an argument of the command line; ok is false for one that names a file where none
// may be named.
func argumentParam(arg cmdutil.Argument, o options) (p param, ok bool) {
	word := strings.Trim(arg.Word, "[]….")
	first, _, _ := strings.Cut(word, "|")
	p = param{name: parameterName(strings.ToLower(first)), as: asArgument, required: !arg.Optional, schema: property{Type: "string"}}

	switch {
	case word == "PLAN":
		p.as, p.schema.Description = asContent, "the document of upgrade_plan, or the address of its resource"
	case strings.Contains(word, "FILE"), word == "A", word == "B": // the files of state_diff
		p.as, p.schema.Description = asFile, "file name"

		return p, o.files != ""
	case strings.Contains(word, "DEST"), strings.Contains(word, "DIRECTORY"), strings.Contains(word, "-"):
		return p, false
	case arg.Repeated:
		p.schema = texts("")
	}

	return p, true
}

// flagParam is the parameter for a flag; ok is false for one that is none.
func flagParam(f *pflag.Flag, t tool, o options) (p param, ok bool) {
	kind, usage := pflag.UnquoteUsage(f)
	p = param{name: parameterName(f.Name), flag: f.Name, schema: property{Type: "string", Description: shortened(usage, f)}}

	switch {
	case f.Hidden, slices.Contains(notParameters(), f.Name), strings.HasPrefix(usage, "with --watch"):
		return p, false
	case f.Name == "show-secrets":
		ok = o.secrets
	case f.Name == "insecure", f.Name == "cert-fingerprint":
		ok = t.spec.Kind != cmdutil.Read // a client that only reads cannot make the server dial any machine
	case strings.EqualFold(kind, "file") && strings.Contains(usage, "- for stdin") && f.Name != "write":
		p.as, p.schema.Description = asContent, strings.TrimSuffix(shortened(usage, f), ", - for stdin")+": its text"

		return p, true
	case f.Name == "snapshot" && o.files == "":
		p.schema.Enum, p.schema.Description = []string{"none"}, "omit the snapshot of etcd"

		return p, true
	case strings.EqualFold(kind, "file"), strings.EqualFold(kind, "directory"), f.Name == "save", f.Name == "write":
		p.as, p.schema.Description = asFile, "file name: "+p.schema.Description

		return p, o.files != ""
	default:
		ok = true
	}

	p.schema.Enum = cmdutil.Choices(f)

	switch typ := f.Value.Type(); {
	case typ == "bool":
		p.schema.Type = "boolean"
	case strings.HasPrefix(typ, "int"), strings.HasPrefix(typ, "uint"):
		p.schema.Type = "integer"
	case typ == "stringSlice", typ == "stringArray":
		p.schema, p.csv = texts(p.schema.Description), typ == "stringSlice"
	}

	return p, ok
}

func parameterName(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// shortened is a flag's usage without what the schema says.
func shortened(usage string, f *pflag.Flag) string {
	if words := cmdutil.Choices(f); words != nil {
		usage = strings.TrimSuffix(usage, ": "+strings.Join(words, ", "))
	}

	usage = strings.ReplaceAll(usage, " (repeatable)", "")

	switch f.Name {
	case "override":
		return "gates to pass on purpose, by code"
	case "dry-run":
		return "show what would be done"
	case "yes":
		return "confirms the destructive operation"
	}

	if def := f.DefValue; f.Value.Type() == "duration" && def != "0s" {
		usage += " (" + def + ")"
	}

	return usage
}

// inputSchema is the JSON Schema of a tool's arguments.
type inputSchema struct {
	Type       string              `json:"type"`
	Properties map[string]property `json:"properties"`
	Required   []string            `json:"required,omitempty"`
}

func (t tool) inputSchema() inputSchema {
	s := inputSchema{Type: "object", Properties: map[string]property{}}

	for _, p := range t.params {
		s.Properties[p.name] = p.schema

		if p.required {
			s.Required = append(s.Required, p.name)
		}
	}

	return s
}
