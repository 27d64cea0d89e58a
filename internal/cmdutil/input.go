package cmdutil

import (
	"io"
	"os"

	"github.com/talosmate/talosmate/internal/errs"
)

// Input reads a file that the user names, - for stdin. What cannot be read is a usage error about what it is:
// "the schematic".
func (c *Call) Input(path, what string) ([]byte, error) {
	var (
		data []byte
		err  error
	)

	if path == "-" {
		data, err = io.ReadAll(c.IO.In)
	} else {
		data, err = os.ReadFile(path)
	}

	if err != nil {
		return nil, errs.Usagef("cannot read %s: %w", what, err)
	}

	return data, nil
}
