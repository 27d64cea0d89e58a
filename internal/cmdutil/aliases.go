package cmdutil

import (
	"regexp"
	"slices"
	"strings"

	"github.com/kballard/go-shellquote"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/audit"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/lists"
)

// Alias is a name of the user's for a command line.
type Alias struct {
	Name  string
	Words []string
}

// Line is the command line as it would be typed, without secrets.
func (a Alias) Line() string { return shellquote.Join(audit.Redact(a.Words)...) }

// Aliases reads the configuration file's aliases.
func (f *Factory) Aliases() ([]Alias, error) {
	file, err := f.readSettings()
	if err != nil {
		return nil, err
	}

	return file.aliases, nil
}

// completeAliases offers the aliases where a command is wanted.
func (f *Factory) completeAliases() []string {
	all, err := f.Aliases()
	if err != nil {
		return nil
	}

	return lists.Map(all, func(a Alias) string { return Described(a.Name, "alias for "+iostreams.Line(a.Line())) })
}

// CompleteCommands completes the root's first word where cobra has added the commands already: with the aliases.
func CompleteCommands(f *Factory) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}

		fitting := lists.Filter(f.completeAliases(), func(c string) bool { return strings.HasPrefix(c, typed) })

		return fitting, cobra.ShellCompDirectiveNoFileComp
	}
}

// addAliases takes the aliases of the file.
func (f *settingsFile) addAliases(root *cobra.Command, mapping *yaml.Node) error {
	if mapping.Kind != yaml.MappingNode {
		return errs.Usagef("bad value for %s in %s: want a mapping of names to command lines", aliasesKey, f.path)
	}

	name := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

	for i := 0; i+1 < len(mapping.Content); i += 2 {
		a := Alias{Name: mapping.Content[i].Value}
		refuse := func(reason string) error {
			return errs.Usagef("bad alias %q in %s: %s", a.Name, f.path, reason)
		}

		var err error
		if a.Words, err = aliasWords(resolved(mapping.Content[i+1])); err != nil {
			return refuse(err.Error())
		}

		switch flag := unfit(a.Words); {
		case !name.MatchString(a.Name):
			return refuse("a name has letters, digits, - and _ only")
		case IsCommand(root, a.Name):
			return refuse("talosmate has a command of that name")
		case slices.ContainsFunc(f.aliases, func(b Alias) bool { return b.Name == a.Name }):
			return refuse("it is given twice")
		case len(a.Words) == 0:
			return refuse("it has no command line")
		case flag != "":
			return refuse(flag + " counts only where it is typed, not in an alias")
		}

		f.aliases = append(f.aliases, a)
	}

	lists.Sort(f.aliases, func(a, b Alias) int { return strings.Compare(a.Name, b.Name) })

	return nil
}

// aliasWords takes a command line apart as a shell does, but for what a shell would replace or run; or takes a list of words
// as it is. The program's own name in front is dropped.
func aliasWords(value *yaml.Node) ([]string, error) {
	var words []string

	switch {
	case value.Kind == yaml.ScalarNode && value.Tag != "!!null":
		var err error
		if words, err = shellquote.Split(value.Value); err != nil {
			return nil, errs.Usagef("%s", strings.ToLower(err.Error()))
		}
	case value.Kind == yaml.SequenceNode:
		words = lists.Map(value.Content, func(n *yaml.Node) string { return resolved(n).Value })
	default:
		return nil, errs.Usagef("want a command line or a list of words")
	}

	if len(words) > 0 && words[0] == "talosmate" {
		words = words[1:]
	}

	return words, nil
}

// unfit finds a flag that must not come from a file, or is empty.
func unfit(words []string) string {
	for _, word := range words {
		flag, _, _ := strings.Cut(word, "=")

		for _, r := range placeRules() {
			if r.place == onCommandLine && !r.change && strings.HasPrefix(flag, "--") && slices.Contains(r.flags, flag[2:]) {
				return flag
			}
		}
	}

	return ""
}

// IsCommand reports whether the root has a command of that name or with such an alias. Cobra adds help, completion and
// the hidden requests of the shells when it runs.
func IsCommand(root *cobra.Command, name string) bool {
	return slices.Contains([]string{"help", "completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}, name) ||
		slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == name || c.HasAlias(name) })
}
