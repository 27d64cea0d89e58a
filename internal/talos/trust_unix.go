//go:build unix

package talos

import (
	"fmt"
	"os"
	"syscall"
)

// distrust says why a talosconfig found in a project folder must not be used: somebody else could have
// put it there and so choose the cluster that commands act on.
func distrust(path string) string {
	info, err := os.Lstat(path)
	if err != nil {
		return err.Error()
	}

	if !info.Mode().IsRegular() {
		return "it is not a regular file"
	}

	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Getuid() {
		return fmt.Sprintf("it belongs to another user (uid %d)", stat.Uid)
	}

	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Sprintf("others may write it (mode %04o)", info.Mode().Perm())
	}

	return ""
}
