package cmdutil

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/output"
)

// Cmd is a command in the tree.
type Cmd = cobra.Command

// Command declares a command.
type Command struct {
	Use      string // Its name and its arguments: NAME, [OPTIONAL] or SEVERAL…; they are checked as they stand here.
	Short    string
	Long     string
	Example  string
	Aliases  []string
	ArgsHint string // The hint of the error about wrong arguments.
	Spec     Spec
	Flags    func(*Flags)
	Check    func(*Call) error // Refuses flags and arguments before anything is asked; its errors are usage errors.
	Complete CompletionFunc    // Completes the arguments; nil offers none.
}

// Document is what a command prints, by the name of its schema and its type.
type Document struct {
	schema string
	value  any
	single bool
}

// ListOf is a document with items of type T.
func ListOf[T any](schema string) Document { return Document{schema: schema, value: output.List[T]{}} }

// ResultOf is a document with one result of type T.
func ResultOf[T any](schema string) Document {
	return Document{schema: schema, value: output.Single[T]{}, single: true}
}

// NoDocument is that of a command which prints bytes only.
func NoDocument() Document { return Document{} }

// New makes a command from its declaration, its document and the function that runs it.
func New(f *Factory, d Command, doc Document, run func(*Call) error) *Cmd {
	spec := d.Spec
	spec.Schema, spec.single = doc.schema, doc.single

	if doc.schema != "" {
		f.documents[doc.schema] = doc.value
	}

	raw, err := json.Marshal(spec)
	if err != nil {
		panic(fmt.Sprintf("spec of %s: %v", d.Use, err)) // a programming error, found by every test
	}

	args := argumentsOf(d.Use)
	cmd := &cobra.Command{
		Use: d.Use, Short: d.Short, Long: d.Long, Example: d.Example, Aliases: d.Aliases,
		Args:              func(cmd *cobra.Command, given []string) error { return args.check(given, d.hint(cmd, given)) },
		Annotations:       map[string]string{specAnnotation: string(raw)},
		ValidArgsFunction: completion(f, "", args.most, d.Complete),
		RunE: f.runE(spec, func(c *Call) error {
			if d.Check != nil {
				if err := d.Check(c); err != nil {
					return errs.AsUsage(err)
				}
			}

			return run(c)
		}),
	}

	fs := &Flags{FlagSet: cmd.Flags(), factory: f}
	fs.ofKind(spec)

	if d.Flags != nil {
		d.Flags(fs)
	}

	return cmd
}

// hint answers wrong arguments. Words where none are wanted are most often nodes, as kubectl takes them.
func (d Command) hint(cmd *cobra.Command, given []string) string {
	if d.ArgsHint != "" || argumentsOf(d.Use).most != 0 || d.Spec.Offline || d.Spec.Local {
		return d.ArgsHint
	}

	return fmt.Sprintf("%s -n %s", cmd.CommandPath(), strings.Join(given, ","))
}

// unbounded is the most of arguments where the last may be repeated.
const unbounded = -1

// arguments are those that a usage line names.
type arguments struct {
	words       []string
	least, most int
}

func argumentsOf(use string) arguments {
	var a arguments

	for _, arg := range Arguments(use) {
		a.words = append(a.words, strings.Trim(arg.Word, "…."))
		a.most++

		if !arg.Optional {
			a.least++
		}

		if arg.Repeated {
			a.most = unbounded
		}
	}

	return a
}

// Argument is one argument of a command, as its usage line names it.
type Argument struct {
	Word               string // As it stands in the usage line: FILE, [ID] or DEVICE….
	Optional, Repeated bool
}

// Arguments are those that a usage line names, in order.
func Arguments(use string) []Argument {
	var out []Argument

	for _, word := range strings.Fields(use)[1:] {
		if !strings.HasPrefix(word, "-") { // not a flag
			out = append(out, Argument{Word: word, Optional: strings.HasPrefix(word, "["), Repeated: strings.Contains(word, "…")})
		}
	}

	return out
}

func (a arguments) check(given []string, hint string) error {
	if len(given) >= a.least && (a.most == unbounded || len(given) <= a.most) {
		return nil
	}

	err := errs.Usagef("want %s, got %s", a, count(len(given)))
	if hint != "" {
		err = err.WithHint("%s", hint)
	}

	return err
}

// String describes what is wanted.
func (a arguments) String() string {
	names := strings.Join(a.words, " ")

	switch {
	case a.most == 0:
		return count(0)
	case a.most == a.least:
		return count(a.least) + ": " + names
	case a.most == unbounded:
		return "at least " + count(a.least) + ": " + names
	case a.least == 0:
		return "at most " + count(a.most) + ": " + strings.Trim(names, "[]")
	default:
		return names
	}
}

func count(n int) string {
	switch n {
	case 0:
		return "no arguments"
	case 1:
		return "one argument"
	default:
		return fmt.Sprintf("%d arguments", n)
	}
}
