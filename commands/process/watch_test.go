package process_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/app"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

// untilSeen interrupts when the output holds a text so many times.
type untilSeen struct {
	bytes.Buffer

	text      string
	times     int
	interrupt context.CancelCauseFunc
}

func (u *untilSeen) Write(p []byte) (int, error) {
	n, err := u.Buffer.Write(p)
	if strings.Count(u.String(), u.text) >= u.times {
		u.interrupt(errs.New(errs.Interrupted, "interrupted by interrupt"))
	}

	return n, err
}

// WriteString implements io.StringWriter: the buffer's own would not look.
func (u *untilSeen) WriteString(s string) (int, error) { return u.Write([]byte(s)) }

func watch(t *testing.T, text string, times int, tty bool, args ...string) (stdout, stderr string, code int) {
	t.Helper()

	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)

	out := &untilSeen{text: text, times: times, interrupt: cancel}
	home := t.TempDir()
	config := replay.Start(t, "talos-v1.13.8", nil).Talosconfig(t, "os:reader")

	var errOut bytes.Buffer

	code = app.Run(ctx, append([]string{"processes", "--watch", "--interval", "1ms"}, args...), &iostreams.Streams{
		In: strings.NewReader(""), Out: out, Err: &errOut, OutTTY: tty, Width: 80,
		Env: func(key string) (string, bool) {
			value, set := map[string]string{"TALOSCONFIG": config, "HOME": home}[key]

			return value, set
		},
	})

	return out.String(), errOut.String(), code
}

func TestWatchNDJSON(t *testing.T) {
	t.Parallel()

	stdout, stderr, code := watch(t, `"type":"summary"`, 3, false, "-n", "n3,n4", "--limit", "1", "-o", "ndjson")
	if code != 130 {
		t.Errorf("exit code %d, want 130\n%s", code, stderr)
	}

	types := []string{}

	for i, line := range strings.Split(strings.TrimSpace(stdout), "\n") {
		var row struct {
			Type, Schema, Node string
			Items, Errors      int
			Time               string
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("line %d is no JSON: %s", i, line)
		}

		if (row.Schema == "talosmate/v1/ProcessList") != (i == 0) {
			t.Errorf("line %d has the schema %q", i, row.Schema)
		}

		if row.Type == "summary" && (row.Items != 1 || row.Errors != 1 || row.Time == "") {
			t.Errorf("summary %+v", row)
		}

		types = append(types, row.Type)
	}

	if got := strings.Join(types, " "); !strings.HasPrefix(got, strings.TrimSpace(strings.Repeat("item error summary ", 3))) {
		t.Errorf("a node that is gone must be an error of each round: %s", got)
	}
}

func TestWatchOnATerminalRedraws(t *testing.T) {
	t.Parallel()

	stdout, _, code := watch(t, "\x1b[H\x1b[K", 3, true, "-n", "n4", "--limit", "1")
	if code != 130 || !strings.Contains(stdout, "NODE   PID") {
		t.Errorf("exit code %d\n%q", code, stdout)
	}
}

func TestWatchInAPipeWritesChanges(t *testing.T) {
	t.Parallel()

	stdout, stderr, code := watch(t, "NODE   PID", 1, false, "-n", "n3,n4", "--limit", "1")
	if code != 130 || strings.Contains(stdout, "\x1b") || strings.Count(stdout, "NODE   PID") != 1 {
		t.Errorf("exit code %d\n%q", code, stdout)
	}

	if strings.Count(stderr, "warning: cannot list processes on 10.5.0.4 (n3)") != 1 {
		t.Errorf("an error that lasts is written once:\n%s", stderr)
	}
}
