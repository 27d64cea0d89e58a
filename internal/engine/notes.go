package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/talosmate/talosmate/internal/fsutil"
)

// Notes remember short texts by name in a directory of this machine: what a broken-off run must tell the
// next one where the cluster itself cannot. The zero value remembers nothing.
type Notes struct{ Dir string }

// Get reads a note, empty when there is none or it cannot be read.
func (n Notes) Get(name string) string {
	if n.Dir == "" {
		return ""
	}

	text, err := os.ReadFile(n.path(name))
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

func (n Notes) path(name string) string {
	safe := strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r == os.PathSeparator || r == 0 {
			return '_'
		}

		return r
	}, name)

	return filepath.Join(n.Dir, "note-"+safe)
}
