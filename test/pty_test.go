//go:build unix

package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// terminal runs a command line on a pseudo-terminal of its own, in a directory; after the prompt, answer is typed. It
// returns the exit code and the output.
func terminal(t *testing.T, dir string, env []string, answer string, args ...string) (int, string) {
	t.Helper()

	cmd := exec.Command(filepath.Join(os.Getenv("TALOSMATE_TEST_BIN"), "talosmate"), args...)
	cmd.Env, cmd.Dir = append(os.Environ(), env...), dir

	tty, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}

	defer tty.Close() //nolint:errcheck // the program has ended by then

	deadline := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer deadline.Stop()

	var shown bytes.Buffer

	for asked := false; ; {
		chunk := make([]byte, 4096)
		n, err := tty.Read(chunk)
		shown.Write(chunk[:n])

		if !asked && strings.Contains(shown.String(), "to continue: ") {
			asked = true

			if _, err := io.WriteString(tty, answer); err != nil {
				t.Fatal(err)
			}
		}

		if err != nil { // EIO: the program has ended and closed the terminal
			break
		}
	}

	err = cmd.Wait()

	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}

	return cmd.ProcessState.ExitCode(), shown.String()
}

// awaitLeader waits until etcd has a leader again: the node that was switched off may have been the leader.
func awaitLeader(t *testing.T, dir string) {
	t.Helper()

	for range 100 {
		if exec.Command(filepath.Join(os.Getenv("TALOSMATE_TEST_BIN"), "talosmate-lab"), "--dir", dir, "ctl", "etcd", "leader").Run() == nil {
			return
		}

		<-time.After(100 * time.Millisecond)
	}

	t.Fatal("etcd has no leader")
}

// newMachine finds the address of the machine in maintenance mode and makes a control plane's configuration for it.
func newMachine(t *testing.T, nodes []byte, dir string) (address, config string) {
	t.Helper()

	var all []struct{ Name, Address string }
	if err := json.Unmarshal(nodes, &all); err != nil {
		t.Fatal(err)
	}

	for _, n := range all {
		if n.Name == "new-1" {
			address = n.Address
		}
	}

	cmd := exec.Command(filepath.Join(os.Getenv("TALOSMATE_TEST_BIN"), "talosmate"), "machineconfig", "get", "-n", "cp-1", "--show-secrets")
	cmd.Env = append(os.Environ(), "TALOSCONFIG="+filepath.Join(dir, "talosconfig"), "HOME="+dir)

	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}

	config = filepath.Join(dir, "new-1.yaml")
	if err = os.WriteFile(config, bytes.ReplaceAll(text, []byte("hostname: cp-1"), []byte("hostname: new-1")), 0o600); err != nil {
		t.Fatal(err)
	}

	return address, config
}

// newProject makes a project that contains the lab's talosconfig.
func newProject(t *testing.T, dir string) string {
	t.Helper()

	project := filepath.Join(dir, "project")
	if err := os.MkdirAll(filepath.Join(project, ".git"), 0o700); err != nil {
		t.Fatal(err)
	}

	text, err := os.ReadFile(filepath.Join(dir, "talosconfig"))
	if err != nil {
		t.Fatal(err)
	}

	if err = os.WriteFile(filepath.Join(project, "talosconfig"), text, 0o600); err != nil {
		t.Fatal(err)
	}

	return project
}

