package cmdutil

import (
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/fsutil"
)

// Input reads a file that the user names, - for stdin. What cannot be read is a usage error about what it is:
// "the schematic".
func (c *Call) Input(path, what string) ([]byte, error) { return c.factory.input(path, what) }

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
