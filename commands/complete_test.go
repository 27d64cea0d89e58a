package commands_test

import (
	"context"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/app"
	"github.com/talosmate/talosmate/internal/cmdutil"
)

// TestCompletionOfEveryFlagValue completes the value of every flag of every command where no cluster can be asked.
// The shell completes file names only where the flag's value is a file or a directory.
func TestCompletionOfEveryFlagValue(t *testing.T) {
	t.Chdir(t.TempDir())

	seen := map[string]bool{}

	runnable(newRoot(), func(cmd *cobra.Command, words []string) {
		cmd.InheritedFlags() // adds the parents' flags to those of the command

		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.NoOptDefVal != "" || cmd.LocalFlags().Lookup(f.Name) == nil && seen[f.Name] {
				return // a switch takes no value, and a global flag completes the same everywhere
			}

			seen[f.Name] = true
			kind, _ := pflag.UnquoteUsage(f)
			completes(t, kind == "file" || kind == "directory", append(words, "--"+f.Name, "")...)
		})
	})

	if len(seen) < 100 {
		t.Errorf("only %d flags were completed", len(seen))
	}
}

// TestCompletionOfEveryArgument completes the first two arguments of every command where no cluster can be asked.
// The shell completes file names only for arguments that are files.
func TestCompletionOfEveryArgument(t *testing.T) {
	t.Chdir(t.TempDir())

	runnable(newRoot(), func(cmd *cobra.Command, words []string) {
		names := strings.Fields(cmd.Use)[1:]

		for i := range 2 {
			file := i < len(names) && isFile(strings.Trim(names[i], "[]"))
			completes(t, file, append(append(words, []string{"x", "y"}[:i]...), "")...)
		}
	})
}

// isFile reports whether an argument of this name is a file or a directory of the user's.
func isFile(name string) bool {
	switch name {
	case "FILE", "FILE|DIRECTORY|-", "DEST", "PATH|-", "PLAN", "A", "B", "DIR":
		return true
	default:
		return false
	}
}

// completes reports what the last word completes to. files is whether the shell may complete file names.
func completes(t *testing.T, files bool, words ...string) {
	t.Helper()

	var out strings.Builder

	streams, _ := recordingStreams(&out)
	code := app.Run(context.Background(), append([]string{cobra.ShellCompNoDescRequestCmd}, words...), streams)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	shellFiles := lines[len(lines)-1] == ":0"

	if code != 0 || shellFiles != files {
		t.Errorf("completing %q: exit code %d, files from the shell: %t, want %t\n%s", words, code, shellFiles, files, out.String())
	}
}

// runnable calls fn for every command that is declared, with its words after the program's name.
func runnable(cmd *cobra.Command, fn func(*cobra.Command, []string)) {
	if _, ok := cmdutil.SpecOf(cmd); ok {
		fn(cmd, strings.Fields(cmd.CommandPath())[1:])
	}

	for _, child := range cmd.Commands() {
		runnable(child, fn)
	}
}
