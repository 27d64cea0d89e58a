package runbook_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/runbook"
)

// TestJournalOrder notes events while the clock is set back and forward: the last lines are those that were written last.
func TestJournalOrder(t *testing.T) {
	t.Parallel()

	j := runbook.Journal{Path: filepath.Join(t.TempDir(), "journal.jsonl")}
	at := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)

	for i, off := range []time.Duration{0, time.Second, -time.Hour, time.Hour, 2 * time.Second} {
		j.Note(at.Add(off), "cp-1", "step", string(rune('a'+i)))
	}

	var got string
	for _, e := range j.Tail(4) {
		got += e.Message
	}

	if got != "bcde" {
		t.Errorf("the last four are %q, want bcde", got)
	}
}
