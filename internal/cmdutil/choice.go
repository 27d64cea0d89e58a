package cmdutil

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// choice is a flag that takes one of a few words.
type choice struct {
	value   *string
	allowed []string
}

// ChoiceVar adds a flag that takes one of the allowed words, and completes them.
func ChoiceVar(fs *pflag.FlagSet, p *string, name, def, usage string, allowed ...string) {
	*p = def
	fs.Var(&choice{value: p, allowed: allowed}, name, fmt.Sprintf("%s: %s", usage, strings.Join(allowed, ", ")))
}

// String implements pflag.Value.
func (c *choice) String() string { return *c.value }

// Type implements pflag.Value.
func (c *choice) Type() string { return "string" }

// Set implements pflag.Value.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.allowed, s) {
		return fmt.Errorf("want one of %s", strings.Join(c.allowed, ", "))
	}

	*c.value = s

	return nil
}

// CompleteChoices makes every flag of ChoiceVar complete its words.
func CompleteChoices(cmd *cobra.Command) { completeChoices(cmd) }

func completeChoices(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if c, ok := f.Value.(*choice); ok {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(c.allowed, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
		}
	})
}

// CompleteFlags finishes a whole tree: a flag without a completion of its own completes to nothing, for a
// shell would offer file names where a number or a name is wanted. Flags whose usage names a `file` or a
// `directory` keep the shell's files.
func CompleteFlags(cmd *cobra.Command) {
	nothing := func(f *pflag.Flag) {
		kind, _ := pflag.UnquoteUsage(f)
		if _, has := cmd.GetFlagCompletionFunc(f.Name); has || slices.Contains([]string{"file", "directory"}, strings.ToLower(kind)) {
			return
		}

		_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions) // the flag exists
	}

	cmd.PersistentFlags().VisitAll(nothing)
	cmd.LocalNonPersistentFlags().VisitAll(nothing)

	for _, child := range cmd.Commands() {
		CompleteFlags(child)
	}
}
