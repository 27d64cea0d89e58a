// Package seen is the report of the stub imager about its container.
package seen

// Prefix begins the line with the report.
const Prefix = "stub saw "

// Report is what the stub observed.
type Report struct {
	Args         []string          `json:"args"`
	UID          int               `json:"uid"`
	GID          int               `json:"gid"`
	Capabilities uint64            `json:"capabilities"` // The effective ones, as a bit set.
	HostDevices  bool              `json:"host_devices"` // Whether the host's /dev is there.
	Env          []string          `json:"env"`
	Files        map[string]string `json:"files"`    // SHA-256 of what was mounted.
	Writable     []string          `json:"writable"` // Which of these could be written.
	Signers      map[string]string `json:"signers"`  // The answer of the listener on a signer's socket.
	Document     string            `json:"document"` // The profile on stdin.
}

// Privileged reports whether it had more than a container's usual capabilities (CAP_SYS_ADMIN is bit 21).
func (r Report) Privileged() bool { return r.Capabilities&(1<<21) != 0 }
