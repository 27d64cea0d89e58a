//go:build !unix

package container

import "syscall"

func ownGroup() *syscall.SysProcAttr { return nil }
