// Package audit writes the audit log: one JSON line before and one after each change.
package audit

import (
	"os/user"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/redact"
)

// The events of a change.
const (
	Begun = "begun" // Nothing was sent before this line was on the disk.
	Ended = "ended"
)

// Record is one line of the audit log.
type Record struct {
	ID         string    `json:"id"`                  // The same in both lines of a change.
	Event      string    `json:"event"`               // begun or ended; a refused change and a dry run have only ended.
	Time       time.Time `json:"time"`                // When the event happened.
	User       string    `json:"user"`                // Who ran it, on this machine.
	Context    string    `json:"context"`             // The talosconfig context.
	Nodes      []string  `json:"nodes"`               // The nodes that were named.
	Command    string    `json:"command"`             // The command's path.
	Arguments  []string  `json:"arguments"`           // Its arguments, secrets redacted.
	Overridden []string  `json:"gates_overridden"`    // The gates passed on purpose.
	DryRun     bool      `json:"dry_run"`             // Whether it was a dry run.
	Outcome    string    `json:"outcome,omitempty"`   // The exit code's name, once it has ended.
	ExitCode   *int      `json:"exit_code,omitempty"` // The exit code, once it has ended.
	Error      string    `json:"error,omitempty"`     // The error, if any.
}

// User is who runs the program, on this machine.
func User() string {
	u, err := user.Current()
	if err != nil {
		return "unknown"
	}

	return u.Username
}

// Redact hides the values of flags that hold commands, inline text or secrets, and secrets in all other arguments.
func Redact(args []string) []string {
	whole := regexp.MustCompile(`(?i)^(?:-p|--(?:patch|[a-z-]*config-patch[a-z-]*|gate-command|before-node|after-node|on-end|kernel-arg|meta|overlay-option|[a-z-]*(?:password|token)))$`)
	out := slices.Clone(args)

	for i := range out {
		flag, _, joined := strings.Cut(out[i], "=")

		switch {
		case !whole.MatchString(flag):
			out[i] = redact.KernelArgs(out[i])
		case joined:
			out[i] = flag + "=" + redact.Hidden
		case i+1 < len(out) && !strings.HasPrefix(out[i+1], "@"):
			out[i+1] = redact.Hidden
		}
	}

	return out
}
