//go:build unix

package command

import (
	"os"
	"syscall"
)

// OwnGroup starts a process in a group of its own, so that Ctrl-C in a terminal reaches only this program.
func OwnGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func signalGroup(p *os.Process, s syscall.Signal) error { return syscall.Kill(-p.Pid, s) }
