package cmdutil

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/fsutil"
)

// Input reads a file that the user names, - for stdin. What cannot be read is a usage error about what it is:
// "the schematic".
func (c *Call) Input(path, what string) ([]byte, error) { return c.factory.input(path, what) }

// InputDir reads the files with one of the extensions in a directory that the user names, by their names.
func (c *Call) InputDir(dir, what string, extensions ...string) (map[string][]byte, error) {
	if c.factory.Limits.NoFiles {
		return nil, errs.Usagef("cannot read %s: files of the machine that talosmate runs on are not read here", what)
	}

	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, errs.Usagef("cannot read %s: %w", what, err)
	}

	out := map[string][]byte{}

	for _, e := range entries {
		if e.IsDir() || !slices.Contains(extensions, filepath.Ext(e.Name())) {
			continue
		}

		if out[e.Name()], err = c.Input(filepath.Join(dir, e.Name()), e.Name()); err != nil {
			return nil, err
		}
	}

	return out, nil
}

func (f *Factory) input(path, what string) ([]byte, error) {
	if path != "-" && f.Limits.NoFiles {
		return nil, errs.Usagef("cannot read %s: files of the machine that talosmate runs on are not read here", what).
			WithHint("give the text itself")
	}

	read := func() ([]byte, error) { return fsutil.ReadFile(path, fsutil.MaxText) }
	if path == "-" {
		read = func() ([]byte, error) { return fsutil.ReadAll(f.IO.In, fsutil.MaxText) }
	}

	data, err := read()

	switch {
	case err != nil:
		return nil, errs.Usagef("cannot read %s: %w", what, err)
	case foreign.Encrypted(data):
		return nil, errs.Usagef("cannot read %s: it is encrypted with SOPS", what).WithHint("decrypt it first: sops --decrypt FILE")
	default:
		return data, nil
	}
}
