//go:build unix && !linux

package bed

import "syscall"

// childAttributes put a child into a process group of its own, so that Ctrl-C
// in a terminal reaches the supervisor alone. A child notices the death of the
// supervisor by itself (WhenOrphaned).
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
