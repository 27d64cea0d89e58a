package cmdutil

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/errs"
)

// Group makes a command that only holds others. Called without a subcommand it shows its help; with a wrong
// one it says so and what was perhaps meant.
func Group(use, short string, aliases []string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Aliases: aliases, Args: cobra.ArbitraryArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}

			return UnknownCommand(cmd, args[0])
		},
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(children...)

	return cmd
}

// UnknownCommand is the usage error for a word that is not a subcommand of cmd.
func UnknownCommand(cmd *cobra.Command, word string) error {
	err := errs.Usagef("unknown command %q for %q", word, cmd.CommandPath())

	switch near := cmd.SuggestionsFor(word); len(near) {
	case 0:
		return err.WithHint("%s --help", cmd.CommandPath())
	case 1:
		return err.WithHint("%s %s", cmd.CommandPath(), near[0])
	default:
		return err.WithHint("did you mean %s?", strings.Join(near, " or "))
	}
}
