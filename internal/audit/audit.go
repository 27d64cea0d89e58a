// Package audit appends one JSON line per change to a file, for those who must know later who did what.
package audit

import (
	"encoding/json"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"
)

// Record is one line of the audit log.
type Record struct {
	Time       time.Time `json:"time"`             // When the change ended.
	User       string    `json:"user"`             // Who ran it, on this machine.
	Context    string    `json:"context"`          // The talosconfig context.
	Nodes      []string  `json:"nodes"`            // The nodes that were named.
	Command    string    `json:"command"`          // The command's path.
	Arguments  []string  `json:"arguments"`        // Its arguments, secrets redacted.
	Overridden []string  `json:"gates_overridden"` // The gates passed on purpose.
	DryRun     bool      `json:"dry_run"`          // Whether nothing was to be changed.
	Outcome    string    `json:"outcome"`          // The exit code's name.
	ExitCode   int       `json:"exit_code"`        // The exit code.
	Error      string    `json:"error,omitempty"`  // The error, if any.
}

// Append writes one line, creating the file with mode 0600.
func Append(path string, r Record) error {
	if r.User == "" {
		r.User = currentUser()
	}

	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("cannot encode the audit record: %w", err)
	}

	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the audit log: %w", err)
	}

	_, err = f.Write(append(line, '\n'))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}

	if err != nil {
		return fmt.Errorf("cannot write the audit log: %w", err)
	}

	return nil
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
