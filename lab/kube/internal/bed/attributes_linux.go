package bed

import "syscall"

// childAttributes puts a child into a process group of its own, so that Ctrl-C in a terminal reaches only the
// supervisor, and lets the kernel kill it when the supervisor dies, even while the child is stopped.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
