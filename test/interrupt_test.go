package test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// said is what a process has written so far.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.text.String()
}

const (
	phaseBegins = 30 * time.Second // For the phase to be reached.
	phaseEnds   = 15 * time.Second // From the signal to the process's end.
)

// interrupted is interrupt [-twice|-hup|-term] WHEN PROGRAM ARGS...: it runs a program and sends it SIGINT, SIGHUP or SIGTERM in one phase of its work. WHEN is a
// regular expression for what it says on stderr, held=NODE,... for an RPC that the lab's faults hold-request
// and hold-answer hold on one of these nodes, pulled=NODE for a pull that a node begins, or file=PATH for a file that there is. The exit code must be 130, and a document that
// was asked for must be one. Its output is there for stdout, stderr and document afterwards, and the holds are let go.
// With -twice it is interrupted until it ends, and must do so at once and write no document.
func interrupted(ts *testscript.TestScript, neg bool, args []string) {
	twice, signal := false, os.Interrupt

	if len(args) > 0 {
		switch args[0] {
		case "-twice":
			twice, args = true, args[1:]
		case "-hup":
			signal, args = syscall.SIGHUP, args[1:]
		case "-term":
			signal, args = syscall.SIGTERM, args[1:]
		}
	}

	if neg || len(args) < 2 {
		ts.Fatalf("usage: interrupt [-twice|-hup|-term] WHEN PROGRAM [ARGS]")
	}

	path, err := exec.LookPath(filepath.Join(ts.Getenv("BIN"), args[1]))
	ts.Check(err)

	var stdout, stderr said

	cmd := exec.Command(path, args[2:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), &stdout, &stderr
	cmd.Env, cmd.WaitDelay = scriptEnv(ts), time.Second // processes that it leaves running do not count

	reached := phase(ts, args[0], &stderr)
	ts.Check(cmd.Start())

	ended := make(chan error, 1)

	go func() { ended <- cmd.Wait() }()

	defer func() {
		_ = cmd.Process.Kill() // usually it has ended
		ts.Logf("stdout:\n%sstderr:\n%s", &stdout, &stderr)
	}()

	for began := time.Now(); !reached(); {
		select {
		case err := <-ended:
			ts.Fatalf("it ended before %q: %v", args[0], err)
		case <-time.After(10 * time.Millisecond):
		}

		if time.Since(began) > phaseBegins {
			ts.Fatalf("%q was not reached in %s", args[0], phaseBegins)
		}
	}

	ts.Check(cmd.Process.Signal(signal))

	again, began := time.NewTicker(100*time.Millisecond), time.Now()
	defer again.Stop()

	for running := true; running; {
		select {
		case err = <-ended:
			running = false
		case <-again.C:
			if twice {
				_ = cmd.Process.Signal(os.Interrupt) // it may end at this moment
			}

			if time.Since(began) > phaseEnds {
				ts.Fatalf("it still runs %s after the interruption", phaseEnds)
			}
		}
	}

	if got := cmd.ProcessState.ExitCode(); got != 130 {
		ts.Fatalf("exit code %d, want 130 (%v)", got, err)
	}

	switch out := stdout.String(); {
	case twice && (out != "" || time.Since(began) > 2*time.Second):
		ts.Fatalf("the second interruption let it work for %s", time.Since(began))
	case !twice && strings.Contains(" "+strings.Join(args, " ")+" ", " json ") && !json.Valid([]byte(out)):
		ts.Fatalf("stdout is no document")
	}

	publish(ts, stdout.String(), stderr.String())

	if nodes, ok := strings.CutPrefix(args[0], "held="); ok {
		// A request that is released before the lab has seen its caller disconnect would still be carried out.
		for began := time.Now(); noted(ts, nodes, "fault-left") < noted(ts, nodes, "fault-holds"); {
			if time.Since(began) > phaseEnds {
				ts.Fatalf("the lab still holds what was interrupted")
			}

			time.Sleep(10 * time.Millisecond)
		}

		for node := range strings.SplitSeq(nodes, ",") {
			for _, fault := range []string{"hold-request", "hold-answer"} {
				control(ts, map[string]any{"verb": "clear", "node": node, "params": map[string]string{"name": fault}}, nil)
			}
		}
	}
}

// phase returns the function that reports whether a phase is reached.
func phase(ts *testscript.TestScript, when string, stderr *said) func() bool {
	for prefix, event := range map[string]string{"held=": "fault-holds", "pulled=": "pull"} {
		if nodes, ok := strings.CutPrefix(when, prefix); ok {
			before := noted(ts, nodes, event)

			return func() bool { return noted(ts, nodes, event) > before }
		}
	}

	if file, ok := strings.CutPrefix(when, "file="); ok {
		return func() bool {
			_, err := os.Stat(ts.MkAbs(file))

			return err == nil
		}
	}

	pattern, err := regexp.Compile(when)
	ts.Check(err)

	return func() bool { return pattern.MatchString(stderr.String()) }
}

// noted counts the events of a kind in the timelines of nodes.
func noted(ts *testscript.TestScript, nodes, event string) int {
	n := 0

	for node := range strings.SplitSeq(nodes, ",") {
		var notes []struct{ Event string }

		control(ts, map[string]any{"verb": "timeline", "node": node}, &notes)

		for _, note := range notes {
			if note.Event == event {
				n++
			}
		}
	}

	return n
}

// control sends a request to the lab's control endpoint.
func control(ts *testscript.TestScript, request, answer any) {
	var lab struct{ Control string }

	raw, err := os.ReadFile(filepath.Join(ts.Getenv("TALOSMATE_LAB_DIR"), "lab.json"))
	ts.Check(err)
	ts.Check(json.Unmarshal(raw, &lab))

	body, err := json.Marshal(request)
	ts.Check(err)

	resp, err := http.Post(strings.TrimSuffix(lab.Control, "/")+"/ctl", "application/json", bytes.NewReader(body)) //nolint:noctx // it answers immediately
	ts.Check(err)

	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK {
		ts.Fatalf("the lab answers %s to %s", resp.Status, body)
	}

	if answer != nil {
		ts.Check(json.NewDecoder(resp.Body).Decode(answer))
	}
}

// scriptEnv is the environment of a script's programs.
func scriptEnv(ts *testscript.TestScript) []string {
	ts.Check(ts.Exec("env", "-0"))

	return strings.Split(strings.TrimRight(ts.ReadFile("stdout"), "\x00"), "\x00")
}

// publish makes the texts of the last program available.
func publish(ts *testscript.TestScript, stdout, stderr string) {
	ts.Check(os.WriteFile(ts.MkAbs(".stdout"), []byte(stdout), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(".stderr"), []byte(stderr), 0o600))
	ts.Check(ts.Exec("sh", "-c", "cat .stdout; cat .stderr >&2"))
}

// document EXPR checks a jq expression, which must be true, on the last program's stdout.
func document(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: document EXPR")
	}

	judge(ts, args[0], ts.ReadFile("stdout"))
	fits(ts)
}

// ctl EXPR ARGS... checks a jq expression, which must be true, on the output of `talosmate-lab ctl ARGS`.
func ctl(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: ctl EXPR ARGS...")
	}

	cmd := exec.Command(filepath.Join(ts.Getenv("BIN"), "talosmate-lab"), append([]string{"ctl"}, args[1:]...)...)
	cmd.Env = append(os.Environ(), "TALOSMATE_LAB_DIR="+ts.Getenv("TALOSMATE_LAB_DIR"))

	out, err := cmd.Output()
	ts.Check(err)

	judge(ts, args[0], string(out))
}

func judge(ts *testscript.TestScript, expr, text string) {
	jq := exec.Command("jq", "-e", expr)
	jq.Stdin = strings.NewReader(text)

	if out, err := jq.CombinedOutput(); err != nil {
		ts.Fatalf("%s: %v: %s\nof %s", expr, err, out, text)
	}
}