// TestConfirmation runs every destructive command on a terminal and without one.
func TestConfirmation(t *testing.T) {
	t.Parallel()

	bin := os.Getenv("TALOSMATE_TEST_BIN")
	running, empty := t.TempDir(), t.TempDir() // A cluster, and one whose etcd was never started.
	dir := running
	lab := func(args ...string) []byte {
		t.Helper()

		cmd := exec.Command(filepath.Join(bin, "talosmate-lab"), append([]string{"--dir", dir}, args...)...)
		cmd.Stderr = os.Stderr

		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("lab %v: %v", args, err)
		}

		return out
	}

	for in, flags := range map[string][]string{running: {"--maintenance", "1"}, empty: {"--unbootstrapped", "--controlplanes", "1", "--workers", "0", "--lvm"}} {
		dir = in

		lab(append([]string{"up", "--detach", "--boot-time", "700ms", "--shutdown-time", "200ms"}, flags...)...)
	}

	t.Cleanup(func() {
		for _, in := range []string{running, empty} {
			dir = in

			lab("down")
		}
	})

	dir = running
	spare, config := newMachine(t, lab("ctl", "nodes"), running)

	// In this order each can be carried out. What is typed is the node's or the member's name.
	destructive := []struct {
		path, name string
		args       []string
		before     []string // The preparation in the lab.
		in         string
		questions  int // How many requests without effect are counted as changes: dry runs that look at a machine.
	}{
		{"bootstrap", "cp-1", []string{"-n", "cp-1"}, nil, empty, 0},
		{"storage remove", "cp-1", []string{"raid", "mirror", "-n", "cp-1"}, nil, empty, 0},
		{"node wipe", "worker-1", []string{"sdb", "-n", "worker-1"}, nil, running, 0},
		{"node reset", "worker-2", []string{"-n", "worker-2", "--silence", "5s"}, nil, running, 0},
		{"node remove", "worker-1", []string{"-n", "worker-1", "--silence", "5s"}, nil, running, 0},
		{"node replace", "cp-3", []string{"cp-3", "--with", spare, "-f", config}, []string{"ctl", "power", "cp-3", "off"}, running, 3},
		{"etcd remove-member", "new-1", []string{"new-1"}, []string{"ctl", "power", "new-1", "off"}, running, 0},
		{"etcd leave", "cp-2", []string{"-n", "cp-2"}, nil, running, 0},
	}

	// A talosconfig in the project may be the wrong one: the prompt asks for the cluster's name, not the node's.
	project := newProject(t, running)
	env := []string{"TALOSCONFIG=", "HOME=" + dir, "NO_COLOR=1"}

	for answer, want := range map[string]int{"worker-1\r": 5, "\x03": 130, "lab\r": 0} {
		code, shown := terminal(t, project, env, answer, "node", "wipe", "sdb", "-n", "worker-1")
		if code != want || !strings.Contains(shown, filepath.Join(project, "talosconfig")) {
			t.Errorf("project talosconfig, %q typed: exit code %d, want %d\n%s", answer, code, want, shown)
		}
	}

	known := map[string]bool{}

	for _, d := range destructive {
		known[d.path], dir = true, d.in
		env := []string{"TALOSCONFIG=" + filepath.Join(dir, "talosconfig"), "HOME=" + dir, "NO_COLOR=1"}
		args := append(strings.Fields(d.path), d.args...)

		if d.before != nil {
			lab(d.before...)
			awaitLeader(t, dir)
		}

		lab("ctl", "requests", "--reset")

		if code, shown := terminal(t, dir, env, "something-else\r", args...); code != 5 || !strings.Contains(shown, "TM112") {
			t.Errorf("%s, the wrong name: exit code %d\n%s", d.path, code, shown)
		}

		if code, shown := terminal(t, dir, env, "\r", args...); code != 5 {
			t.Errorf("%s, nothing typed: exit code %d\n%s", d.path, code, shown)
		}

		if code, shown := terminal(t, dir, env, "\x03", args...); code != 130 {
			t.Errorf("%s, Ctrl-C: exit code %d\n%s", d.path, code, shown)
		}

		cmd := exec.Command(filepath.Join(bin, "talosmate"), args...)
		cmd.Env = append(os.Environ(), env...)

		if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 5 || !strings.Contains(string(out), "TM112") {
			t.Errorf("%s, no terminal: %v\n%s", d.path, err, out)
		}

		var sent struct {
			Mutations int `json:"mutations"`
		}

		if err := json.Unmarshal(lab("ctl", "requests"), &sent); err != nil || sent.Mutations != d.questions {
			t.Errorf("%s: %d changes were sent without confirmation, %v", d.path, sent.Mutations, err)
		}

		if code, shown := terminal(t, dir, env, d.name+"\r", args...); code != 0 {
			t.Errorf("%s, the right name: exit code %d\n%s", d.path, code, shown)
		}
	}

	// A destructive command that is not in the table above fails here.
	out, err := exec.Command(filepath.Join(bin, "talosmate"), "commands", "-o", "json").Output()
	if err != nil {
		t.Fatal(err)
	}

	var catalogue struct {
		Items []struct {
			Path, Kind string
			Offline    bool
			Local      bool
		} `json:"items"`
	}

	if err = json.Unmarshal(out, &catalogue); err != nil {
		t.Fatal(err)
	}

	for _, c := range catalogue.Items {
		if path := strings.TrimPrefix(c.Path, "talosmate "); c.Kind == "destructive" && !known[path] {
			t.Errorf("%q is destructive and not in this test's table", path)
		}
	}
}
