package cmdutil

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/fsutil"
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
func (f *Factory) readSettings() (*settingsFile, error) {
	file := &settingsFile{path: SettingsPath(f.IO.Env), values: map[string]settingValue{}}

	text, err := fsutil.ReadFile(file.path, maxSettings)
	if errors.Is(err, fs.ErrNotExist) {
		return file, nil
	}

	if err != nil {
		return nil, errs.Usagef("cannot read the configuration file %s: %w", file.path, err)
	}

	format := &settingsFormat{}
	formats := viper.NewCodecRegistry()

	if err = formats.RegisterCodec("yaml", format); err != nil {
		return nil, fmt.Errorf("cannot set up the reader of settings: %w", err)
	}

	v := viper.NewWithOptions(viper.WithCodecRegistry(formats))
	v.SetConfigType("yaml")

	if err = cmp.Or(v.ReadConfig(bytes.NewReader(text)), format.err); err != nil {
		return nil, errs.Usagef("cannot read the configuration file %s: %w", file.path, cmp.Or(format.err, err))
	}

	return file, file.add(f.Tree(), v, format.aliases)
}

// settingsFormat decodes the file for viper. A scalar stays as it is written: the version 1.30 is not the number 1.3.
type settingsFormat struct {
	aliases *yaml.Node
	err     error
}

// Encode implements viper.Codec; nothing writes the file.
func (*settingsFormat) Encode(map[string]any) ([]byte, error) { return nil, errors.ErrUnsupported }

// Decode implements viper.Codec.
func (f *settingsFormat) Decode(text []byte, into map[string]any) error {
	f.err = f.decode(text, into)

	return f.err
}

func (f *settingsFormat) decode(text []byte, into map[string]any) error {
	doc, err := foreign.Document(text)
	if err != nil || len(doc.Content) == 0 {
		return err
	}

	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		if top.Tag == "!!null" {
			return nil // nothing but comments
		}

		return errors.New("it is not a mapping")
	}

	for i := 0; i+1 < len(top.Content); i += 2 {
		if key := top.Content[i].Value; key == aliasesKey {
			f.aliases = resolved(top.Content[i+1])
		} else if err = put(into, key, resolved(top.Content[i+1])); err != nil {
			return err
		}
	}

	return nil
}

// put adds a value under its whole key, behind the keys above it.
func put(into map[string]any, key string, value *yaml.Node) error {
	if value.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(value.Content); i += 2 {
			if err := put(into, key+"."+value.Content[i].Value, resolved(value.Content[i+1])); err != nil {
				return err
			}
		}

		return nil
	}

	key = strings.ToLower(key)
	if _, twice := into[key]; twice {
		return fmt.Errorf("%s is given twice", key)
	}

	switch {
	case value.Kind == yaml.ScalarNode && value.Tag != "!!null":
		into[key] = value.Value
	case value.Kind == yaml.SequenceNode && !slices.ContainsFunc(value.Content, func(n *yaml.Node) bool { return resolved(n).Kind != yaml.ScalarNode }):
		into[key] = lists.Map(value.Content, func(n *yaml.Node) string { return resolved(n).Value })
	default:
		into[key] = nil
	}

	return nil
}

// add takes the settings and aliases of the file.
func (f *settingsFile) add(root *cobra.Command, v *viper.Viper, aliases *yaml.Node) error {
	known := map[string]settingFlag{}
	for _, s := range allSettingFlags(root) {
		known[s.key] = s
	}

	for _, key := range slices.Sorted(slices.Values(v.AllKeys())) {
		if err := f.addSetting(known, key, v.Get(key)); err != nil {
			return err
		}
	}

	if aliases == nil {
		return nil
	}

	return f.addAliases(root, aliases)
}

// addSetting takes one key with its value.
func (f *settingsFile) addSetting(known map[string]settingFlag, key string, value any) error {
	s, ok := known[key]
	where := fmt.Sprintf("%s in %s", key, f.path)

	above, _, nested := strings.Cut(key, ".")
	_, scalar := known[above]

	switch {
	case !ok && nested && scalar:
		return errs.Usagef("bad value for %s in %s: want a word, a number or a list of them", above, f.path)
	case !ok:
		return errs.Usagef("unknown setting %q in %s", key, f.path).WithHint("%s", nearest(known, key))
	case s.place == onCommandLine:
		return errs.Usagef("%s: --%s counts only on the command line", where, s.flag.Name).WithHint("talosmate help settings")
	case s.place == notInFile:
		return errs.Usagef("%s: --%s belongs to one cluster; the file is for all", where, s.flag.Name).
			WithHint("give --%s, or set $%s", s.flag.Name, s.variable)
	}

	v := settingValue{origin: "file", source: f.path, where: where}

	switch value := value.(type) {
	case string:
		v.texts = []string{value}
	case []string:
		v.list, v.texts = true, value
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

	lists.Sort(near, func(a, b candidate) int {
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
