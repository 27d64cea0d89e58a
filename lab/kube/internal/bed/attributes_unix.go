//go:build unix && !linux

package bed

import "syscall"

// childAttributes puts a child into a process group of its own, so that Ctrl-C in a terminal reaches only the
// supervisor. A child detects the death of the supervisor itself (WhenOrphaned).
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
