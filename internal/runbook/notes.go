package runbook

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/talosmate/talosmate/internal/fsutil"
)

// Notes keep short texts by name in a directory of this machine: what an interrupted run has to pass to the next one
// and the cluster cannot hold. They also keep two runs from changing one node at a time. The zero value keeps nothing.
type Notes struct{ Dir string }

// maxNote bounds what is read of a note. The largest is a machine configuration's.
const maxNote = 16 << 20

// Get reads a note, empty when there is none or it cannot be read.
func (n Notes) Get(name string) string {
	if n.Dir == "" {
		return ""
	}

	text, err := fsutil.ReadFile(n.path(name), maxNote)
	if err != nil {
		return ""
	}

	return string(text)
}

// Set writes a note; an empty text removes it.
func (n Notes) Set(name, text string) error {
	if n.Dir == "" {
		return nil
	}

	if text == "" {
		if err := os.Remove(n.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove a note: %w", err)
		}

		return nil
	}

	if err := os.MkdirAll(n.Dir, 0o700); err != nil {
		return fmt.Errorf("cannot write a note: %w", err)
	}

	return fsutil.WriteBytes(n.path(name), 0o600, []byte(text))
}

// Lock keeps other runs on this machine from using the same name, until release is called or the process ends. A lock
// that is held is fsutil.ErrLocked. The zero value locks nothing, and neither does a directory that cannot be written:
// the lock only supplements the checks on the cluster.
func (n Notes) Lock(name string) (release func(), err error) {
	nothing := func() {}

	if n.Dir == "" || os.MkdirAll(n.Dir, 0o700) != nil {
		return nothing, nil
	}

	release, err = fsutil.Lock(n.path(name) + ".lock")
	if err != nil && !errors.Is(err, fsutil.ErrLocked) {
		return nothing, nil //nolint:nilerr // see above
	}

	return release, err
}

// path is a file for each name: two names never share one.
func (n Notes) path(name string) string {
	return filepath.Join(n.Dir, "note-"+url.PathEscape(name))
}
