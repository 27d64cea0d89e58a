//go:build unix

package imager_test

import (
	"io"
	"io/fs"
	"syscall"
)

type readCloser = io.ReadCloser

// ownerOf is the user who owns a file.
func ownerOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}

	return -1
}
