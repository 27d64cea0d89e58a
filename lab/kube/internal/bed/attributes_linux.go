package bed

import "syscall"

// childAttributes put a child into a process group of its own, so that Ctrl-C
// in a terminal reaches the supervisor alone, and let the kernel kill it when
// the supervisor dies, even while the child is stopped.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
