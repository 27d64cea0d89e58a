package cmdutil

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
)

// SetUsage gives the tree a usage text that has the global flags in one line, and the fields of the document.
func SetUsage(f *Factory, root *cobra.Command) {
	cobras := root.UsageFunc()

	root.SetUsageFunc(func(cmd *cobra.Command) error {
		out := cmd.OutOrStderr()

		var text bytes.Buffer

		cmd.SetOut(&text)
		err := cobras(cmd)
		cmd.SetOut(out)

		if err != nil {
			return err
		}

		heading := "\nGlobal Flags:\n"
		if !cmd.HasParent() {
			heading = "\nFlags:\n" // the root's own flags are those of every command
		}

		before, after, _ := strings.Cut(text.String(), heading)
		if !cmd.HasParent() {
			before = withVerbs(cmd, before)
		}

		if after != "" {
			// up to the next blank line, behind which cobra refers to the help of subcommands
			_, after, _ = strings.Cut(after, "\n\n")
			before += "\nGlobal flags such as -n, -o and --query: `talosmate options`\n"

			if !cmd.HasParent() {
				before += "-n NAME chooses nodes, -A all of them; `talosmate commands` lists every command on one page\n"
			}

			if cmd.HasAvailableSubCommands() {
				after = "\n" + after
			}
		}

		_, err = io.WriteString(out, before+f.fields(cmd)+after)

		return err
	})
}

// withVerbs names the commands of each group behind its summary, so that one page names all commands.
func withVerbs(root *cobra.Command, text string) string {
	const width = 100

	for _, group := range root.Commands() {
		names := verbs(group)
		if len(names) == 0 {
			continue
		}

		entry := fmt.Sprintf("  %-*s %s", group.NamePadding(), group.Name(), group.Short)
		indent := strings.Repeat(" ", group.NamePadding()+3)
		lines := []string{entry + ":"}

		if _, runs := SpecOf(group); runs {
			lines[0] = entry + "; also:"
		}

		for i, name := range names {
			if i < len(names)-1 {
				name += ","
			}

			if last := lines[len(lines)-1]; len(last)+1+len(name) <= width {
				lines[len(lines)-1] = last + " " + name
			} else {
				lines = append(lines, indent+name)
			}
		}

		text = strings.Replace(text, entry+"\n", strings.Join(lines, "\n")+"\n", 1)
	}

	return text
}

// verbs names the commands below a group by their words behind its own.
func verbs(group *cobra.Command) []string {
	var out []string

	for _, child := range group.Commands() {
		if _, runs := SpecOf(child); runs && !child.Hidden {
			out = append(out, child.Name())
		}

		out = append(out, lists.Map(verbs(child), func(verb string) string { return child.Name() + " " + verb })...)
	}

	return out
}

// fields is the line that names the fields of a command's document.
func (f *Factory) fields(cmd *cobra.Command) string {
	spec, ok := SpecOf(cmd)
	if !ok || spec.Schema == "" || f.documents[spec.Schema] == nil {
		return ""
	}

	names, list := output.Fields(f.documents[spec.Schema])
	if len(names) == 0 {
		return ""
	}

	where := ".result"
	if list {
		where = ".items[]"
	}

	return fmt.Sprintf("Fields of -o json, %s: %s\n", where, strings.Join(names, ", "))
}
