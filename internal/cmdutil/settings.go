package cmdutil

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/audit"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
)

// Setting is one value of our own configuration.
type Setting struct {
	Key      string   `json:"key"`                // The setting: its flag's name, behind the command's path unless every command has the flag.
	Value    string   `json:"value"`              // The value in force.
	Origin   string   `json:"origin"`             // flag, env, file or default.
	Source   string   `json:"source,omitempty"`   // The flag, the variable or the file that gave the value.
	Variable string   `json:"variable,omitempty"` // The environment variable that sets it.
	Places   []string `json:"places"`             // Where it may be set: flag, env, file.
}

// SettingName is the setting's key, for -o name.
func (s Setting) SettingName() string { return s.Key }

// settingFlag is a flag of a command as a setting.
type settingFlag struct {
	key      string
	flag     *pflag.Flag
	place    place
	selects  bool // It chooses nodes.
	variable string
}

// settingFlags lists the flags of a command as settings: its own, or those that every command has.
func settingFlags(cmd *cobra.Command) []settingFlag {
	var out []settingFlag

	if !cmd.HasParent() {
		cmd.PersistentFlags().VisitAll(func(f *pflag.Flag) {
			out = append(out, settingFlag{key: f.Name, flag: f, place: globalPlace(f.Name), selects: slices.Contains(selectors(), f.Name), variable: variable(f.Name)})
		})

		return out
	}

	spec, ok := SpecOf(cmd)
	if !ok {
		return nil
	}

	path := strings.Join(strings.Fields(cmd.CommandPath())[1:], ".") + "."

	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if _, old := f.Value.(*alias); old || f.Name == "help" {
			return
		}

		out = append(out, settingFlag{key: path + f.Name, flag: f, place: ownPlace(f.Name, spec.Kind), variable: variable(path + f.Name)})
	})

	return out
}

// allSettingFlags lists those of the whole tree.
func allSettingFlags(root *cobra.Command) []settingFlag {
	out := settingFlags(root)

	for _, child := range root.Commands() {
		out = append(out, allSettingFlags(child)...)
	}

	return out
}

// variable is the environment variable of a key.
func variable(key string) string {
	return "TALOSMATE_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(key))
}

// loadSettings puts flag, environment, file and default in that order of strength and writes the winner back into the
// flags of the command, so that commands read flags only. Changed stays what the command line gave.
func (c *Call) loadSettings() error {
	file, err := c.factory.readSettings()
	if err != nil {
		return err
	}

	own := settingFlags(c.Cmd)

	if c.Spec.Kind != Read {
		if err = misnamed(own, c.IO.Env); err != nil {
			return err
		}
	}

	c.settings = map[string]string{}

	for _, s := range append(settingFlags(c.Cmd.Root()), own...) { //nolint:forbidigo // the flags that every command has
		value, err := c.settleFlag(s, file)
		if err != nil {
			return err
		}

		c.settled = append(c.settled, value)
	}

	c.file = file

	return nil
}

// Given reports whether the command line or a setting gave a flag its value.
func (c *Call) Given(flag string) bool { return c.Cmd.Flags().Changed(flag) || c.settings[flag] != "" }

// settled is a flag with the source of its value.
type settled struct {
	settingFlag

	origin, source string
}

// settleFlag gives one flag the value of its strongest source.
func (c *Call) settleFlag(s settingFlag, file *settingsFile) (settled, error) {
	value, set, err := s.outside(c.IO.Env, file)
	if err != nil {
		return settled{}, err
	}

	switch {
	case s.flag.Changed:
		return settled{s, "flag", "--" + s.flag.Name}, checkSetting(s.flag, "--"+s.flag.Name)
	case !set || c.yields(s):
		return settled{s, "default", ""}, nil
	}

	if err := value.into(s.flag); err != nil {
		return settled{}, err
	}

	c.settings[s.flag.Name] = value.where

	return settled{s, value.origin, value.source}, checkSetting(s.flag, value.where)
}

// yields reports whether a setting does not apply to this run: the command line says something else that it excludes, or
// it would choose the nodes of a change.
func (c *Call) yields(s settingFlag) bool {
	flags := c.Cmd.Flags()

	if s.selects {
		return c.Spec.Kind != Read || slices.ContainsFunc(selectors(), flags.Changed)
	}

	return slices.ContainsFunc(s.flag.Annotations[exclusive], flags.Changed)
}

