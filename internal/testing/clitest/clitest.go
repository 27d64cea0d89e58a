// Package clitest runs whole command lines in process and returns what a user would see.
package clitest

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/app"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/testing/golden"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

// Result is the outcome of one command line.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Run runs a command line with no terminal, an empty stdin and only the given environment (KEY=VALUE).
func Run(t *testing.T, env []string, args ...string) Result {
	t.Helper()

	return RunContext(t, context.Background(), strings.NewReader(""), env, args...)
}

// RunContext is Run with a context and a stdin.
func RunContext(t *testing.T, ctx context.Context, in io.Reader, env []string, args ...string) Result { //nolint:revive // t comes first in test helpers
	t.Helper()

	var out, errOut bytes.Buffer

	home := t.TempDir()
	io := &iostreams.Streams{
		In: in, Out: &out, Err: &errOut, Width: 80,
		Env: func(key string) (string, bool) {
			for _, kv := range env {
				if k, v, _ := strings.Cut(kv, "="); k == key {
					return v, true
				}
			}

			// Tests do not depend on speed.
			defaults := map[string]string{"HOME": home, "TALOSMATE_COMPLETION_TIMEOUT": "5m"}
			value, set := defaults[key]

			return value, set
		},
	}

	code := app.Run(ctx, args, io)

	return Result{Stdout: out.String(), Stderr: errOut.String(), Code: code}
}

// Recorded is one command line over a recorded cluster and its expected outcome. The output is compared with
// testdata/NAME.golden.
type Recorded struct {
	Name     string            // The golden file.
	Version  string            // The recordings, talos-v1.13.8 by default.
	Variants map[string]string // Which variant of a recording, per method.
	Roles    []string          // The certificate's roles, os:admin by default.
	Args     []string
	Code     int      // The exit code.
	Stderr   []string // What stderr must contain.
}

// Test runs every case as a subtest.
func Test(t *testing.T, cases []Recorded) {
	t.Helper()

	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()

			if c.Version == "" {
				c.Version = "talos-v1.13.8"
			}

			if c.Roles == nil {
				c.Roles = []string{"os:admin"}
			}

			server := replay.Start(t, c.Version, c.Variants)
			got := Run(t, []string{"TALOSCONFIG=" + server.Talosconfig(t, c.Roles...)}, c.Args...)

			if got.Code != c.Code {
				t.Errorf("exit code %d, want %d\nstderr: %s", got.Code, c.Code, got.Stderr)
			}

			for _, want := range c.Stderr {
				if !strings.Contains(got.Stderr, want) {
					t.Errorf("stderr does not contain %q:\n%s", want, got.Stderr)
				}
			}

			golden.Assert(t, c.Name, []byte(got.Stdout))
		})
	}
}
