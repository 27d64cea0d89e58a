package fsutil

import "errors"

// ErrLocked is what Lock ends with when another process, or another part of this one, holds the lock.
var ErrLocked = errors.New("it is locked")
