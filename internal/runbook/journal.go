package runbook

import (
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/progress"
)

// Entry is one line of a journal.
type Entry struct {
	Time    time.Time `json:"time"`              // When it happened.
	Node    string    `json:"node,omitempty"`    // The node, empty for the whole run.
	Stage   string    `json:"stage"`             // The stage.
	Message string    `json:"message,omitempty"` // What happened.
	Of      string    `json:"of,omitempty"`      // What the run was given: the directory of a rollout of configurations.
}

// Journal records what a run did, in lines appended to a file. No decision depends on it, so its errors are ignored.
// The zero value writes nothing.
type Journal struct {
	Path string
	Of   string // What the run was given, which is noted in every line; Tail reads only these lines then.
}

// Note appends a line.
func (j Journal) Note(at time.Time, node, stage, message string) {
	if j.Path == "" {
		return
	}

	line, err := json.Marshal(Entry{Time: at.UTC(), Node: node, Stage: stage, Message: message, Of: j.Of})
	if err != nil {
		return
	}

	if os.MkdirAll(filepath.Dir(j.Path), 0o700) != nil {
		return
	}

	f, err := os.OpenFile(j.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // G304: a file in our own state directory
	if err != nil {
		return
	}

	_, _ = f.Write(append(iostreams.EscapeJSON(line), '\n')) // the journal is for information only
	_ = f.Close()
}

// Tail reads the last n whole lines.
func (j Journal) Tail(n int) []Entry {
	out := []Entry{}

	raw, err := j.end()
	if err != nil {
		return out
	}

	for line := range strings.Lines(string(raw)) {
		var e Entry
		if foreign.JSON([]byte(line), &e) == nil && (j.Of == "" || j.Of == e.Of) {
			out = append(out, e)
		}
	}

	return out[max(0, len(out)-n):]
}

// maxTail is how much of the end of a journal is read: every run adds to it.
const maxTail = 1 << 20

// end reads the end of the journal.
func (j Journal) end() ([]byte, error) {
	if j.Path == "" {
		return nil, fs.ErrNotExist
	}

	f, err := os.Open(j.Path) //nolint:gosec // G304: a file in our own state directory
	if err != nil {
		return nil, err
	}

	defer f.Close() //nolint:errcheck // it was only read

	if info, err := f.Stat(); err == nil && info.Size() > maxTail {
		if _, err = f.Seek(-maxTail, io.SeekEnd); err != nil {
			return nil, err
		}
	}

	return io.ReadAll(io.LimitReader(f, maxTail))
}

// Sink writes events to the journal too, except mere counters.
func (j Journal) Sink(to progress.Sink) progress.Sink { return journalSink{to, j} }

type journalSink struct {
	progress.Sink

	journal Journal
}

// Emit implements progress.Sink.
func (s journalSink) Emit(e progress.Event) {
	if e.Total == 0 && e.Current == 0 {
		s.journal.Note(e.Time, e.Node, e.Stage, e.Message)
	}

	s.Sink.Emit(e)
}
