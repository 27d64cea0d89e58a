package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/siderolabs/talos/pkg/machinery/constants"

	"github.com/talosmate/talosmate/internal/errs"
)

// EditablePath is the talosconfig that an edit changes: the file that Load would read or, if there is none yet,
// the last place where it would look. A talosconfig that is not a file cannot be edited.
func EditablePath(l Lookup) (string, error) {
	switch {
	case l.Flag == "-":
		return "", errs.Usagef("a talosconfig from stdin cannot be edited").WithHint("name a file with --talosconfig")
	case l.Flag != "":
		return l.Flag, nil
	}

	if path, ok := l.Env(constants.TalosConfigEnvVar); ok && path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", errs.Usagef("cannot read the talosconfig of $%s: %w", constants.TalosConfigEnvVar, err)
		}

		return path, nil
	}

	if encoded, ok := l.Env(EnvBase64); ok && encoded != "" {
		return "", errs.Usagef("the talosconfig of $%s cannot be edited", EnvBase64).WithHint("name a file with --talosconfig")
	}

	if path := projectConfig(l.WorkingDir); path != "" && distrust(path) == "" {
		return path, nil
	}

	home := HomePath(l.Env)
	account := filepath.Join(constants.ServiceAccountMountPath, constants.TalosconfigFilename)

	if _, err := os.Stat(home); errors.Is(err, fs.ErrNotExist) {
		if _, err = os.Stat(account); err == nil {
			return "", errs.Usagef("the service account's talosconfig cannot be edited").WithHint("name a file with --talosconfig")
		}
	}

	return home, nil
}
