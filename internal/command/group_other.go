//go:build !unix

package command

import (
	"os"
	"syscall"
)

// OwnGroup starts a process as any other.
func OwnGroup() *syscall.SysProcAttr { return nil }

func signalGroup(p *os.Process, _ syscall.Signal) error { return p.Kill() }
