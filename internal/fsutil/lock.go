package fsutil

import "errors"

// ErrLocked is returned by Lock when another process, or another part of this one, holds the lock.
var ErrLocked = errors.New("it is locked")
