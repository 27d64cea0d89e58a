package cmdutil

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/errs"
)

// checkValues refuses flags whose values can only be a mistake: most of all those that are empty, as `-n "$NODE"` and
// `--window "$WINDOW"` are when a script's variable is not set. They would mean every node, and any time.
func checkValues(flags *pflag.FlagSet, changes bool) error {
	var wrong error

	flags.Visit(func(f *pflag.Flag) {
		if wrong == nil {
			wrong = checkValue(flags, f, changes)
		}
	})

	return wrong
}

func checkValue(flags *pflag.FlagSet, f *pflag.Flag, changes bool) error {
	switch f.Name {
	case "nodes", "endpoints":
		values, _ := flags.GetStringSlice(f.Name)

		for _, v := range append(values, strings.Split(f.Value.String(), ",")[:1]...) {
			if strings.Trim(v, " []") == "" {
				return errs.Usagef("--%s holds an empty name", f.Name).WithHint("is a variable of your script empty?")
			}
		}
	default:
		if changes && f.Value.Type() == "string" && f.Value.String() == "" {
			return errs.Usagef("--%s is empty", f.Name).WithHint("is a variable of your script empty? leave the flag away if it is not meant")
		}
	}

	return nil
}
