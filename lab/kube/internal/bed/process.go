package bed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// stopTime is how long a child may take to exit.
const stopTime = 3 * time.Second

// process is a child: one part of the control plane.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed after the child was waited for
	err  error         // how it ended, once done is closed
}

// launcher starts children.
type launcher struct {
	executable  string
	environment []string
	logDir      string
	forks       chan func()
}

// newLauncher forks all children from one thread that lives until the context ends. Linux sends a child its
// parent-death signal when the *thread* that started it ends, and Go may end threads at any time.
func newLauncher(ctx context.Context, executable string, environment []string, logDir string) *launcher {
	l := &launcher{executable: executable, environment: environment, logDir: logDir, forks: make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is this goroutine's
		for {
			select {
			case <-ctx.Done():
				return
			case f := <-l.forks:
				f()
			}
		}
	}()
	return l
}

// start runs the part called name. Its output is appended to a log of that name.
func (l *launcher) start(ctx context.Context, name string, args []string) (*process, error) {
	p := &process{name: name, log: filepath.Join(l.logDir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close() //nolint:errcheck // the child has its own descriptor
	// Not CommandContext: stop ends the children in order.
	p.cmd = exec.Command(l.executable, append([]string{name}, args...)...) //nolint:gosec,noctx // our own executable
	p.cmd.Env = append(os.Environ(), l.environment...)
	p.cmd.Stdout = out
	p.cmd.Stderr = out
	p.cmd.SysProcAttr = childAttributes()

	started := make(chan error, 1)
	select {
	case l.forks <- func() { started <- p.cmd.Start() }:
		err = <-started
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) signal(s syscall.Signal) error {
	err := p.cmd.Process.Signal(s)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// kill ends the child immediately and returns when it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL) //nolint:errcheck // it is our child: the signal can fail only when it is gone
	<-p.done
}

// stop asks the child to exit, and kills it after stopTime.
func (p *process) stop() {
	p.signal(syscall.SIGTERM) //nolint:errcheck // as in kill
	p.signal(syscall.SIGCONT) //nolint:errcheck // a stopped process receives no other signal
	t := time.NewTimer(stopTime)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
		p.kill()
	}
}

// failure describes how the child exited, with its last output.
func (p *process) failure() error {
	how := "ended"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%w: %s: %s (log %s)\n%s", ErrChildDied, p.name, how, p.log, tail(p.log, 20))
}

// tail returns the last lines of a file.
func tail(file string, lines int) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read
	const enough = 16 << 10
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		if _, err := f.Seek(max(end-enough, 0), io.SeekStart); err != nil {
			return ""
		}
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	all := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	all = all[max(len(all)-lines, 0):]
	return strings.ToValidUTF8(string(bytes.Join(all, []byte("\n"))), "?")
}
