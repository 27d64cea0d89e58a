// Package annotation writes errors and findings in the form that a CI system shows beside a run or a file.
package annotation

import (
	"fmt"
	"strings"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/redact"
)

// The forms that there are, and how a finding counts in them.
const (
	GitHub = "github"

	Error   = "error"
	Warning = "warning"
)

// Finding is one thing that somebody should see.
type Finding struct {
	Severity string // Error or Warning.
	Title    string // What found it, in a few words.
	Message  string // What was found. Secrets in it are redacted.
	File     string // The file that it is about, where known; - (stdin) counts as none.
	Line     int    // The line in it, from 1; 0 where unknown.
}

// Command is the finding as a workflow command of GitHub, without the line end: one line, whatever the finding holds.
// https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
func (f Finding) Command() string {
	var properties []string

	if f.File != "" && f.File != "-" {
		properties = append(properties, "file="+property(f.File))

		if f.Line > 0 {
			properties = append(properties, fmt.Sprintf("line=%d", f.Line))
		}
	}

	if f.Title != "" {
		properties = append(properties, "title="+property(f.Title))
	}

	command := f.Severity
	if len(properties) > 0 {
		command += " " + strings.Join(properties, ",")
	}

	return "::" + command + "::" + data(f.Message)
}

// data escapes a message, which may have several lines; each is neutral on a terminal.
func data(s string) string {
	lines := strings.Split(redact.Message(s), "\n")
	for i := range lines {
		lines[i] = iostreams.Line(lines[i])
	}

	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(strings.Join(lines, "\n"))
}

func property(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(data(s))
}
