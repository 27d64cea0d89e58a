package command_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/command"
)

// TestRun: a command gets its facts and its input, its last line comes back within bounds, and a failure differs from a command that
// there is not.
func TestRun(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		text, last, err string
		failed          bool
	}{
		{text: "cat", last: `{"a":1}`},
		{text: `echo "$FACT"`, last: "it's $(one) word"},
		{text: "echo one; echo two >&2; echo", last: "two"},
		{text: "yes | head -c 9000", last: "y"},
		{text: "printf %9000s x | tr ' ' x", last: strings.Repeat("x", 300)},
		{text: "sleep 60 & echo started", last: "started"},
		{text: "echo bad; exit 3", last: "bad", err: "the command failed: exit status 3: bad", failed: true},
		{text: "kill -9 $$", err: "the command failed: signal: killed", failed: true},
		{text: "no-such-program", last: "", err: "cannot run the command: exit status 127"},
	} {
		last, err := command.Run(t.Context(), c.text, []string{"FACT=it's $(one) word"}, map[string]int{"a": 1})
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || errors.Is(err, command.ErrFailed) != c.failed {
			t.Errorf("%s: %v", c.text, err)
		}

		if last != c.last && c.err != "cannot run the command: exit status 127" {
			t.Errorf("%s: %q, want %q", c.text, last, c.last)
		}
	}
}

// TestRunEnds: an interruption ends a command and its children, also one that ignores the first signal.
func TestRunEnds(t *testing.T) {
	t.Parallel()

	stop := errors.New("interrupted")

	for _, text := range []string{"sleep 600", "sleep 600 & wait", "trap '' TERM; sleep 600 & wait; sleep 600"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		started := make(chan struct{})

		go func() {
			<-started
			cancel(stop)
		}()

		close(started)

		if _, err := command.Run(ctx, text, nil, nil); !errors.Is(err, stop) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
