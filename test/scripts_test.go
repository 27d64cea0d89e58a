// Package test runs whole command lines of the real binary against the simulated cluster.
package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// binaries are built once, by TestMain, from the source beside this test.
type binaries struct{ dir string }

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "talosmate-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}

	defer os.RemoveAll(dir)

	if given := os.Getenv("TALOSMATE_TEST_BIN"); given != "" { // programs that are already built
		return runWith(m, given)
	}

	talosmate := []string{"build", "-o", dir, "./cmd/talosmate"}
	if raceEnabled {
		talosmate = []string{"build", "-race", "-o", dir, "./cmd/talosmate"}
	}

	for _, b := range []struct {
		dir  string
		args []string
	}{{"..", talosmate}, {"../lab", []string{"build", "-o", dir, "./cmd/talosmate-lab"}}} {
		cmd := exec.Command("go", b.args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = b.dir, os.Stderr, os.Stderr

		if err := cmd.Run(); err != nil {
			fmt.Fprintf(os.Stderr, "cannot build in %s: %v\n", b.dir, err)

			return 1
		}
	}

	return runWith(m, dir)
}

// runWith runs the tests with the programs in a folder.
func runWith(m *testing.M, dir string) int {
	// The race detector's runtime sleeps a second at the exit of every program.
	for name, value := range map[string]string{"TALOSMATE_TEST_BIN": dir, "GORACE": "atexit_sleep_ms=20"} {
		if err := os.Setenv(name, value); err != nil {
			return 1
		}
	}

	// The test runner may ignore SIGHUP, as nohup does, and children would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)

	return m.Run()
}

func TestScripts(t *testing.T) {
	t.Parallel()

	b := binaries{dir: os.Getenv("TALOSMATE_TEST_BIN")}

	deadline, _ := t.Deadline()

	testscript.RunT(sighted{T: t}, testscript.Params{
		Deadline: deadline,
		Dir:      "scripts",
		Setup:    b.setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"lab":       b.lab,
			"imager":    imagerBed(t),
			"factory":   factoryServer(t),
			"code":      code,
			"same":      same,
			"interrupt": interrupted,
			"document":  document,
			"ctl":       ctl,
			"recipient": recipient,
			"decrypt":   decrypt,
			"leak":      leak,
			"bundle":    bundle,
			"asked-for": func(ts *testscript.TestScript, neg bool, args []string) { watchOf(ts).askedFor(ts, neg, args) },
		},
		ContinueOnError:     os.Getenv("CONT") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// setup gives every script an empty home, the built programs on PATH, and no terminal colours.
func (b binaries) setup(env *testscript.Env) error {
	env.Setenv("PATH", b.dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
	env.Setenv("TALOSMATE_LAB_DIR", filepath.Join(env.WorkDir, "lab"))
	env.Setenv("NO_COLOR", "1")
	env.Setenv("BIN", b.dir)
	env.Setenv("GORACE", os.Getenv("GORACE"))

	schemas, err := filepath.Abs("../docs/schemas")
	if err != nil {
		return err
	}

	env.Setenv("SCHEMAS", schemas)

	if err = os.MkdirAll(filepath.Join(env.WorkDir, "home"), 0o700); err != nil {
		return err
	}

	return env.T().(sighted).guard(env)
}

// lab [FLAGS] starts a cluster that ends with the script. It sets TALOSCONFIG, and for each node a variable
// with its address: CP_1, WORKER_2.
func (b binaries) lab(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: lab [FLAGS]")
	}

	dir := ts.Getenv("TALOSMATE_LAB_DIR")
	program := filepath.Join(b.dir, "talosmate-lab")

	up := append([]string{
		"up", "--detach", "--dir", dir, "--install-time", "300ms", "--shutdown-time", "200ms", "--boot-time", "700ms",
	}, args...)

	cmd := exec.Command(program, up...)

	var stderr strings.Builder

	cmd.Stderr = &stderr

	out, err := cmd.Output()
	if err != nil {
		ts.Fatalf("lab up: %v\n%s", err, stderr.String())
	}

	watchOf(ts).learnLab(dir)

	ts.Defer(func() {
		watchOf(ts).learnLab(dir) // what has been configured since

		if down, err := exec.Command(program, "down", "--dir", dir).CombinedOutput(); err != nil {
			ts.Logf("lab down: %v\n%s", err, down)
		}
	})

	var info struct {
		Talosconfig, Kubeconfig string
		Nodes                   []struct{ Name, Address string }
	}

	if err = json.Unmarshal(out, &info); err != nil {
		ts.Fatalf("lab up: %v\n%s", err, out)
	}

	ts.Setenv("TALOSCONFIG", info.Talosconfig)

	if info.Kubeconfig != "" {
		ts.Setenv("LAB_KUBECONFIG", info.Kubeconfig)
	}

	for _, n := range info.Nodes {
		ts.Setenv(strings.ToUpper(strings.ReplaceAll(n.Name, "-", "_")), n.Address)
	}
}

// code N PROGRAM ARGS... runs a program that must end with exactly this exit code. Its output is available to stdout,
// stderr and cmp afterwards.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N PROGRAM [ARGS]")
	}

	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("not an exit code: %s", args[0])
	}

	err = ts.Exec(args[1], args[2:]...)
	got := 0

	if err != nil {
		got = -1

		if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // testscript returns it unwrapped
			got = exit.ExitCode()
		}
	}

	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}

	fits(ts)
}

// fits checks that a document on the last program's stdout is what its schema says.
func fits(ts *testscript.TestScript) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(ts.ReadFile("stdout")))
	if err != nil {
		return // not JSON, or ndjson
	}

	m, _ := doc.(map[string]any)

	name, ok := m["schema"].(string)
	if !ok || m["generated_at"] == nil {
		return // the result of a query
	}

	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()

	schema, err := compiler.Compile(filepath.Join(ts.Getenv("SCHEMAS"), path.Base(name)+".json"))
	ts.Check(err)
	ts.Check(schema.Validate(doc))
}

// same TEXT compares the last program's stdout, without the last line end, with TEXT.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: same TEXT")
	}

	got := strings.TrimRight(ts.ReadFile("stdout"), "\n")
	if (got == args[0]) == neg {
		ts.Fatalf("stdout is %q, want %q (not: %t)", got, args[0], neg)
	}
}
