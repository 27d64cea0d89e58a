//go:build !unix

package fsutil

// Lock does nothing where files have no advisory locks.
func Lock(string) (release func(), err error) { return func() {}, nil }
