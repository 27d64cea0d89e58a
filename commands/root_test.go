package commands_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/commands"
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/iostreams"
)

// TestRootForBuildsOneBranch compares what each first word builds with the same part of the whole tree, and lists the commands that
// build the whole tree.
func TestRootForBuildsOneBranch(t *testing.T) {
	t.Parallel()

	var whole []string

	for _, want := range newRoot().Commands() {
		root, f := rootFor(want.Name())
		if len(root.Commands()) != 1 {
			whole = append(whole, want.Name())

			continue
		}

		if got := described(root.Commands()[0]); got != described(want) {
			t.Errorf("%s alone:\n%s\nin the whole tree:\n%s", want.Name(), got, described(want))
		}

		if got := described(f.Tree()); got != described(newRoot()) {
			t.Errorf("%s: the tree behind it is another one:\n%s", want.Name(), got)
		}
	}

	if got := strings.Join(whole, " "); got != "environment exit-codes gates options output" {
		t.Errorf("the whole tree is built for %s", got)
	}
}

// TestRootForBuildsTheWholeTree has lines whose first word does not name a command.
func TestRootForBuildsTheWholeTree(t *testing.T) {
	t.Parallel()

	for _, line := range []string{"", "--help", "-n 10.0.0.1 version", "help version", "versio", "svc list", "completion bash", "__complete version"} {
		root, f := rootFor(strings.Fields(line)...)
		if described(root) != described(newRoot()) || f.Tree() != root {
			t.Errorf("%q: a part of the tree was built", line)
		}
	}
}

func rootFor(args ...string) (*cobra.Command, *cmdutil.Factory) {
	f := cmdutil.NewFactory(&iostreams.Streams{
		In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Env: func(string) (string, bool) { return "", false },
	}, cmdutil.Build{})

	return commands.RootFor(f, args), f
}

// described is a command and all below it as text.
func described(cmd *cobra.Command) string {
	var out strings.Builder

	fmt.Fprintln(&out, cmd.CommandPath(), cmd.Use, cmd.Short, cmd.Long, cmd.Example, cmd.Aliases, cmd.Hidden, cmd.Annotations)
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		fmt.Fprintln(&out, f.Name, f.Shorthand, f.Usage, f.DefValue, f.NoOptDefVal, f.Hidden, f.Value.Type(), f.Annotations)
	})

	for _, child := range cmd.Commands() {
		out.WriteString(described(child))
	}

	return out.String()
}
