package cmdutil

import (
	"io"
	"os"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
)

// maxInput is the largest file that is read whole.
const maxInput = 64 << 20

// Input reads a file that the user names, - for stdin. What cannot be read is a usage error about what it is:
// "the schematic".
func (c *Call) Input(path, what string) ([]byte, error) { return c.factory.input(path, what) }

func (f *Factory) input(path, what string) ([]byte, error) {
	in := f.IO.In

	if path != "-" && f.Limits.NoFiles {
		return nil, errs.Usagef("cannot read %s: files of the machine that talosmate runs on are not read here", what).
			WithHint("give the text itself")
	}

	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, errs.Usagef("cannot read %s: %w", what, err)
		}

		defer file.Close() //nolint:errcheck // it was only read

		in = file
	}

	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))

	switch {
	case err != nil:
		return nil, errs.Usagef("cannot read %s: %w", what, err)
	case len(data) > maxInput:
		return nil, errs.Usagef("cannot read %s: it is larger than %d MiB", what, maxInput>>20)
	case foreign.Encrypted(data):
		return nil, errs.Usagef("cannot read %s: it is encrypted with SOPS", what).WithHint("decrypt it first: sops --decrypt FILE")
	default:
		return data, nil
	}
}
