package cmdutil

import (
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/output"
)

// usageError is the schema of the document about a command line that is none of this program's commands.
const usageError = "UsageError"

// PrintRefused prints the document of a command line that no command took, because of its words or flags, if the line
// asks for a document. Its schema is that of the command, as far as there is one. A line with --query asked for a value,
// and gets nothing.
func (f *Factory) PrintRefused(root *cobra.Command, args []string, refusal error) error {
	format, query := wanted(args)
	if format == "" {
		format, _ = f.IO.Env(variable("output"))
	}

	parsed, err := output.ParseFormat(format)
	if err != nil || !parsed.Structured() || query {
		return nil //nolint:nilerr // the line asked for text, or its format is what is wrong with it
	}

	p := &output.Printer{Out: f.IO.Out, Format: parsed, Now: f.Now, Schema: usageError}

	if cmd, _, findErr := root.Find(args); findErr == nil {
		if spec, known := SpecOf(cmd); known && spec.Schema != "" {
			p.Schema = spec.Schema
			_, p.Single = reflect.TypeOf(f.documents[spec.Schema]).FieldByName("Result")
		}
	}

	return p.PrintFailure(refusal)
}

// wanted reads the format from a command line that may be wrong in any other place, and whether it has a query. The last
// -o counts.
func wanted(args []string) (format string, query bool) {
	for i, arg := range args {
		name, value, given := strings.Cut(arg, "=")

		switch {
		case arg == "--":
			return format, query
		case name == "--query":
			query = true
		case (name == "-o" || name == "--output") && given:
			format = value
		case (arg == "-o" || arg == "--output") && i+1 < len(args):
			format = args[i+1]
		case strings.HasPrefix(arg, "-o") && !strings.HasPrefix(arg, "--"):
			format = strings.TrimPrefix(name, "-o")
		}
	}

	return format, query
}
