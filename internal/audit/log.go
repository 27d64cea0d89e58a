package audit

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/redact"
)

// Log is an audit log that is open for one change.
type Log struct {
	file *os.File
	id   string
}

// Open opens a log for appending and creates it with mode 0600. It refuses files that are not regular, symbolic links,
// and files that any user may write.
func Open(path string) (*Log, error) {
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the audit log: %w", err)
	}

	return &Log{file: f, id: rand.Text()}, nil
}

func open(path string) (*os.File, error) {
	// O_EXCL follows no link. Another run may create the file at the same time.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // G304: the user names the audit log
	if err == nil {
		syncDir(filepath.Dir(path))

		return f, nil
	}

	if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}

	before, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}

	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}

	// O_NONBLOCK: do not wait for a FIFO that has replaced the file since.
	if f, err = os.OpenFile(path, os.O_APPEND|os.O_WRONLY|syscall.O_NONBLOCK, 0); err != nil { //nolint:gosec // G304: the user names the audit log
		return nil, err
	}

	after, err := f.Stat()

	switch {
	case err == nil && !os.SameFile(before, after):
		err = fmt.Errorf("%s was replaced while it was opened", path)
	case err == nil && runtime.GOOS != "windows" && after.Mode().Perm()&0o002 != 0:
		err = fmt.Errorf("any user may write %s (mode %04o)", path, after.Mode().Perm())
	}

	if err != nil {
		return nil, errors.Join(err, f.Close())
	}

	return f, nil
}

// syncDir makes the name of a new file durable. Not every file system supports it.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil { //nolint:gosec // G304: the folder of the file that was just written
		_ = errors.Join(d.Sync(), d.Close()) // the lines themselves are synced
	}
}

// Begin writes the begun line and returns once it is on the disk.
func (l *Log) Begin(r Record) error {
	r.Event = Begun

	return l.append(r)
}

// End writes the ended line, with the ID of the begun line, and closes the log.
func (l *Log) End(r Record, outcome string, exitCode int, cause error) error {
	r.Event, r.Outcome, r.ExitCode = Ended, outcome, &exitCode

	if cause != nil {
		r.Error = redact.Message(cause.Error())
	}

	return errors.Join(l.append(r), l.file.Close())
}

// append writes a record with one write call, so that lines of concurrent runs do not mix.
func (l *Log) append(r Record) error {
	if r.ID = l.id; r.User == "" {
		r.User = User()
	}

	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("cannot encode the audit record: %w", err)
	}

	if _, err = l.file.Write(append(iostreams.EscapeJSON(line), '\n')); err == nil {
		err = l.file.Sync()
	}

	if err != nil {
		return fmt.Errorf("cannot write the audit log: %w", err)
	}

	return nil
}
