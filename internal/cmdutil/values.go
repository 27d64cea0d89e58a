package cmdutil

import (
	"cmp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/errs"
)

// checkValues refuses flags whose values can only be a mistake: most of all those that are empty, as `-n "$NODE"` and
// `--window "$WINDOW"` are when a script's variable is not set. They would mean every node, and any time. command is the
// command's path, settings names the settings that gave flags their values.
func checkValues(command string, flags *pflag.FlagSet, changes bool, settings map[string]string) error {
	var wrong error

	flags.VisitAll(func(f *pflag.Flag) {
		c, words := f.Value.(*choice)

		switch {
		case wrong != nil:
		case words && !slices.Contains(c.allowed, *c.value) && *c.value != f.DefValue:
			wrong = errs.Usagef("unknown --%s %q: want one of %s", f.Name, *c.value, strings.Join(c.allowed, ", ")).
				WithHint("%s --help", command)
		case f.Changed || settings[f.Name] != "":
			given := func(name string) bool { return flags.Changed(name) || settings[name] != "" }
			wrong = checkValue(flags, f, changes, cmp.Or(settings[f.Name], "--"+f.Name), given)
		}
	})

	return wrong
}

// checkValue checks one flag; name is what gave it its value.
func checkValue(flags *pflag.FlagSet, f *pflag.Flag, changes bool, name string, given func(flag string) bool) error {
	value := f.Value.String()

	switch {
	case f.Annotations[positive] != nil && (value == "0s" || strings.HasPrefix(value, "-")):
		return errs.Usagef("%s must be positive", name)
	case f.Annotations[notNegative] != nil && strings.HasPrefix(value, "-"):
		return errs.Usagef("%s must not be negative", name)
	case slices.ContainsFunc(f.Annotations[exclusive], func(other string) bool { return other != f.Name && given(other) }):
		return errs.Usagef("--%s are mutually exclusive: give one of them", strings.Join(f.Annotations[exclusive], ", --"))
	case f.Name == "nodes" || f.Name == "endpoints" || f.Name == allowedNodes:
		values, _ := flags.GetStringSlice(f.Name)

		for _, v := range append(values, strings.Split(value, ",")[:1]...) {
			if strings.Trim(v, " []") == "" {
				return errs.Usagef("%s holds an empty name", name).WithHint("is a variable of your script empty?")
			}
		}
	case changes && f.Value.Type() == "string" && value == "":
		return errs.Usagef("%s is empty", name).WithHint("is a variable of your script empty? omit the flag if it is not meant")
	}

	return nil
}
