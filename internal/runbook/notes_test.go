package runbook_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/runbook"
)

func TestNotes(t *testing.T) {
	t.Parallel()

	n := runbook.Notes{Dir: filepath.Join(t.TempDir(), "a", "b")}

	if got := n.Get("10.0.0.1"); got != "" {
		t.Errorf("%q before anything was noted", got)
	}

	for _, name := range []string{"10.0.0.1", "fd00::1", "../../etc/passwd"} {
		if err := n.Set(name, "text of "+name); err != nil {
			t.Fatal(err)
		}

		if got := n.Get(name); got != "text of "+name {
			t.Errorf("%s: %q", name, got)
		}
	}

	files, err := os.ReadDir(n.Dir)
	if err != nil || len(files) != 3 {
		t.Errorf("%d files in the directory, %v", len(files), err)
	}

	for range 2 { // twice is as good as once
		if err := n.Set("10.0.0.1", ""); err != nil || n.Get("10.0.0.1") != "" {
			t.Errorf("not removed: %v", err)
		}
	}

	var none runbook.Notes
	if err := none.Set("x", "y"); err != nil || none.Get("x") != "" {
		t.Errorf("the zero value remembers: %v", err)
	}
}

func TestJournal(t *testing.T) {
	t.Parallel()

	j := runbook.Journal{Path: filepath.Join(t.TempDir(), "state", "j.jsonl")}
	if got := j.Tail(5); got == nil || len(got) != 0 {
		t.Errorf("%v before anything was noted", got)
	}

	at := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
	for i, stage := range []string{"pull", "install", "reboot"} {
		j.Note(at.Add(time.Duration(i)*time.Second), "cp-1", stage, "said")
	}

	f, err := os.OpenFile(j.Path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}

	if _, err = f.WriteString(`{"time":"torn`); err != nil {
		t.Fatal(err)
	}

	if err = f.Close(); err != nil {
		t.Fatal(err)
	}

	got := j.Tail(1)
	if len(got) != 1 || got[0].Stage != "reboot" || got[0].Node != "cp-1" || !got[0].Time.Equal(at.Add(2*time.Second)) {
		t.Errorf("%+v", got)
	}

	of := runbook.Journal{Path: j.Path, Of: "/configs"}
	if got = of.Tail(5); len(got) != 0 {
		t.Errorf("lines of other runs: %+v", got)
	}

	runbook.Journal{}.Note(at, "", "x", "y") // writes nowhere
}
