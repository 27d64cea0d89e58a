package progress

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// run is what an upgrade of two nodes may tell.
func run() []Event {
	at := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)

	return []Event{
		{Time: at, Stage: "lock", Message: "the cluster's lock is ours"},
		{Time: at, Node: "worker-2", Stage: "preflight", Message: "looking at the node"},
		{Time: at.Add(time.Second), Node: "worker-1", Stage: "pull", Message: "layer a", Current: 1 << 20, Total: 2 << 20},
		{Time: at.Add(2 * time.Second), Node: "worker-1", Stage: "pull", Message: "layer a", Current: 2 << 20, Total: 2 << 20},
		{Time: at.Add(3 * time.Second), Node: "worker-2", Stage: "drain", Message: "evil\x1b[2Jtext"},
		{Time: at.Add(9 * time.Second), Node: "worker-2", Stage: "failed", Message: "it did", Done: true, Failed: true},
	}
}

func shown(mode string, screen Screen, events []Event) string {
	var out bytes.Buffer

	s := New(mode, &out, screen)
	for _, e := range events {
		s.Emit(e)
	}

	s.Close()

	return out.String()
}

// TestJSON holds every line against the published schema.
func TestJSON(t *testing.T) {
	t.Parallel()

	schema, err := jsonschema.NewCompiler().Compile(filepath.Join("..", "..", "docs", "schemas", "ProgressEvent.json"))
	if err != nil {
		t.Fatal(err)
	}

	var out bytes.Buffer

	s := New("json", &out, Screen{})
	for _, e := range run() {
		s.Emit(e)
	}

	warner, ok := s.(Warner)
	if !ok {
		t.Fatal("warnings would fall between the events")
	}

	warner.Warn("a certificate expires")
	s.Close()

	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(run())+1 {
		t.Fatalf("%d lines for %d events", len(lines), len(run())+1)
	}

	for i, line := range lines {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}

		if err = schema.Validate(doc); err != nil {
			t.Errorf("%s: %v", line, err)
		}

		if named := strings.Contains(line, `"talosmate/v1/ProgressEvent"`); named != (i == 0) {
			t.Errorf("the schema is named in the first line only: %s", line)
		}
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()

	want := "18:00:00 lock: the cluster's lock is ours\n" +
		"18:00:00 worker-2: preflight: looking at the node\n" +
		"18:00:01 worker-1: pull: layer a\n" + // counters alone are not news
		"18:00:03 worker-2: drain: evil\uFFFD[2Jtext\n" +
		"18:00:09 worker-2: failed: it did\n"
	if got := shown("plain", Screen{}, run()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	if got := shown("none", Screen{}, run()); got != "" {
		t.Errorf("none said %q", got)
	}
}

// lastBlock is the screen after the last repaint.
func lastBlock(text string) []string {
	return strings.Split(strings.TrimSuffix(text[strings.LastIndex(text, "\x1b[J")+len("\x1b[J"):], "\n"), "\n")
}

func TestTTY(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		text := shown("auto", Screen{TTY: true, Width: 70, Height: 24}, run())

		lines := lastBlock(text)
		if len(lines) != 3 {
			t.Fatalf("want one line a node and one for the run: %q", lines)
		}

		if !strings.Contains(lines[0], "lock") || !strings.HasPrefix(lines[1], "worker-1 ") || !strings.HasPrefix(lines[2], "worker-2 ") {
			t.Errorf("got %q", lines)
		}

		if !strings.Contains(lines[1], "["+strings.Repeat("=", 20)+"]") {
			t.Errorf("no full bar in %q", lines[1])
		}

		if !strings.Contains(lines[2], "failed         9s it did") {
			t.Errorf("a finished node shows how long it took: %q", lines[2])
		}

		if strings.Contains(text, "\x1b[2J") {
			t.Error("a control sequence from a node went through")
		}

		for _, l := range lines {
			if len([]rune(l)) > 69 {
				t.Errorf("too wide: %q", l)
			}
		}
	})
}

// TestTTYIsLow: more nodes than lines, and the block still fits, with the nodes at work in it.
func TestTTYIsLow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var events []Event
		for i := range 30 {
			events = append(events, Event{Time: time.Now(), Node: fmt.Sprintf("worker-%02d", i), Stage: "wait", Done: i < 25})
		}

		lines := lastBlock(shown("tty", Screen{TTY: true, Width: 80, Height: 10}, events))
		if len(lines) != 9 || lines[8] != "… and 22 more" {
			t.Fatalf("got %q", lines)
		}

		if text := strings.Join(lines, "\n"); !strings.Contains(text, "worker-25") || !strings.Contains(text, "worker-29") {
			t.Errorf("a node at work is hidden:\n%s", text)
		}
	})
}

// TestTTYWarns: a warning is shown above the block and is not overwritten.
func TestTTYWarns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer

		s := New("tty", &out, Screen{TTY: true, Width: 80, Height: 24})
		s.Emit(run()[1])
		time.Sleep(300 * time.Millisecond) //nolint:forbidigo // of the bubble's clock

		warner, ok := s.(Warner)
		if !ok {
			t.Fatal("it has no place for warnings")
		}

		warner.Warn("the lock")
		s.Close()
		warner.Warn("late")
		s.Emit(run()[2]) // nothing, and no panic

		if !strings.Contains(out.String(), "\x1b[1A\x1b[Jwarning: the lock\nworker-2") || !strings.HasSuffix(out.String(), "warning: late\n") {
			t.Errorf("got %q", out.String())
		}
	})
}

// TestTextFromNodesIsNeutral puts what a terminal could obey into every field, in every mode.
func TestTextFromNodesIsNeutral(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const zoo = "a\x1b[31m\u009bb\x7f\u202ec\x9d\rd\ne"

		for _, mode := range []string{"plain", "tty", "json"} {
			var out bytes.Buffer

			s := New(mode, &out, Screen{TTY: true, Width: 200, Height: 24})
			s.Emit(Event{Time: time.Now(), Node: zoo, Stage: zoo, Message: zoo})

			if w, ok := s.(Warner); ok {
				w.Warn(zoo)
			}

			s.Close()

			text := strings.NewReplacer("\x1b[2A", "", "\x1b[1A", "", "\x1b[J", "").Replace(out.String())
			for _, r := range text {
				if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e) {
					t.Errorf("%s: %U in %q", mode, r, text)
				}
			}

			if want := map[string]int{"plain": 1, "tty": 2, "json": 2}[mode]; strings.Count(text, "\n") > 2*want {
				t.Errorf("%s: a node makes lines of its own: %q", mode, text)
			}
		}
	})
}
