//go:build unix

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// distrust returns the reason why a talosconfig found in a project folder must not be used: somebody else could have
// put it there and so select the cluster that commands change.
func distrust(path string) string {
	info, err := os.Lstat(path)
	if err != nil {
		return err.Error()
	}

	if !info.Mode().IsRegular() {
		return "it is not a regular file"
	}

	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err.Error()
	}

	if uid := owner(info); uid != os.Getuid() {
		return fmt.Sprintf("it belongs to another user (uid %d)", uid)
	}

	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Sprintf("others may write it (mode %04o)", info.Mode().Perm())
	}

	// Who may write the directory can replace the file. Root can anyway.
	if uid := owner(dir); uid != os.Getuid() && uid != 0 {
		return fmt.Sprintf("its directory belongs to another user (uid %d)", uid)
	}

	if dir.Mode().Perm()&0o022 != 0 {
		return fmt.Sprintf("others may write its directory (mode %04o)", dir.Mode().Perm())
	}

	return ""
}

// owner is the user ID of a file, -1 when it is not known.
func owner(info os.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}

	return -1
}
