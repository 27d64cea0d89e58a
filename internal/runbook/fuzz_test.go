package runbook_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/talosmate/talosmate/internal/runbook"
)

// FuzzJournal reads a journal that anything may have written. It holds that at most as many entries are read as were asked
// for, and that a line that is added to it is the last one, whole and without anything that a terminal interprets.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(""), "cp-1", "reboot", "waiting")
	f.Add([]byte("{\"time\":\"torn"), "", "", "")
	f.Add([]byte("{\"time\":\"2026-11-27T00:00:00Z\",\"stage\":\"x\"}\n\n[]\nnull\n{\"stage\":1}\n"), "a\nb", "\x1b[2J", "\u2028\xff")
	f.Add([]byte(strings.Repeat("[", 400)+"\n"), "\r", "{}", "\"")

	f.Fuzz(func(t *testing.T, text []byte, node, stage, message string) {
		j := runbook.Journal{Path: filepath.Join(t.TempDir(), "journal.jsonl")}
		if err := os.WriteFile(j.Path, append(text, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}

		if got := j.Tail(3); len(got) > 3 {
			t.Fatalf("%d entries", len(got))
		}

		at := time.Unix(1_700_000_000, 0).UTC()
		j.Note(at, node, stage, message)

		got := j.Tail(1)
		if len(got) != 1 || !got[0].Time.Equal(at) {
			t.Fatalf("it does not read what it wrote: %+v", got)
		}

		for in, out := range map[string]string{node: got[0].Node, stage: got[0].Stage, message: got[0].Message} {
			if utf8.ValidString(in) && in != out {
				t.Fatalf("%q became %q", in, out)
			}
		}

		raw, err := os.ReadFile(j.Path)
		if err != nil {
			t.Fatal(err)
		}

		line := raw[len(text)+1:]
		if strings.Count(string(line), "\n") != 1 || bytes.ContainsAny(line, "\x1b\r\u0085\u2028\u202e") || !json.Valid(line) {
			t.Fatalf("not one plain line: %q", line)
		}
	})
}

// FuzzNote keeps texts under names that come from clusters and nodes. It holds that a text is read as it was written, that
// names do not meet, and that nothing is written outside of the directory.
func FuzzNote(f *testing.F) {
	for _, name := range []string{"cp-1", "", "..", "../../etc/passwd", "a/b", "a_b", "\x00", "C:\\x", ".", "note-", "x.lock", strings.Repeat("n", 300)} {
		f.Add(name, "cp-2", "text")
	}

	f.Fuzz(func(t *testing.T, name, other, text string) {
		outer := t.TempDir()
		n := runbook.Notes{Dir: filepath.Join(outer, "a", "state")}

		if err := os.MkdirAll(n.Dir, 0o700); err != nil {
			t.Fatal(err)
		}

		err := n.Set(name, text)
		if got := n.Get(name); err == nil && got != text {
			t.Fatalf("%q: %q became %q", name, text, got)
		}

		if name != other && err == nil && n.Get(other) != "" {
			t.Fatalf("%q is read as %q", name, other)
		}

		release, err := n.Lock(name)
		if err == nil {
			release()
		}

		for dir, most := range map[string]int{outer: 1, filepath.Dir(n.Dir): 1, n.Dir: 2} {
			if all, err := os.ReadDir(dir); err != nil || len(all) > most {
				t.Fatalf("%q: %v in %s: %v", name, all, dir, err)
			}
		}

		if err := n.Set(name, ""); err == nil && n.Get(name) != "" {
			t.Fatalf("%q is still there", name)
		}
	})
}
