package about

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/docs"
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
)

// NewCmdSchema makes `talosmate schema`.
func NewCmdSchema(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "schema [COMMAND…]", Short: "Print the JSON Schema of a command's document",
		Long: "Print the JSON Schema of a command's document, or without arguments the names of all schemas. The\n" +
			"argument is a command or a schema's name.",
		Example: "  talosmate schema health\n  talosmate schema talosmate/v1/EtcdStatusList",
		Spec:    cmdutil.Spec{Kind: cmdutil.Read, Offline: true},
		Complete: func(_ context.Context, c *cmdutil.Call, args []string) []string {
			return completeSchema(c.Tree(), args)
		},
	}, cmdutil.NoDocument(), func(c *cmdutil.Call) error { return runSchema(c, f.Documents()) })
}

func runSchema(c *cmdutil.Call, documents map[string]any) error {
	if len(c.Args) == 0 {
		names := slices.SortedFunc(maps.Keys(documents), func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
		for _, name := range names {
			fmt.Fprintln(c.IO.Out, output.SchemaID(name))
		}

		return nil
	}

	name := path.Base(c.Args[0])

	body, err := docs.Schemas.ReadFile("schemas/" + name + ".json")
	if err != nil {
		name, err = schemaOf(c.Tree(), c.Args)
		if err != nil {
			return err
		}

		if body, err = docs.Schemas.ReadFile("schemas/" + name + ".json"); err != nil {
			return fmt.Errorf("cannot read the schema %s: %w", name, err)
		}
	}

	_, err = c.IO.Out.Write(body)

	return err
}

func schemaOf(root *cmdutil.Cmd, words []string) (string, error) {
	cmd, rest, err := root.Find(words)
	if err != nil || len(rest) > 0 || cmd == root {
		return "", errs.Usagef("no command or schema is called %q", strings.Join(words, " ")).WithHint("talosmate commands")
	}

	spec, ok := cmdutil.SpecOf(cmd)
	if !ok || spec.Schema == "" {
		return "", errs.Usagef("%q has no document", strings.Join(words, " "))
	}

	return path.Base(spec.Schema), nil
}

// completeSchema offers the next word of a command that has a schema.
func completeSchema(root *cmdutil.Cmd, words []string) []string {
	cmd := root

	if len(words) > 0 {
		found, rest, err := root.Find(words)
		if err != nil || len(rest) > 0 {
			return nil
		}

		cmd = found
	}

	holding := lists.Filter(cmd.Commands(), func(child *cmdutil.Cmd) bool { return len(Catalogue(child)) > 0 })

	return lists.Map(holding, func(child *cmdutil.Cmd) string { return cmdutil.Described(child.Name(), child.Short) })
}