// outside gives the value that the environment or the file has for a flag. Either is refused where it must not have one.
func (s settingFlag) outside(env func(string) (string, bool), file *settingsFile) (settingValue, bool, error) {
	if text, set := env(s.variable); set && text != "" {
		if s.place == onCommandLine {
			return settingValue{}, false, errs.Usagef("$%s is set, but --%s counts only on the command line", s.variable, s.flag.Name).
				WithHint("unset %s", s.variable)
		}

		return settingValue{texts: []string{text}, origin: "env", source: "$" + s.variable, where: "$" + s.variable}, true, nil
	}

	value, set := file.values[s.key]

	return value, set, nil
}

// misnamed refuses variables that are named after a flag of a change without its command: whoever set
// TALOSMATE_DRY_RUN relies on it.
func misnamed(own []settingFlag, env func(string) (string, bool)) error {
	for _, s := range own {
		short := variable(s.flag.Name)
		if value, set := env(short); !set || value == "" || short == s.variable {
			continue
		}

		err := errs.Usagef("$%s is set, but there is no such setting", short)
		if s.place == onCommandLine {
			return err.WithHint("--%s counts only on the command line; unset the variable", s.flag.Name)
		}

		return err.WithHint("the variable of --%s is %s", s.flag.Name, s.variable)
	}

	return nil
}

// view is the setting as it stands now.
func (s settingFlag) view(origin, source string) Setting {
	out := Setting{Key: s.key, Value: s.flag.Value.String(), Origin: origin, Source: source, Places: s.place.words()}

	if several, ok := s.flag.Value.(pflag.SliceValue); ok {
		out.Value = strings.Join(several.GetSlice(), ",")
	}

	if s.place != onCommandLine {
		out.Variable = s.variable
	}

	if origin != "default" {
		_, out.Value, _ = strings.Cut(audit.Redact([]string{"--" + s.flag.Name + "=" + out.Value})[0], "=")
	}

	return out
}

// AllSettings lists the settings of every command: those that are set, or all of them, and the aliases.
func (c *Call) AllSettings(all bool) ([]Setting, error) {
	global := settingFlags(c.Tree())
	out := lists.Map(c.settled[:len(global)], func(s settled) Setting { return s.view(s.origin, s.source) })

	for _, s := range allSettingFlags(c.Tree())[len(global):] {
		value, set, err := s.outside(c.IO.Env, c.file)
		if err != nil {
			return nil, err
		}

		switch {
		case set:
			if err = value.into(s.flag); err != nil {
				return nil, err
			}

			out = append(out, s.view(value.origin, value.source))
		case all:
			out = append(out, s.view("default", ""))
		}
	}

	for _, a := range c.file.aliases {
		out = append(out, Setting{Key: "aliases." + a.Name, Value: a.Line(), Origin: "file", Source: c.file.path, Places: []string{"file"}})
	}

	return out, nil
}

// SettingColumns are the columns of a list of settings.
func SettingColumns() []output.Column[Setting] {
	return []output.Column[Setting]{
		{Header: "SETTING", Value: Setting.SettingName},
		{Header: "VALUE", Value: func(s Setting) string { return s.Value }},
		{Header: "ORIGIN", Value: func(s Setting) string { return s.Origin }},
		{Header: "SOURCE", Wide: true, Value: func(s Setting) string { return s.Source }},
		{Header: "VARIABLE", Wide: true, Value: func(s Setting) string { return s.Variable }},
		{Header: "PLACES", Wide: true, Value: func(s Setting) string { return strings.Join(s.Places, ", ") }},
	}
}

// checkSetting refuses values that can only be a mistake. where says where the value came from.
func checkSetting(flag *pflag.Flag, where string) error {
	switch flag.Name {
	case "timeout":
		if v, err := time.ParseDuration(flag.Value.String()); err == nil && v < time.Millisecond {
			return errs.Usagef("%s must be a millisecond or more, not %s", where, v)
		}
	case "concurrency":
		if v, err := strconv.Atoi(flag.Value.String()); err == nil && v < 1 {
			return errs.Usagef("%s must be 1 or more, not %d", where, v)
		}
	}

	return nil
}

// WritePlaces writes which settings are not taken from everywhere, and why.
func WritePlaces(w io.Writer) {
	for _, r := range placeRules() {
		fmt.Fprintln(w, r.why)

		line := " "

		for _, name := range r.flags {
			if len(line)+len(name) > 95 {
				fmt.Fprintln(w, line)

				line = " "
			}

			line += " --" + name
		}

		fmt.Fprintln(w, line)
	}
}
