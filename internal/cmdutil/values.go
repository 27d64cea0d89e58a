package cmdutil

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/errs"
)

// checkValues refuses flags whose values can only be a mistake: most of all those that are empty, as `-n "$NODE"` and
// `--window "$WINDOW"` are when a script's variable is not set. They would mean every node, and any time.
func checkValues(flags *pflag.FlagSet, changes bool) error {
	var wrong error

	flags.VisitAll(func(f *pflag.Flag) {
		c, words := f.Value.(*choice)

		switch {
		case wrong != nil:
		case words && !slices.Contains(c.allowed, *c.value) && *c.value != f.DefValue:
			wrong = errs.Usagef("unknown --%s %q: want one of %s", f.Name, *c.value, strings.Join(c.allowed, ", ")).
				WithHint("%s --help lists the flags", c.cmd.CommandPath())
		case f.Changed:
			wrong = checkValue(flags, f, changes)
		}
	})

	return wrong
}

func checkValue(flags *pflag.FlagSet, f *pflag.Flag, changes bool) error {
	value := f.Value.String()

	switch {
	case f.Annotations[positive] != nil && (value == "0s" || strings.HasPrefix(value, "-")):
		return errs.Usagef("--%s must be positive", f.Name)
	case f.Annotations[notNegative] != nil && strings.HasPrefix(value, "-"):
		return errs.Usagef("--%s must not be negative", f.Name)
	case slices.ContainsFunc(f.Annotations[exclusive], func(other string) bool { return other != f.Name && flags.Changed(other) }):
		return errs.Usagef("--%s are mutually exclusive: give one of them", strings.Join(f.Annotations[exclusive], ", --"))
	case f.Name == "nodes" || f.Name == "endpoints":
		values, _ := flags.GetStringSlice(f.Name)

		for _, v := range append(values, strings.Split(value, ",")[:1]...) {
			if strings.Trim(v, " []") == "" {
				return errs.Usagef("--%s holds an empty name", f.Name).WithHint("is a variable of your script empty?")
			}
		}
	case changes && f.Value.Type() == "string" && value == "":
		return errs.Usagef("--%s is empty", f.Name).WithHint("is a variable of your script empty? omit the flag if it is not meant")
	}

	return nil
}
