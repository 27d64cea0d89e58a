//go:build unix

package audit

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestOpen(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }

	if err := os.WriteFile(path("private"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	for name, mode := range map[string]os.FileMode{"group": 0o660, "everybody": 0o666} {
		if err := os.WriteFile(path(name), nil, mode); err != nil {
			t.Fatal(err)
		}

		if err := os.Chmod(path(name), mode); err != nil {
			t.Fatal(err)
		}
	}

	if err := syscall.Mkfifo(path("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}

	if err := os.Symlink(path("private"), path("link")); err != nil {
		t.Fatal(err)
	}

	if err := os.Symlink(path("nothing"), path("dangling")); err != nil {
		t.Fatal(err)
	}

	for name, says := range map[string]string{
		"new": "", "private": "", "group": "", "everybody": "any user may write", "fifo": "not a regular file", "link": "not a regular file",
		"dangling": "not a regular file", ".": "not a regular file", "no/where": "no such file", "/dev/null": "not a regular file",
	} {
		file := path(name)
		if filepath.IsAbs(name) {
			file = name
		}

		l, err := Open(file)

		switch {
		case says == "" && err != nil, says != "" && (err == nil || !strings.Contains(err.Error(), says)):
			t.Errorf("%s: %v", name, err)
		case err == nil:
			l.file.Close()
		}
	}

	if info, err := os.Stat(path("new")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a new log has mode %v: %v", info.Mode(), err)
	}
}

func TestConcurrentRunsAppendWholeLines(t *testing.T) {
	t.Parallel()

	path := filepath.Join(t.TempDir(), "audit.jsonl")

	var runs sync.WaitGroup

	for range 20 {
		runs.Go(func() {
			l, err := Open(path)
			if err != nil {
				t.Error(err)

				return
			}

			r := Record{Arguments: []string{strings.Repeat("x", 10_000)}}
			if err = l.Begin(r); err != nil {
				t.Error(err)
			}

			if err = l.End(r, "ok", 0, nil); err != nil {
				t.Error(err)
			}
		})
	}

	runs.Wait()

	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	events := map[string]string{}

	for line := range bytes.Lines(raw) {
		var r Record
		if err = json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v in %.100s", err, line)
		}

		events[r.ID] += r.Event + " "

		if (r.ExitCode == nil) != (r.Event == Begun) {
			t.Errorf("%s has the exit code %v", r.Event, r.ExitCode)
		}
	}

	for id, order := range events {
		if order != "begun ended " {
			t.Errorf("%s: %s", id, order)
		}
	}

	if len(events) != 20 {
		t.Errorf("%d changes are in the log", len(events))
	}
}
