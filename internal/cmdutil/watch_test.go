package cmdutil

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/output"
)

type thing struct {
	Node, ID, State, Clock string
}

func thingOf(node, id, state, clock string) thing { return thing{node, id, state, clock} }

func thingColumns() []output.Column[thing] {
	return []output.Column[thing]{
		{Header: "NODE", Value: func(r thing) string { return r.Node }},
		{Header: "ID", Value: func(r thing) string { return r.ID }},
		{Header: "STATE", Value: func(r thing) string { return r.State }},
		{Header: "CLOCK", Value: func(r thing) string { return r.Clock }},
	}
}

func reading(err error, rows ...thing) Reading {
	return ResultReading[[]thing, thing]{
		Result: rows, Err: err, Rows: rows, Columns: thingColumns(),
		Human: func(w io.Writer, rows []thing) error { return output.WriteTable(w, thingColumns(), rows) },
		Key:   func(r thing) (string, string) { return r.ID, r.Node },
		Same:  func(header string, _ thing) bool { return header == "CLOCK" },
	}
}

type watched struct {
	out, err bytes.Buffer
	took     time.Duration
	end      error
}

// watchAll watches readings, and interrupts after the last.
func watchAll(t *testing.T, format output.Format, io *iostreams.Streams, readings ...func() (Reading, error)) *watched {
	t.Helper()

	var got watched

	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)

		io.Out, io.Err = &got.out, &got.err
		if io.Env == nil {
			io.Env = func(string) (string, bool) { return "", false }
		}

		cmd := &cobra.Command{Use: "things"}
		cmd.Flags().Duration("timeout", time.Minute, "")

		now := func() time.Time { return time.Now().UTC() }
		c := &Call{
			IO: io, Cmd: cmd, ctx: ctx, factory: &Factory{IO: io, Now: now},
			Printer: &output.Printer{Out: &got.out, Format: format, Schema: "ThingList", Now: now},
		}

		began, next := time.Now(), 0
		w := Watch{on: true, interval: 5 * time.Second}

		got.end = w.Run(c, func() (Reading, error) {
			r := readings[next]
			if next++; next == len(readings) {
				time.AfterFunc(time.Second, func() { cancel(errs.New(errs.Interrupted, "interrupted")) })
			}

			return r()
		})
		got.took = time.Since(began)
	})

	return &got
}

func rows(err error, rows ...thing) func() (Reading, error) {
	return func() (Reading, error) { return reading(err, rows...), nil }
}

func down(node string) error {
	e := errs.New(errs.Unreachable, "cannot list things on %s: it is down", node).OnNode(node)
	e.Kind = errs.KindUnreachable

	return &errs.Nodes{Errors: []*errs.Error{e}, Succeeded: 1}
}

func TestAPipeGetsTheTableAndThenTheChanges(t *testing.T) {
	t.Parallel()

	got := watchAll(t, output.Table, &iostreams.Streams{},
		rows(nil, thingOf("n1", "a", "running", "1"), thingOf("n2", "b", "running", "1")),
		rows(nil, thingOf("n1", "a", "running", "2"), thingOf("n2", "b", "running", "2")),
		rows(nil, thingOf("n1", "a", "stopped", "3"), thingOf("n2", "b", "running", "3"), thingOf("n2", "long-one", "x\x1b[2J", "3")),
		rows(down("n2"), thingOf("n1", "a", "stopped", "4")),
		rows(down("n2"), thingOf("n1", "a", "stopped", "5")),
		func() (Reading, error) { return nil, errs.New(errs.Unreachable, "cannot reach an endpoint") },
		rows(nil, thingOf("n2", "b", "failed", "6"), thingOf("n2", "long-one", "x\x1b[2J", "3")),
	)

	want := `NODE   ID   STATE     CLOCK
n1     a    running   1
n2     b    running   1
2000-01-01T00:00:10Z ~ n1   a          stopped   3
2000-01-01T00:00:10Z + n2   long-one   x` + "\uFFFD" + `[2J     3
2000-01-01T00:00:30Z ~ n2   b          failed    6
2000-01-01T00:00:30Z - n1   a          stopped   5
`
	if got.out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &got.out, want)
	}

	wantErr := "warning: cannot list things on n2: it is down\nwarning: cannot reach an endpoint\nn2 answers again\nthe cluster answers again\n"
	if got.err.String() != wantErr {
		t.Errorf("stderr\n%s\nwant\n%s", &got.err, wantErr)
	}

	if errs.ExitCode(got.end) != errs.Interrupted || got.took != 31*time.Second {
		t.Errorf("ended after %s with %v", got.took, got.end)
	}
}

func TestAnAnswerIsWrittenWhenItChanges(t *testing.T) {
	t.Parallel()

	answers := func(answer string) func() (Reading, error) {
		return func() (Reading, error) {
			var err error
			if answer != "yes" {
				err = errs.New(errs.Negative, "the answer is no").WithKind(errs.KindNegative)
			}

			return ResultReading[string, thing]{
				Err: err, Answer: answer, Human: func(w io.Writer, _ string) error { _, werr := io.WriteString(w, answer+"\n"); return werr },
			}, nil
		}
	}

	got := watchAll(t, output.Table, &iostreams.Streams{}, answers("yes"), answers("yes"), answers("no"), answers("yes"))
	if want := "yes\n2000-01-01T00:00:10Z no\n2000-01-01T00:00:15Z yes\n"; got.out.String() != want || got.err.Len() > 0 {
		t.Errorf("got\n%s%s\nwant\n%s", &got.out, &got.err, want)
	}
}

