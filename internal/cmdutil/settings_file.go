package cmdutil

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/lists"
)

// maxSettings is the largest configuration file.
const maxSettings = 1 << 20

// aliasesKey is the part of the configuration file that holds no settings.
const aliasesKey = "aliases"

// settingsFile is the content of the configuration file.
type settingsFile struct {
	path    string
	values  map[string]settingValue
	aliases []Alias
}

// settingValue is the value of a setting as the environment or the file has it.
type settingValue struct {
	texts  []string
	list   bool   // It was a list, even of one.
	origin string // env or file.
	source string // The variable or the file.
	where  string // For messages.
}

// into gives a flag the value.
func (v settingValue) into(flag *pflag.Flag) error {
	var err error

	several, slice := flag.Value.(pflag.SliceValue)
	words, limited := flag.Value.(*choice)

	switch {
	case limited && !v.list && !slices.Contains(words.allowed, v.texts[0]):
		return errs.Usagef("bad value %q for %s: want one of %s", v.texts[0], v.where, strings.Join(words.allowed, ", "))
	case v.list && !slice:
		return errs.Usagef("bad value for %s: it is a list, and --%s takes one value", v.where, flag.Name)
	case v.list:
		err = several.Replace(v.texts)
	default:
		err = flag.Value.Set(v.texts[0])
	}

	if err != nil {
		return errs.Usagef("bad value %q for %s: %w", strings.Join(v.texts, ","), v.where, err)
	}

	return nil
}

// SettingsPath is the configuration file: $TALOSMATE_CONFIG, else talosmate/config.yaml in
// $XDG_CONFIG_HOME or ~/.config.
func SettingsPath(env func(string) (string, bool)) string {
	if path, ok := env("TALOSMATE_CONFIG"); ok && path != "" {
		return path
	}

	dir, ok := env("XDG_CONFIG_HOME")
	if !ok || dir == "" {
		home, _ := env("HOME")
		dir = filepath.Join(home, ".config")
	}

	return filepath.Join(dir, "talosmate", "config.yaml")
}

// readSettings reads the configuration file and checks it against the tree: every key is a setting that a file may
// have, and no alias has the name of a command. A file that does not exist is empty.
func readSettings(root *cobra.Command, env func(string) (string, bool)) (*settingsFile, error) {
	file := &settingsFile{path: SettingsPath(env), values: map[string]settingValue{}}

	text, err := readBounded(file.path)
	if errors.Is(err, fs.ErrNotExist) {
		return file, nil
	}

	if err == nil {
		var doc *yaml.Node
		if doc, err = foreign.Document(text); err == nil && len(doc.Content) > 0 {
			return file, file.add(root, doc.Content[0])
		}
	}

	if err != nil {
		return nil, errs.Usagef("cannot read the configuration file %s: %w", file.path, err)
	}

	return file, nil
}

func readBounded(path string) ([]byte, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}

	defer in.Close() //nolint:errcheck // it was only read

	text, err := io.ReadAll(io.LimitReader(in, maxSettings+1))
	if err == nil && len(text) > maxSettings {
		err = fmt.Errorf("it is larger than %d MiB", maxSettings>>20)
	}

	return text, err
}

// add takes the keys and aliases of the file's document.
func (f *settingsFile) add(root *cobra.Command, top *yaml.Node) error {
	if top.Kind != yaml.MappingNode {
		if top.Tag == "!!null" {
			return nil // nothing but comments
		}

		return errs.Usagef("cannot read the configuration file %s: it is not a mapping", f.path)
	}

	known := map[string]settingFlag{}
	for _, s := range allSettingFlags(root) {
		known[s.key] = s
	}

	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i].Value, resolved(top.Content[i+1])

		if key == aliasesKey {
			if err := f.addAliases(root, value); err != nil {
				return err
			}

			continue
		}

		if err := f.addSetting(known, key, value); err != nil {
			return err
		}
	}

	return nil
}

// addSetting takes one key with its value, or the keys below it.
func (f *settingsFile) addSetting(known map[string]settingFlag, key string, value *yaml.Node) error {
	s, ok := known[key]

	if !ok && value.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(value.Content); i += 2 {
			if err := f.addSetting(known, key+"."+value.Content[i].Value, resolved(value.Content[i+1])); err != nil {
				return err
			}
		}

		return nil
	}

	where := fmt.Sprintf("%s in %s", key, f.path)

	switch _, twice := f.values[key]; {
	case !ok:
		return errs.Usagef("unknown setting %q in %s", key, f.path).WithHint("%s", nearest(known, key))
	case s.place == onCommandLine:
		return errs.Usagef("%s: --%s counts only on the command line", where, s.flag.Name).WithHint("`talosmate help settings` gives the reason")
	case s.place == notInFile:
		return errs.Usagef("%s: --%s belongs to one cluster; the file is for all", where, s.flag.Name).
			WithHint("give --%s, or set $%s", s.flag.Name, s.variable)
	case twice:
		return errs.Usagef("%s is given twice", where)
	}

	v := settingValue{origin: "file", source: f.path, where: where}

	switch {
	case value.Kind == yaml.ScalarNode && value.Tag != "!!null":
		v.texts = []string{value.Value}
	case value.Kind == yaml.SequenceNode && !slices.ContainsFunc(value.Content, func(n *yaml.Node) bool { return resolved(n).Kind != yaml.ScalarNode }):
		v.list, v.texts = true, lists.Map(value.Content, func(n *yaml.Node) string { return resolved(n).Value })
	default:
		return errs.Usagef("bad value for %s: want a word, a number or a list of them", where)
	}

	f.values[key] = v

	return nil
}

// resolved follows a YAML alias.
func resolved(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}

	return n
}

// nearest is the hint about an unknown key: the settings that are spelled like it, or end like it.
func nearest(known map[string]settingFlag, key string) string {
	type candidate struct {
		key      string
		distance int
	}

	var near []candidate

	for other, s := range known {
		d := levenshtein.Distance(key, other, nil)
		if s.flag.Name == key {
			d = 1 // the command is missing
		}

		if s.place == anywhere && d <= max(2, len(key)/4) {
			near = append(near, candidate{other, d})
		}
	}

	slices.SortFunc(near, func(a, b candidate) int {
		if a.distance != b.distance {
			return a.distance - b.distance
		}

		return strings.Compare(a.key, b.key)
	})

	if len(near) == 0 {
		return "`talosmate settings view --all` lists the settings"
	}

	return "did you mean " + lists.Join(near[:min(3, len(near))], " or ", func(c candidate) string { return c.key }) + "?"
}
