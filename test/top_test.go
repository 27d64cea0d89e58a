//go:build unix

package test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
)

// screen is a program on a pseudo-terminal whose screen can be read.
type screen struct {
	t   *testing.T
	cmd *exec.Cmd
	tty *os.File

	mu       sync.Mutex
	terminal *vt.Emulator
	raw      strings.Builder
	changed  chan struct{}
	ended    chan struct{}
}

// onScreen starts a program on a terminal of a size.
func onScreen(t *testing.T, width, height int, env []string, name string, args ...string) *screen {
	t.Helper()

	cmd := exec.Command(name, args...)
	cmd.Env = append(append(os.Environ(), "TERM=xterm-256color", "NO_COLOR="), env...)

	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)})
	if err != nil {
		t.Fatal(err)
	}

	s := &screen{
		t: t, cmd: cmd, tty: tty, terminal: vt.NewEmulator(width, height), changed: make(chan struct{}, 1), ended: make(chan struct{}),
	}

	go func() { _, _ = io.Copy(tty, s.terminal) }() // What a terminal answers when it is asked.

	go func() {
		defer close(s.ended)

		chunk := make([]byte, 32<<10)

		for {
			n, err := tty.Read(chunk)

			s.mu.Lock()
			_, _ = s.terminal.Write(chunk[:n])
			s.raw.Write(chunk[:n])
			s.mu.Unlock()

			select {
			case s.changed <- struct{}{}:
			default:
			}

			if err != nil { // EIO: the program has ended
				return
			}
		}
	}()

	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = tty.Close()
	})

	return s
}

// lines are what the screen shows.
func (s *screen) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()

	return strings.Split(s.terminal.String(), "\n")
}

// written is everything that the program wrote.
func (s *screen) written() string {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.raw.String()
}

func (s *screen) alternate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.terminal.IsAltScreen()
}

// await waits until the screen shows what is wanted; the program then has at most a minute.
func (s *screen) await(what string, shown func(text string) bool) string {
	s.t.Helper()

	late := time.After(time.Minute)

	for {
		text := strings.Join(s.lines(), "\n")
		if shown(text) {
			return text
		}

		select {
		case <-s.changed:
		case <-late:
			s.t.Fatalf("the screen never shows %s:\n%s", what, text)
		}
	}
}

func (s *screen) awaitText(words ...string) string {
	s.t.Helper()

	return s.await(strings.Join(words, ", "), func(text string) bool {
		for _, w := range words {
			if !strings.Contains(text, w) {
				return false
			}
		}

		return true
	})
}

func (s *screen) press(keys string) {
	s.t.Helper()

	if _, err := io.WriteString(s.tty, keys); err != nil {
		s.t.Fatal(err)
	}
}

func (s *screen) resize(width, height int) {
	s.t.Helper()

	s.mu.Lock()
	s.terminal.Resize(width, height)
	s.mu.Unlock()

	if err := pty.Setsize(s.tty, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}); err != nil {
		s.t.Fatal(err)
	}
}

// exit waits for the end, and fails if the terminal is not as it was before.
func (s *screen) exit(want int) {
	s.t.Helper()

	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		s.t.Fatalf("it does not end:\n%s", strings.Join(s.lines(), "\n"))
	}

	_ = s.cmd.Wait()

	if code := s.cmd.ProcessState.ExitCode(); code != want {
		s.t.Errorf("exit code %d, want %d\n%s", code, want, strings.Join(s.lines(), "\n"))
	}

	if s.alternate() {
		s.t.Error("the alternate screen was not left")
	}

	raw := s.written()
	if shown, hidden := strings.LastIndex(raw, ansi.ShowCursor), strings.LastIndex(raw, ansi.HideCursor); shown < hidden {
		s.t.Error("the cursor is still hidden")
	}
}

