package kube

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// ThisHolder is this process as the holder of a lock or a cordon.
func ThisHolder(command string) Holder {
	h := Holder{Name: "unknown", Command: command, Process: Process{PID: os.Getpid()}}

	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}

	if u, err := user.Current(); err == nil {
		h.Name = u.Username
	}

	h.Name += "@" + host

	// A process ID is unique only within its namespace, which Linux names.
	if space, err := os.Readlink("/proc/self/ns/pid"); err == nil {
		h.Process.Space = space
		h.Process.Alive = func(pid int) bool {
			_, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid)))

			return err == nil
		}
	}

	return h
}

// Reason is the text of a cordon: the purpose, the user, and the details.
func (h Holder) Reason(purpose, what string) string {
	return fmt.Sprintf("%s by %s: %s", purpose, h.Name, what)
}
