package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/talosmate/talosmate/internal/command"
	"github.com/talosmate/talosmate/internal/errs"
)

// Mount binds a path of this machine into a container.
type Mount struct {
	Source   string
	Target   string
	ReadOnly bool
}

// Spec is one container that runs until it exits and is then removed.
type Spec struct {
	Name       string // Unique; a container of this name is removed after an interruption.
	Image      string
	Args       []string
	Mounts     []Mount
	Env        []string // KEY=VALUE, in order.
	User       string   // UID:GID, empty for the image's own.
	Network    string   // Empty for the engine's default.
	Privileged bool     // All capabilities and devices, which only loop devices need.
	Unconfined bool     // No SELinux label, so that a bound directory can be written without relabelling it.
	Stdin      io.Reader
}

// Argv is the command line for a container, the engine's name first.
func (e *Engine) Argv(s Spec) []string {
	out := []string{e.Name, "run", "--rm"}

	if s.Name != "" {
		// The image was pulled before, with better error messages.
		out = append(out, "--name", s.Name, "--pull", "never")
	}

	if s.Stdin != nil {
		out = append(out, "-i")
	}

	if s.Privileged {
		out = append(out, "--privileged")
	} else if s.Unconfined {
		out = append(out, "--security-opt", "label=disable")
	}

	if s.User != "" {
		out = append(out, "--user", s.User)
	}

	if s.Network != "" {
		out = append(out, "--network", s.Network)
	}

	for _, m := range s.Mounts {
		out = append(out, m.flag()...)
	}

	for _, kv := range s.Env {
		out = append(out, "-e", kv)
	}

	return append(append(out, s.Image), s.Args...)
}

// flag uses -v, which everybody knows; a path with a colon needs the long form.
func (m Mount) flag() []string {
	if strings.Contains(m.Source, ":") {
		long := "type=bind,source=" + m.Source + ",target=" + m.Target
		if m.ReadOnly {
			long += ",readonly"
		}

		return []string{"--mount", long}
	}

	short := m.Source + ":" + m.Target
	if m.ReadOnly {
		short += ":ro"
	}

	return []string{"-v", short}
}

// ExitError is a container that exited with a status other than zero.
type ExitError struct {
	Status int
	Output string // The last lines that it wrote.
	last   string
}

// Error implements error with the last line that the container wrote.
func (e *ExitError) Error() string { return fmt.Sprintf("%s (exit status %d)", e.last, e.Status) }

// Run runs a container until it exits. progress is called with each line that it writes. When ctx ends, the container
// is stopped and removed before Run returns the cause of ctx, joined with the error if it could not be removed.
func (e *Engine) Run(ctx context.Context, s Spec, progress func(string)) error {
	stop := func(ctx context.Context) error { return e.remove(ctx, s.Name) }

	said, err := e.stream(ctx, s.Stdin, progress, stop, e.Argv(s)[1:]...)
	if err == nil {
		return nil
	}

	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), stopError(err))
	}

	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &ExitError{Status: exit.ExitCode(), Output: said.text(), last: lastLine(said.text(), err)}
	}

	return fmt.Errorf("cannot run %s: %w", e.Name, err)
}

// errLeft marks a container that an interruption left behind.
var errLeft = errors.New("the container could not be removed")

func stopError(err error) error {
	if errors.Is(err, errLeft) {
		return err
	}

	return nil
}

// remove stops and removes a container and verifies that it is gone. A container that does not exist counts as removed.
func (e *Engine) remove(ctx context.Context, name string) error {
	_, err := e.output(ctx, "rm", "-f", name)
	if _, inspectErr := e.output(ctx, "container", "inspect", "--format", "{{.Id}}", name); inspectErr != nil && ctx.Err() == nil {
		return nil
	}

	if err == nil {
		err = errors.New("it still exists")
	}

	return (&errs.Error{Exit: errs.Failed, Err: fmt.Errorf("%w: %s: %w", errLeft, name, err)}).
		WithHint("remove it with `%s rm -f %s`", e.Name, name)
}

// How long an interrupted engine may take to exit and to remove what it created.
const (
	politeness = 3 * time.Second
	removal    = 20 * time.Second
)

// stream runs a command in a process group of its own, so that Ctrl-C reaches only this process. When ctx ends, the
// command is interrupted, stop is called, and then the command is killed. stop is called again to remove what the
// engine created meanwhile.
func (e *Engine) stream(ctx context.Context, stdin io.Reader, progress func(string), stop func(context.Context) error, args ...string) (*tail, error) {
	said := &tail{progress: progress}

	if ctx.Err() != nil {
		return said, context.Cause(ctx)
	}

	cmd := exec.Command(e.Path, args...) //nolint:gosec,noctx // G204: the container engine that the user chose or that is on PATH, without a shell; ended below: interrupted first, then killed
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, said, said
	cmd.SysProcAttr = command.OwnGroup()
	cmd.WaitDelay = politeness

	if err := cmd.Start(); err != nil {
		return said, fmt.Errorf("cannot start %s: %w", e.Name, err)
	}

	done := make(chan error, 1)

	go func() { done <- cmd.Wait() }()

	select {
	case err := <-done:
		said.flush()

		return said, err
	case <-ctx.Done():
	}

	return said, e.interrupt(ctx, cmd, done, stop)
}

func (e *Engine) interrupt(ctx context.Context, cmd *exec.Cmd, done <-chan error, stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removal)
	defer cancel()

	if stop == nil {
		stop = func(context.Context) error { return nil }
	}

	// The engine passes the signal to a running container, and cancels a pull or a creation.
	_ = cmd.Process.Signal(syscall.SIGINT)

	timer := time.NewTimer(politeness)
	defer timer.Stop()

	var err error

	select {
	case err = <-done:
	case <-timer.C:
		// The container ignores the signal; removing it ends the command too.
		_ = stop(ctx)

		timer.Reset(politeness)

		select {
		case err = <-done:
		case <-timer.C:
			_ = cmd.Process.Kill()
			err = <-done
		}
	}

	if err == nil {
		err = errors.New("interrupted")
	}

	return errors.Join(err, stop(ctx))
}

// tail keeps the last lines that a command wrote and passes each on. Both streams of the command write to it.
type tail struct {
	mu       sync.Mutex
	progress func(string)
	partial  []byte
	lines    []string
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.partial = append(t.partial, p...)

	for {
		i := bytes.IndexAny(t.partial, "\r\n")
		if i < 0 {
			return len(p), nil
		}

		t.line(string(t.partial[:i]))
		t.partial = t.partial[i+1:]
	}
}

func (t *tail) line(s string) {
	const keep = 40

	if s = strings.TrimSpace(s); s == "" {
		return
	}

	t.lines = append(t.lines, s)
	if len(t.lines) > keep {
		t.lines = t.lines[1:]
	}

	if t.progress != nil {
		t.progress(s)
	}
}

func (t *tail) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.line(string(t.partial))
	t.partial = nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()

	return strings.Join(append(append([]string{}, t.lines...), string(t.partial)), "\n")
}
