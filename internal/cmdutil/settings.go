package cmdutil

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/talosmate/talosmate/internal/errs"
)

// SettingKeys are the flags that the environment (TALOSMATE_…) and the configuration file can set too.
func SettingKeys() []string {
	return []string{
		"audit-log", "concurrency", "context", "direct", "no-color", "no-headers", "output", "progress", "read-only", "timeout",
	}
}

// Setting is one value of our own configuration.
type Setting struct {
	Key    string `json:"key"`    // The setting, named like its flag.
	Value  string `json:"value"`  // The value in force.
	Origin string `json:"origin"` // flag, env, file or default.
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

// LoadSettings puts flag, environment, file and default in that order of strength and writes the winner
// back into the flags, so that commands read flags only.
func LoadSettings(flags *pflag.FlagSet, env func(string) (string, bool)) ([]Setting, error) {
	v := viper.New()
	path := SettingsPath(env)

	v.SetConfigFile(path)
	v.SetConfigType("yaml")

	if err := v.ReadInConfig(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		var missing viper.ConfigFileNotFoundError
		if !errors.As(err, &missing) && !errors.Is(err, os.ErrNotExist) {
			return nil, errs.Usagef("cannot read the configuration file %s: %w", path, err)
		}
	}

	for _, key := range v.AllKeys() {
		if !slices.Contains(SettingKeys(), key) {
			return nil, errs.Usagef("unknown setting %q in %s", key, path).WithHint("settings: %s", strings.Join(SettingKeys(), ", "))
		}
	}

	out := make([]Setting, 0, len(SettingKeys()))

	for _, key := range SettingKeys() {
		flag := flags.Lookup(key)
		if flag == nil {
			return nil, fmt.Errorf("setting %s has no flag", key)
		}

		s, err := settle(flag, v, env)
		if err != nil {
			return nil, err
		}

		out = append(out, s)
	}

	return out, nil
}

func settle(flag *pflag.Flag, v *viper.Viper, env func(string) (string, bool)) (Setting, error) {
	s := Setting{Key: flag.Name, Origin: "default"}
	variable := "TALOSMATE_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
	where := "--" + flag.Name

	switch value, set := env(variable); {
	case flag.Changed:
		s.Origin = "flag"
	case set && value != "":
		s.Origin, where = "env", "$"+variable

		if err := flag.Value.Set(value); err != nil {
			return s, errs.Usagef("bad value %q in %s: %w", value, where, err)
		}
	case v.InConfig(flag.Name):
		s.Origin, where = "file", fmt.Sprintf("%s in %s", flag.Name, v.ConfigFileUsed())

		if err := flag.Value.Set(v.GetString(flag.Name)); err != nil {
			return s, errs.Usagef("bad value %q for %s: %w", v.GetString(flag.Name), where, err)
		}
	}

	s.Value = flag.Value.String()

	if s.Origin == "default" {
		return s, nil
	}

	return s, checkSetting(flag, where)
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
