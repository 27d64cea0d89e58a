package commands_test

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/commands"
	"github.com/talosmate/talosmate/commands/about"
	"github.com/talosmate/talosmate/internal/app"
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/iostreams"
)

// recordingStreams notes every look at the environment or stdin: where a talosconfig would come from.
func recordingStreams(out io.Writer) (*iostreams.Streams, *[]string) {
	looked := []string{}

	return &iostreams.Streams{
		In: readRecorder{&looked}, Out: out, Err: io.Discard, Width: 80,
		Env: func(key string) (string, bool) {
			looked = append(looked, "$"+key)

			return "/nonexistent/" + key, key == "TALOSCONFIG" || key == "HOME"
		},
	}, &looked
}

type readRecorder struct{ looked *[]string }

func (r readRecorder) Read([]byte) (int, error) {
	*r.looked = append(*r.looked, "stdin")

	return 0, io.EOF
}

// TestHelpDoesNoIO asks every command for help, in a working directory that cannot be read and with a
// talosconfig that points nowhere.
func TestHelpDoesNoIO(t *testing.T) {
	t.Chdir(t.TempDir())

	for _, words := range allCommands(t) {
		var out strings.Builder

		streams, looked := recordingStreams(&out)

		if code := app.Run(context.Background(), append(words, "--help"), streams); code != 0 {
			t.Errorf("%v --help: exit code %d", words, code)
		}

		if out.Len() == 0 || strings.Contains(out.String(), "--talosconfig file") != (len(words) > 0 && words[0] == "options") {
			t.Errorf("%v --help: no text, or the global flags beside its own:\n%s", words, out.String())
		}

		if len(*looked) > 0 {
			t.Errorf("%v --help looked at %v", words, *looked)
		}
	}
}

// TestCompletionOfFlagsAndCommandsDoesNoIO completes what needs no cluster.
func TestCompletionOfFlagsAndCommandsDoesNoIO(t *testing.T) {
	t.Chdir(t.TempDir())

	for _, words := range allCommands(t) {
		for _, last := range []string{"--", "-"} {
			streams, looked := recordingStreams(io.Discard)

			if code := app.Run(context.Background(), append(append([]string{"__complete"}, words...), last), streams); code != 0 {
				t.Errorf("__complete %v %s: exit code %d", words, last, code)
			}

			if len(*looked) > 0 {
				t.Errorf("__complete %v %s looked at %v", words, last, *looked)
			}
		}
	}
}

// TestCompletionNeverOffersFiles holds for every command that does not want one.
func TestCompletionNeverOffersFilesForNames(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)

	if err := os.WriteFile("decoy", nil, 0o600); err != nil {
		t.Fatal(err)
	}

	for _, words := range [][]string{{"service", "list"}, {"get"}, {"version"}, {"image", "prune"}, {"service"}, {}} {
		var out strings.Builder

		streams, _ := recordingStreams(&out)
		app.Run(context.Background(), append(append([]string{"__complete"}, words...), ""), streams)

		if !strings.Contains(out.String(), ":4") || strings.Contains(out.String(), "decoy") {
			t.Errorf("__complete %v falls back to files: %q", words, out.String())
		}
	}
}

// TestEveryCommandIsDeclared holds the catalogue complete: a kind, a summary, two examples that name the
// command, a schema or raw output.
func TestEveryCommandIsDeclared(t *testing.T) {
	t.Parallel()

	for _, c := range about.Catalogue(newRoot()) {
		if c.Kind == "" || c.Summary == "" || c.Roles == nil {
			t.Errorf("%s: incomplete declaration %+v", c.Path, c)
		}

		if len(c.Examples) < 2 {
			t.Errorf("%s has %d examples, want two", c.Path, len(c.Examples))
		}

		// Image Factory, registries and container engines know no Talos roles.
		elsewhere := strings.HasPrefix(c.Path, "factory ") || strings.HasPrefix(c.Path, "imager ")
		if !c.Offline && !elsewhere && len(c.Roles) == 0 {
			t.Errorf("%s dials and names no role", c.Path)
		}
	}
}

// TestRunnableCommandsAreInTheCatalogue finds a command that runs and was not declared.
func TestRunnableCommandsAreInTheCatalogue(t *testing.T) {
	t.Parallel()

	root := newRoot()
	known := map[string]bool{}

	for _, c := range about.Catalogue(root) {
		known["talosmate "+c.Path] = true
	}

	var walk func(*cobra.Command)

	walk = func(cmd *cobra.Command) {
		if cmd.Runnable() && !cmd.HasSubCommands() && !known[cmd.CommandPath()] {
			t.Errorf("%s is not declared", cmd.CommandPath())
		}

		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(root)
}

func newRoot() *cobra.Command {
	return commands.NewRoot(cmdutil.NewFactory(&iostreams.Streams{
		In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Env: func(string) (string, bool) { return "", false },
	}, cmdutil.Build{}))
}

func allCommands(t *testing.T) [][]string {
	t.Helper()

	var out [][]string

	var walk func(*cobra.Command)

	walk = func(cmd *cobra.Command) {
		out = append(out, strings.Fields(cmd.CommandPath())[1:])

		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(newRoot())

	if len(out) < 20 {
		t.Fatalf("only %d commands", len(out))
	}

	return out
}
