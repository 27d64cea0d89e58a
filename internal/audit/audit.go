// Package audit appends two JSON lines per change to a file, when it begins and when it has ended, for those who must
// know later who did what.
package audit

import (
	"os/user"
	"slices"
	"strings"
	"time"
)

// The events of a change.
const (
	Begun = "begun" // Nothing was sent before this line was on the disk.
	Ended = "ended"
)

// Record is one line of the audit log.
type Record struct {
	ID         string    `json:"id"`                  // The same in both lines of a change.
	Event      string    `json:"event"`               // begun or ended; what was refused, and a dry run, has only the second.
	Time       time.Time `json:"time"`                // When that was.
	User       string    `json:"user"`                // Who ran it, on this machine.
	Context    string    `json:"context"`             // The talosconfig context.
	Nodes      []string  `json:"nodes"`               // The nodes that were named.
	Command    string    `json:"command"`             // The command's path.
	Arguments  []string  `json:"arguments"`           // Its arguments, secrets redacted.
	Overridden []string  `json:"gates_overridden"`    // The gates passed on purpose.
	DryRun     bool      `json:"dry_run"`             // Whether nothing was to be changed.
	Outcome    string    `json:"outcome,omitempty"`   // The exit code's name, once it has ended.
	ExitCode   *int      `json:"exit_code,omitempty"` // The exit code, once it has ended.
	Error      string    `json:"error,omitempty"`     // The error, if any.
}

func currentUser() string {
	u, err := user.Current()
	if err != nil {
		return "unknown"
	}

	return u.Username
}

// Redact hides the values of flags that hold secrets or whole configurations.
func Redact(args []string) []string {
	secret := []string{"--config-patch", "--patch", "-p", "--password", "--token"}
	out := slices.Clone(args)

	for i := range out {
		flag, _, joined := strings.Cut(out[i], "=")
		if !slices.Contains(secret, flag) {
			continue
		}

		if joined {
			out[i] = flag + "=REDACTED"
		} else if i+1 < len(out) && !strings.HasPrefix(out[i+1], "@") {
			out[i+1] = "REDACTED"
		}
	}

	return out
}
