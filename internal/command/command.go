// Package command runs a command of the user's in a shell: a gate before a node, or what is done around it.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// politeness is how long a command may take to end after it was asked to, and its output to end after it.
const politeness = 2 * time.Second

// kept is how much of a command's output is kept, and of its last line.
const (
	kept     = 4 << 10
	keptLine = 300
)

// ErrFailed is wrapped by the error of a command that ran and failed.
var ErrFailed = errors.New("the command failed")

// notFound is the exit status of a shell that did not find the command.
const notFound = 127

// Run runs text with `sh -c`, with the facts (NAME=VALUE) in addition to this program's environment, and with the input as
// JSON on standard input. It returns the last line that the command wrote. A command that ran and failed is ErrFailed; when ctx
// ends, the command ends with all that it started, and the error is the context's cause.
func Run(ctx context.Context, text string, facts []string, input any) (last string, err error) {
	raw, err := json.Marshal(input)
	if err != nil {
		return "", fmt.Errorf("cannot encode the command's input: %w", err)
	}

	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}

	var out tail

	cmd := exec.CommandContext(ctx, "sh", "-c", text) //nolint:gosec // G204: what the user wrote; what nodes say is on its stdin and in variables, never in the text
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(string(raw)+"\n"), &out, &out
	cmd.Env = append(cmd.Environ(), facts...)
	cmd.SysProcAttr = OwnGroup()
	cmd.Cancel = func() error { return signalGroup(cmd.Process, syscall.SIGTERM) }
	cmd.WaitDelay = politeness

	err = cmd.Run()

	var exit *exec.ExitError

	switch {
	case ctx.Err() != nil:
		if cmd.Process != nil {
			_ = signalGroup(cmd.Process, syscall.SIGKILL) // what ignored the first signal; most often nothing is left
		}

		return out.line(), context.Cause(ctx)
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it succeeded, and left something running
		return out.line(), nil
	case errors.As(err, &exit) && exit.ExitCode() != notFound:
		return out.line(), fmt.Errorf("%w: %w%s", ErrFailed, err, out.suffix())
	default:
		return out.line(), fmt.Errorf("cannot run the command: %w%s", err, out.suffix())
	}
}

// tail keeps the end of what is written to it. The command's two streams are one file, so that no two writes overlap.
type tail struct{ text []byte }

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-kept):]

	return len(p), nil
}

func (t *tail) line() string {
	lines := strings.FieldsFunc(string(t.text), func(r rune) bool { return r == '\n' || r == '\r' })
	lines = slices.DeleteFunc(lines, func(s string) bool { return strings.TrimSpace(s) == "" })

	if len(lines) == 0 {
		return ""
	}

	last := strings.TrimSpace(lines[len(lines)-1])

	return strings.ToValidUTF8(last[:min(keptLine, len(last))], "")
}

func (t *tail) suffix() string {
	if line := t.line(); line != "" {
		return ": " + line
	}

	return ""
}
