package cmdutil

import (
	"fmt"
	"os"

	"github.com/talosmate/talosmate/internal/errs"
)

// TalosconfigFile names a file with the talosconfig in use, for another program. One that came from stdin or
// the environment is written to a file that only the user may read; remove deletes it.
func (c *Call) TalosconfigFile() (path string, remove func(), err error) {
	if c.config == nil {
		return "", nil, errs.Usagef("there is no talosconfig in use")
	}

	if c.config.Path != "" {
		return c.config.Path, func() {}, nil
	}

	raw, err := c.config.Bytes()
	if err != nil {
		return "", nil, fmt.Errorf("cannot write the talosconfig: %w", err)
	}

	f, err := os.CreateTemp("", "talosmate-talosconfig-*") // CreateTemp makes it 0600
	if err != nil {
		return "", nil, fmt.Errorf("cannot write the talosconfig: %w", err)
	}

	remove = func() { _ = os.Remove(f.Name()) }

	if _, err = f.Write(raw); err == nil {
		err = f.Close()
	}

	if err != nil {
		remove()

		return "", nil, fmt.Errorf("cannot write the talosconfig: %w", err)
	}

	return f.Name(), remove, nil
}
