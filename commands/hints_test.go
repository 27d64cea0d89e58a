package commands_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kballard/go-shellquote"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/cmdutil"
)

// unknown stands in a command line for what is only known when the program runs.
const unknown = "1"

// TestHintedCommandLines parses every command line of ours that stands in a text of the program: a hint that begins with
// "talosmate", and what stands between backticks in any text. The command, its flags and the number of its arguments must be
// right, so that who follows a hint gets further.
func TestHintedCommandLines(t *testing.T) {
	t.Parallel()

	lines, named, again := map[string]string{}, map[string]string{}, map[string]string{}

	prose := regexp.MustCompile(`^talosmate (works on|has a command|upgrade$)`)

	for _, dir := range []string{".", "../internal", "../cmd"} {
		for file, tree := range sources(t, dir) {
			ast.Inspect(tree, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.KeyValueExpr:
					if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Example" {
						for line := range strings.Lines(textOf(n.Value)) {
							lines[strings.TrimSpace(line)] = file
						}

						return false
					}
				case *ast.CallExpr:
					switch s, _ := n.Fun.(*ast.SelectorExpr); {
					case s == nil:
					case s.Sel.Name == "CommandLine":
						lines[textOf(n)] = file
					case s.Sel.Name == "Again":
						for _, word := range n.Args {
							again[textOf(word)] = file
						}
					}
				case ast.Expr:
					text := textOf(n)
					if text == unknown {
						return true
					}

					if strings.HasPrefix(text, "talosmate ") && !prose.MatchString(text) {
						lines[text] = file
					}

					for _, quoted := range regexp.MustCompile("`(talosmate [^`]+)`").FindAllStringSubmatch(text, -1) {
						named[quoted[1]] = file
					}

					return false
				}

				return true
			})
		}
	}

	for line, file := range lines {
		if problem := wrong(line, false); problem != "" {
			t.Errorf("%s: %s: %s", file, line, problem)
		}
	}

	for line, file := range named {
		if problem := wrong(line, true); problem != "" {
			t.Errorf("%s: %s: %s", file, line, problem)
		}
	}

	for word, file := range again {
		if name, _, _ := strings.Cut(word, "="); strings.HasPrefix(word, "-") && !strings.Contains(name, unknown) && !slices.Contains(flagWords(newRoot()), name) {
			t.Errorf("%s: no command has the flag %s", file, name)
		}
	}

	if len(lines) < 200 || len(named) < 50 || len(again) < 20 {
		t.Errorf("only %d command lines, %d names and %d words were found", len(lines), len(named), len(again))
	}
}

// sources parses the program's files below a directory, without its tests.
func sources(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()

	out := map[string]*ast.File{}

	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "../internal/testing/") {
			return err
		}

		out[path], err = parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)

		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	return out
}

// textOf is the text of an expression: of constants, their sums and what is formatted, with a word for all else.
func textOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return regexp.MustCompile(`%[+#]?[a-z]`).ReplaceAllString(strings.ReplaceAll(text, "%%", "%"), unknown)
		}
	case *ast.ParenExpr:
		return textOf(e.X)
	case *ast.CallExpr:
		if s, ok := e.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "CommandLine" {
			words := []string{"talosmate"}
			for _, word := range e.Args {
				words = append(words, textOf(word))
			}

			return strings.Join(words, " ")
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return textOf(e.X) + textOf(e.Y)
		}
	}

	return unknown
}

// wrong is what is wrong with command lines of ours, empty for nothing. What only names a command may lack its arguments.
func wrong(line string, names bool) string {
	words, err := shellquote.Split(line)
	if err != nil {
		return err.Error()
	}

	for len(words) > 0 {
		end := slices.IndexFunc(words, func(word string) bool {
			return strings.HasSuffix(word, ";") || slices.Contains([]string{"|", ">", "<", "&&"}, word)
		})
		if end < 0 {
			return wrongWords(words, names)
		}

		command := words[:end]
		if before, is := strings.CutSuffix(words[end], ";"); is {
			command = append(slices.Clone(command), before)
		}

		if problem := wrongWords(command, names); problem != "" {
			return problem
		}

		words = words[end+1:]
	}

	return ""
}

func wrongWords(words []string, names bool) string {
	for len(words) > 0 && strings.Contains(words[0], "=") {
		words = words[1:] // a variable
	}

	if len(words) < 2 || words[0] != "talosmate" || words[1] == unknown || slices.Contains(words, "--help") {
		return ""
	}

	root, help := newRoot(), words[1] == "help"
	if help {
		words = words[1:]
	}

	cmd, rest, err := root.Find(words[1:])
	if err != nil {
		return err.Error()
	}

	if help {
		if cmd == root || len(rest) > 0 {
			return "no such topic"
		}

		return ""
	}

	if _, runs := cmdutil.SpecOf(cmd); !runs {
		if len(rest) > 0 && strings.Contains(rest[0], unknown) || names && len(rest) == 0 {
			return "" // one of the group's commands
		}

		return "no such command"
	}

	if err = cmd.ParseFlags(rest); err != nil && (!names || !strings.Contains(err.Error(), "flag needs an argument")) {
		return err.Error()
	}

	given := cmd.Flags().Args()
	if err = cmd.ValidateArgs(given); err != nil && (!names || len(given) > 0) {
		return err.Error()
	}

	return ""
}

// flagWords lists the flags of all commands as they are typed.
func flagWords(cmd *cobra.Command) []string {
	var out []string

	add := func(f *pflag.Flag) { out = append(out, "--"+f.Name, "-"+f.Shorthand) }
	cmd.PersistentFlags().VisitAll(add)
	cmd.Flags().VisitAll(add)

	for _, child := range cmd.Commands() {
		out = append(out, flagWords(child)...)
	}

	return out
}