func labFor(t *testing.T, args ...string) (dir string, ctl func(args ...string)) {
	t.Helper()

	dir = t.TempDir()
	run := func(args ...string) {
		t.Helper()

		cmd := exec.Command(filepath.Join(os.Getenv("TALOSMATE_TEST_BIN"), "talosmate-lab"), append([]string{"--dir", dir}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("lab %v: %v\n%s", args, err, out)
		}
	}

	run(append([]string{"up", "--detach"}, args...)...)
	t.Cleanup(func() { run("down") })

	return dir, func(args ...string) { t.Helper(); run(append([]string{"ctl"}, args...)...) }
}

func TestTop(t *testing.T) {
	t.Parallel()

	dir, ctl := labFor(t)
	program := filepath.Join(os.Getenv("TALOSMATE_TEST_BIN"), "talosmate")
	home := t.TempDir()
	env := []string{"TALOSCONFIG=" + filepath.Join(dir, "talosconfig"), "HOME=" + home}
	top := func(t *testing.T, width, height int, more ...string) *screen {
		t.Helper()

		return onScreen(t, width, height, append(env, more...), program, "top", "--interval", "200ms", "--timeout", "2s")
	}
	names := []string{"cp-1", "cp-2", "cp-3", "worker-1", "worker-2"}

	for _, size := range [][2]int{{80, 24}, {200, 60}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			s := top(t, size[0], size[1])
			text := s.awaitText(append(names, "5/5 ready", "leader", "follower", "CHECKS", "%", "healthy")...)

			if !s.alternate() {
				t.Error("it does not use the alternate screen")
			}

			t.Log("\n" + text)

			lines := strings.Split(text, "\n")
			if last := lines[len(lines)-1]; len(lines) != size[1] || !strings.Contains(last, "q quit") {
				t.Errorf("%d lines, want %d; the last is %q", len(lines), size[1], last)
			}

			for i, line := range lines {
				if w := ansi.StringWidth(strings.TrimRight(line, " ")); w > size[0] {
					t.Errorf("line %d is %d wide: %s", i, w, line)
				}
			}

			if wide := strings.Contains(text, "ADDRESS"); wide != (size[0] == 200) {
				t.Errorf("the columns do not fit the width:\n%s", text)
			}

			s.press("q")
			s.exit(0)
		})
	}

	t.Run("keys", func(t *testing.T) {
		s := top(t, 80, 24)
		s.awaitText(append(names, "5/5 ready")...)
		s.press("/work\r")
		s.await("the workers only", func(text string) bool {
			return strings.Contains(text, "worker-2") && !strings.Contains(text, "cp-1") && strings.Contains(text, `2 of 5 nodes`)
		})
		s.press("\x1b")
		s.awaitText(names...)
		s.press("s")
		s.awaitText("s sort: cpu", "CPU↓")
		s.press("?")
		s.awaitText("up, down, k, j", "suspend")
		s.press("q")
		s.awaitText("s sort: cpu")
		s.press("sssss/cp-2\r")
		s.await("one node", func(text string) bool { return strings.Contains(text, "1 of 5 nodes") })
		s.press("d")
		s.awaitText("Node:          cp-2", "Version:", "l logs")
		s.press("l")
		s.awaitText("cp-2  kubelet", "left/right service")
		s.press("\x1b[C")
		s.awaitText("cp-2  machined")
		s.press("q")
		s.awaitText("1 of 5 nodes")
		s.resize(200, 60)
		s.awaitText("ADDRESS", "1 of 5 nodes")
		s.resize(60, 10)
		s.await("ten lines of sixty columns", func(text string) bool {
			lines := strings.Split(text, "\n")

			return len(lines) == 10 && strings.Contains(lines[9], "1 of 5 nodes") && strings.Contains(text, "cp-2")
		})
		s.press("\x03")
		s.exit(130)
	})

	t.Run("terminated", func(t *testing.T) {
		s := top(t, 80, 24, "NO_COLOR=1")
		s.awaitText(append(names, "5/5 ready")...)

		if raw := s.written(); strings.Contains(raw, "\x1b[31m") || strings.Contains(raw, "\x1b[32m") {
			t.Error("NO_COLOR is not honoured")
		}

		if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}

		s.exit(130)
	})

	t.Run("suspended", func(t *testing.T) {
		s := top(t, 80, 24)
		s.awaitText(append(names, "5/5 ready")...)
		s.press("\x1a")
		s.await("the shell's screen", func(string) bool { return !s.alternate() })

		// The program leaves its screen before it stops: a signal that comes between is lost.
		for again := 0; !s.alternate() && again < 600; again++ {
			if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}

			<-time.After(100 * time.Millisecond)
		}

		s.await("top again", func(text string) bool { return s.alternate() && strings.Contains(text, "worker-2") })
		s.press("q")
		s.exit(0)
	})

	t.Run("a node is down", func(t *testing.T) {
		s := top(t, 200, 60)
		s.awaitText(append(names, "5/5 ready")...)
		ctl("power", "worker-2", "off")
		s.awaitText("4/5 ready", "no answer", "NOT healthy", "talos-api")
		ctl("power", "worker-2", "on")
		s.awaitText("5/5 ready")
		s.press("q")
		s.exit(0)
	})

	t.Run("without a terminal", func(t *testing.T) {
		cmd := exec.Command(program, "top")
		cmd.Env = append(os.Environ(), env...)

		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), "health --watch -o ndjson") {
			t.Errorf("exit code %d\n%s", code, out)
		}

		s := onScreen(t, 80, 24, append(env, "TERM=dumb"), program, "top")
		s.exit(2)

		if strings.Contains(s.written(), "\x1b") {
			t.Errorf("it draws on a dumb terminal: %q", s.written())
		}
	})
}
