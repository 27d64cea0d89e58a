// Package about holds what talosmate says of itself: its commands, schemas, settings and help topics.
package about

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
)

// Command is one entry of the catalogue.
type Command struct {
	Path     string   `json:"path"`               // The command as it is typed, without the program's name.
	Summary  string   `json:"summary"`            // What it does, in one line.
	Kind     string   `json:"kind"`               // read, change or destructive.
	Roles    []string `json:"roles"`              // The Talos roles of which any one suffices; empty when none is needed.
	Offline  bool     `json:"offline"`            // Whether it never dials.
	Insecure bool     `json:"insecure"`           // Whether it works in maintenance mode with --insecure.
	Since    string   `json:"since,omitempty"`    // The first Talos version that has the calls.
	Schema   string   `json:"schema,omitempty"`   // The schema of its document.
	Aliases  []string `json:"aliases,omitempty"`  // Other names of its last word.
	Flags    []Flag   `json:"flags"`              // Its own flags; the global ones are those of the root command.
	Examples []string `json:"examples,omitempty"` // Command lines that work.
}

// Flag is one flag of a command.
type Flag struct {
	Name      string `json:"name"`                // The long name.
	Shorthand string `json:"shorthand,omitempty"` // The short name.
	Type      string `json:"type"`                // The type of its value.
	Default   string `json:"default,omitempty"`   // The value when it is not given.
	Usage     string `json:"usage"`               // What it does.
}

// NewCmdCommands makes `talosmate commands`.
func NewCmdCommands(f *cmdutil.Factory) *cmdutil.Cmd {
	var roles bool

	return cmdutil.New(f, cmdutil.Command{
		Use: "commands", Short: "List every command with its kind, roles, flags, schema",
		Example: "  talosmate commands --roles\n" +
			"  talosmate commands -o json --query '.items[] | select(.kind == \"destructive\") | .path'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Offline: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.BoolVar(&roles, "roles", false, "show which roles each command needs")
		},
	}, cmdutil.ListOf[Command]("CommandList"), func(c *cmdutil.Call) error {
		return cmdutil.PrintList(c, Catalogue(c.Tree()), nil, catalogueColumns(roles), func(c Command) string { return c.Path })
	})
}

// Catalogue walks the command tree.
func Catalogue(root *cmdutil.Cmd) []Command {
	out := []Command{}

	if spec, ok := cmdutil.SpecOf(root); ok {
		out = append(out, entry(root, spec))
	}

	for _, child := range root.Commands() {
		out = append(out, Catalogue(child)...)
	}

	return out
}

func entry(cmd *cmdutil.Cmd, spec cmdutil.Spec) Command {
	_, path, _ := strings.Cut(cmd.CommandPath(), " ")
	c := Command{
		Path: path, Summary: cmd.Short, Kind: string(spec.Kind), Roles: append([]string{}, spec.Roles...), Offline: spec.Offline,
		Insecure: spec.Insecure, Since: spec.Since, Aliases: cmd.Aliases, Flags: []Flag{},
	}

	if spec.Schema != "" {
		c.Schema = output.SchemaID(spec.Schema)
	}

	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return // an old name
		}

		c.Flags = append(c.Flags, Flag{Name: f.Name, Shorthand: f.Shorthand, Type: f.Value.Type(), Default: f.DefValue, Usage: f.Usage})
	})

	for _, line := range strings.Split(cmd.Example, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			c.Examples = append(c.Examples, line)
		}
	}

	return c
}

func catalogueColumns(roles bool) []output.Column[Command] {
	cols := []output.Column[Command]{
		{Header: "COMMAND", Value: func(c Command) string { return c.Path }},
		{Header: "KIND", Value: func(c Command) string { return c.Kind }},
		{Header: "SUMMARY", Value: func(c Command) string { return c.Summary }},
	}

	if roles {
		cols[2] = output.Column[Command]{Header: "ROLES", Value: func(c Command) string { return strings.Join(c.Roles, ", ") }}
	}

	return append(cols, output.Column[Command]{Header: "SCHEMA", Wide: true, Value: func(c Command) string { return c.Schema }})
}
