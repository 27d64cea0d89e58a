package commands

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
)

// Completes reports whether a shell asks for candidates.
func Completes(args []string) bool {
	return len(args) > 0 && slices.Contains([]string{cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}, args[0])
}

// ExpandAliases puts the command line of an alias of the user's in the place of its name, and in what a shell asks to
// be completed. A command always wins: the file with the aliases is read only for a word that is not one.
func ExpandAliases(f *cmdutil.Factory, root *cobra.Command, args []string) ([]string, error) {
	if Completes(args) && len(args) > 1 {
		last := len(args) - 1

		expanded, err := ExpandAliases(f, root, args[1:last])
		if err != nil {
			return args, nil //nolint:nilerr // trouble means no candidates
		}

		return slices.Concat(args[:1], expanded, args[last:]), nil
	}

	var chain []string

	for {
		i := firstWord(root, args)
		if i == len(args) || cmdutil.IsCommand(root, args[i]) {
			return args, nil
		}

		aliases, err := f.Aliases()
		if err != nil {
			return nil, err
		}

		at := slices.IndexFunc(aliases, func(a cmdutil.Alias) bool { return a.Name == args[i] })
		if at < 0 {
			return args, nil
		}

		if slices.Contains(chain, args[i]) {
			return nil, errs.Usagef("the alias %q stands for itself: %s", args[i], strings.Join(append(chain, args[i]), " → "))
		}

		chain = append(chain, args[i])
		args = slices.Concat(args[:i], aliases[at].Words, args[i+1:])
	}
}

// firstWord is the index of the command in a command line: the first word that is neither a flag nor the value of one.
func firstWord(root *cobra.Command, args []string) int {
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--":
			return len(args)
		case len(args[i]) < 2 || args[i][0] != '-':
			return i
		case takesNext(root.PersistentFlags(), args[i]):
			i++
		}
	}

	return len(args)
}