func TestNDJSONHasEveryReading(t *testing.T) {
	t.Parallel()

	got := watchAll(t, output.NDJSON, &iostreams.Streams{}, rows(nil, thingOf("n1", "a", "running", "1")), rows(down("n1")))
	types := []string{}

	for i, line := range strings.Split(strings.TrimSpace(got.out.String()), "\n") {
		var doc struct {
			Type, Schema string
			Result       []thing
			Errors       any
			Time         time.Time
		}
		if err := json.Unmarshal([]byte(line), &doc); err != nil {
			t.Fatal(line, err)
		}

		if (doc.Schema == "talosmate/v1/ThingList") != (i == 0) || i == 0 && len(doc.Result) != 1 {
			t.Errorf("line %d: %s", i, line)
		}

		types = append(types, doc.Type)
	}

	if text := strings.Join(types, " "); text != "item summary item error summary" {
		t.Error(text)
	}
}

func TestTheFirstFailureEndsAWatch(t *testing.T) {
	t.Parallel()

	cause := errs.New(errs.Unreachable, "cannot reach an endpoint")

	got := watchAll(t, output.Table, &iostreams.Streams{}, func() (Reading, error) { return nil, cause })
	if !errors.Is(got.end, cause) || got.out.Len()+got.err.Len() > 0 {
		t.Errorf("%v\n%s%s", got.end, &got.out, &got.err)
	}

	got = watchAll(t, output.JSON, &iostreams.Streams{}, rows(nil))
	if errs.ExitCode(got.end) != errs.Usage {
		t.Errorf("%v", got.end)
	}
}

// screenOf carries out what Redraw writes, on a screen of the given height whose earlier lines are its history.
func screenOf(text string, height int) (history, screen []string) {
	screen = make([]string, height)
	row := 0

	for _, part := range strings.SplitAfter(text, "\n") {
		for again := true; again; {
			again = false

			for _, control := range []iostreams.Control{iostreams.Home, iostreams.EraseLine, iostreams.EraseBelow} {
				rest, ok := strings.CutPrefix(part, string(control))
				if !ok {
					continue
				}

				part, again = rest, true

				switch control {
				case iostreams.Home:
					row = 0
				case iostreams.EraseLine:
					screen[row] = ""
				case iostreams.EraseBelow:
					for i := row; i < height; i++ {
						screen[i] = ""
					}
				}
			}
		}

		line, end := strings.CutSuffix(part, "\n")
		screen[row] += line

		if !end {
			continue
		}

		if row++; row == height {
			history, screen = append(history, screen[0]), append(screen[1:], "")
			row--
		}
	}

	return history, screen
}

func TestATerminalIsRedrawnAndFits(t *testing.T) {
	t.Parallel()

	many := []thing{}
	for _, id := range strings.Split("abcdefghijklmnop", "") {
		many = append(many, thingOf("n1", id, strings.Repeat("x", 60), "1"))
	}

	got := watchAll(t, output.Table, &iostreams.Streams{OutTTY: true, Width: 40, Height: 10},
		rows(nil, many...), rows(down("n2"), many[:1]...), rows(down("n2"), many...))

	frames := strings.Split(got.out.String(), string(iostreams.Home))
	if len(frames) != 4 {
		t.Fatalf("%d frames: %q", len(frames), got.out.String())
	}

	history, screen := screenOf(strings.Join(frames[:3], string(iostreams.Home)), 10)
	if text := strings.Join(screen, "\n"); !strings.HasPrefix(text, "2000-01-01T00:00:05Z  every 5s: things\nNODE") ||
		!strings.Contains(text, "error: cannot list things on n2") || strings.Contains(text, "more") {
		t.Errorf("second screen:\n%s", text)
	}

	if strings.Join(history, "") != "" {
		t.Errorf("a screen moved into the history:\n%q", history)
	}

	_, screen = screenOf(got.out.String(), 10)
	for _, line := range screen {
		if n := len([]rune(line)); n > 40 {
			t.Errorf("%d columns: %s", n, line)
		}
	}

	if text := strings.Join(screen, "\n"); !strings.Contains(text, "… 11 more: the terminal is too low") || screen[8] != "error: cannot list things on n2: it is …" || screen[9] != "" {
		t.Errorf("third screen:\n%s", text)
	}
}

func TestADumbTerminalIsNotRedrawn(t *testing.T) {
	t.Parallel()

	io := &iostreams.Streams{OutTTY: true, Width: 40, Height: 10, Env: func(key string) (string, bool) { return "dumb", key == "TERM" }}

	got := watchAll(t, output.Table, io, rows(nil, thingOf("n1", "a", "running", "1")), rows(nil))
	if text := got.out.String(); strings.Contains(text, "\x1b") || !strings.HasSuffix(text, "2000-01-01T00:00:05Z - n1   a   running   1\n") {
		t.Errorf("%q", text)
	}
}
