// Package fsutil writes local files so that a reader sees either the old file or the new one.
package fsutil

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces path by what write produces: a temporary file in the same directory is synced, given the mode and
// renamed to path, and the directory is synced too. When write fails, the temporary file is removed and path is
// unchanged. If path is a symbolic link, the file it points to is replaced. Missing directories are created with mode
// 0700. What is not a regular file is not replaced: root would lose /dev/null by it.
func WriteFile(path string, mode fs.FileMode, write func(io.Writer) error) error {
	return WriteVerified(path, mode, write, func(string) error { return nil })
}

// WriteVerified is WriteFile with a check: verify gets the path of the complete and synced temporary file, and its
// error leaves path unchanged.
func WriteVerified(path string, mode fs.FileMode, write func(io.Writer) error, verify func(tmp string) error) (err error) {
	if target, evalErr := filepath.EvalSymlinks(path); evalErr == nil {
		path = target
	}

	if info, statErr := os.Stat(path); statErr == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("cannot write %s: it is not a regular file", path)
	}

	dir := filepath.Dir(path)
	if err = os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}

	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-*") // mode 0600 until it is complete
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, Cause(err))
	}

	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreClosed(tmp.Close()), os.Remove(tmp.Name()))
		}
	}()

	if err = write(&named{tmp, path}); err != nil {
		return err // write's own error says what failed
	}

	for _, step := range []func() error{
		func() error { return tmp.Chmod(mode) },
		tmp.Sync,
		tmp.Close,
	} {
		if err = step(); err != nil {
			return fmt.Errorf("cannot write %s: %w", path, Cause(err))
		}
	}

	if err = verify(tmp.Name()); err != nil {
		return err
	}

	if err = os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}

	syncDir(dir)

	return nil
}

// named writes to a temporary file, and names the file that it becomes when that fails.
type named struct {
	file *os.File
	path string
}

// Write implements io.Writer.
func (n *named) Write(b []byte) (int, error) {
	written, err := n.file.Write(b)
	if err != nil {
		return written, fmt.Errorf("cannot write %s: %w", n.path, Cause(err))
	}

	return written, nil
}

// Cause is why an operation on a file failed, without the name of the file: that of a temporary file says nothing.
func Cause(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}

	return err
}

// WriteBytes is WriteFile for bytes in memory.
func WriteBytes(path string, mode fs.FileMode, content []byte) error {
	return WriteFile(path, mode, func(w io.Writer) error {
		_, err := w.Write(content)

		return err
	})
}

// syncDir makes the rename durable where the file system supports it; the file is complete either way.
func syncDir(dir string) {
	d, err := os.Open(dir) //nolint:gosec // G304: the folder of the file that was just written
	if err != nil {
		return
	}

	_ = d.Sync()  // some file systems cannot sync a directory
	_ = d.Close() // it was only read
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}

	return err
}
