// Package config finds and reads the talosconfig: which file, which context, and the credentials in it.
package config

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/fsutil"
)

// Origin names the rule that found the talosconfig.
type Origin string

// The origins, in the order in which they are tried.
const (
	OriginFlag           Origin = "flag"
	OriginStdin          Origin = "stdin"
	OriginEnv            Origin = "env"
	OriginEnvBase64      Origin = "env-base64"
	OriginProject        Origin = "project"
	OriginHome           Origin = "home"
	OriginServiceAccount Origin = "serviceaccount"
)

// EnvBase64 names the variable that holds a whole talosconfig, for CI secrets.
const EnvBase64 = "TALOSMATE_TALOSCONFIG_BASE64"

// Lookup is the environment in which a talosconfig is looked for.
type Lookup struct {
	Flag       string                      // --talosconfig, "-" for stdin, empty for none.
	Env        func(string) (string, bool) // Environment variables.
	Stdin      io.Reader
	WorkingDir string // Absolute; empty when unknown.
}

// Config is a talosconfig together with where it came from.
type Config struct {
	*clientconfig.Config

	Path     string   // The file, empty for stdin and the environment.
	Origin   Origin   // The rule that found it.
	Warnings []string // What the user must know about how it was found.
}

// Load finds and reads the talosconfig: the flag, $TALOSCONFIG, $TALOSMATE_TALOSCONFIG_BASE64, a file
// named talosconfig in the project, $TALOS_HOME/config or ~/.talos/config, the service account's path.
// Every failure is a usage error, since nothing was sent.
func Load(l Lookup) (*Config, error) {
	switch {
	case l.Flag == "-":
		raw, err := fsutil.ReadAll(l.Stdin, fsutil.MaxText)
		if err != nil {
			return nil, errs.Usagef("cannot read the talosconfig from stdin: %w", err)
		}

		return parseConfig(raw, "", OriginStdin)
	case l.Flag != "":
		return readConfig(l.Flag, OriginFlag)
	}

	if path, ok := l.Env(constants.TalosConfigEnvVar); ok && path != "" {
		return readConfig(path, OriginEnv)
	}

	if encoded, ok := l.Env(EnvBase64); ok && encoded != "" {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		if err != nil {
			return nil, errs.Usagef("cannot decode $%s: %w", EnvBase64, err)
		}

		return parseConfig(raw, "", OriginEnvBase64)
	}

	var warnings []string

	if path := projectConfig(l.WorkingDir); path != "" {
		if reason := distrust(path); reason != "" {
			warnings = append(warnings, fmt.Sprintf("ignoring %s: %s", path, reason))
		} else {
			cfg, err := readConfig(path, OriginProject)
			if err != nil {
				return nil, err
			}

			cfg.Warnings = append(cfg.Warnings, fmt.Sprintf("using the project's talosconfig %s", path))

			return cfg, nil
		}
	}

	cfg, err := homeConfig(l.Env)

	var none *errs.Error
	if errors.As(err, &none) && len(warnings) > 0 {
		// Above all, the user has to know that a file exists and was not used.
		return nil, errs.Usagef("%w; %s", err, strings.Join(warnings, "; ")).WithHint("%s", none.Hint)
	}

	if err != nil {
		return nil, err
	}

	cfg.Warnings = append(warnings, cfg.Warnings...)

	return cfg, nil
}

// HomePath is $TALOS_HOME/config or ~/.talos/config.
func HomePath(env func(string) (string, bool)) string {
	if dir, ok := env(constants.TalosHomeEnvVar); ok && filepath.IsAbs(dir) {
		return filepath.Join(dir, constants.TalosconfigFilename)
	}

	home, _ := env("HOME")

	return filepath.Join(home, constants.TalosDir, constants.TalosconfigFilename)
}

func homeConfig(env func(string) (string, bool)) (*Config, error) {
	candidates := []struct {
		path   string
		origin Origin
	}{
		{HomePath(env), OriginHome},
		{filepath.Join(constants.ServiceAccountMountPath, constants.TalosconfigFilename), OriginServiceAccount},
	}

	for _, c := range candidates {
		cfg, err := readConfig(c.path, c.origin)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}

		return cfg, err
	}

	return nil, errs.Usagef("cannot find a talosconfig: looked at $%s, $%s, the project folder and %s",
		constants.TalosConfigEnvVar, EnvBase64, candidates[0].path).
		WithHint("name one with --talosconfig FILE, or copy the cluster's to %s", candidates[0].path)
}

func readConfig(path string, origin Origin) (*Config, error) {
	raw, err := fsutil.ReadFile(path, fsutil.MaxText)
	if err != nil {
		return nil, errs.Usagef("cannot read the talosconfig: %w", err)
	}

	return parseConfig(raw, path, origin)
}

// Check returns the reason why a talosconfig's text cannot be used. current, unless it is empty, must be one of
// its contexts and usable.
func Check(raw []byte, path, current string) error {
	cfg, err := parseConfig(raw, path, OriginFlag)
	if err == nil && current != "" {
		_, err = cfg.Pick(current)
	}

	return err
}

func parseConfig(raw []byte, path string, origin Origin) (*Config, error) {
	where := path
	if where == "" {
		where = string(origin)
	}

	err := foreign.Check(raw)

	// Not by clientconfig.FromBytes, which panics on a context that is null.
	parsed := &clientconfig.Config{}
	if err == nil {
		err = yaml.NewDecoder(bytes.NewReader(raw)).Decode(parsed)
	}

	if err != nil {
		return nil, errs.Usagef("cannot parse the talosconfig (%s): %w", where, err)
	}

	for _, c := range parsed.Contexts {
		if c != nil && c.DeprecatedTarget != "" {
			c.Endpoints, c.DeprecatedTarget = append(c.Endpoints, c.DeprecatedTarget), ""
		}
	}

	if len(parsed.Contexts) == 0 {
		return nil, errs.Usagef("the talosconfig (%s) has no contexts", where)
	}

	return &Config{Config: parsed, Path: path, Origin: origin}, nil
}

// projectConfig looks for a file named talosconfig from dir upwards to the folder that holds .git; without one, in dir
// only.
func projectConfig(dir string) string {
	if dir == "" {
		return ""
	}

	found := ""

	for at := dir; ; at = filepath.Dir(at) {
		candidate := filepath.Join(at, "talosconfig")
		if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() && found == "" {
			found = candidate
		}

		if _, err := os.Stat(filepath.Join(at, ".git")); err == nil {
			return found
		}

		if at == filepath.Dir(at) {
			break
		}
	}

	if filepath.Dir(found) == dir {
		return found
	}

	return ""
}

// ContextNames lists the contexts in alphabetical order.
func (c *Config) ContextNames() []string {
	return slices.Sorted(maps.Keys(c.Contexts))
}

// Pick returns the named context, or the current one when name is empty.
func (c *Config) Pick(name string) (*Context, error) {
	if name == "" {
		name = c.Context
	}

	if name == "" && len(c.Contexts) == 1 {
		name = c.ContextNames()[0]
	}

	raw, ok := c.Contexts[name]
	if ok && raw == nil {
		return nil, errs.Usagef("the talosconfig's context %q is empty", name).
			WithHint("choose another with --context, or remove it: talosmate config remove %s", name)
	}

	if !ok {
		return nil, errs.Usagef("the talosconfig has no context %q", name).
			WithHint("contexts: %s", strings.Join(c.ContextNames(), ", "))
	}

	return newContext(name, raw)
}
