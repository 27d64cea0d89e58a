//go:build unix

package fsutil

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Lock takes the lock of a file without waiting, and creates the file if it is missing. The lock ends with release or
// with the process. If somebody else holds it, the error is ErrLocked.
func Lock(path string) (release func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // G304: a lock file in our own state directory, by a safe name
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}

	if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written

		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrLocked
		}

		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}

	return func() { _ = f.Close() }, nil // closing releases it
}
