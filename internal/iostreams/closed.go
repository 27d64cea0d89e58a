package iostreams

import (
	"errors"
	"io"
	"io/fs"
	"sync/atomic"
	"syscall"

	"github.com/talosmate/talosmate/internal/lists"
)

// ErrClosed is the error of a write to a stream that nobody reads any more, as with `| head -1` or a closed terminal.
var ErrClosed = errors.New("the output was closed")

// ErrWrite is the error of a write to a stream that failed for another reason: the disk behind it is full.
var ErrWrite = errors.New("cannot write the output")

// writeError is an ErrWrite with its cause.
type writeError struct{ cause error }

func (e *writeError) Error() string { return ErrWrite.Error() + ": " + e.cause.Error() }

func (e *writeError) Unwrap() error { return e.cause }

func (e *writeError) Is(target error) bool { return target == ErrWrite } //nolint:errorlint // errors.Is unwraps

// stream turns the errors of a closed stream into ErrClosed and others into ErrWrite.
type stream struct {
	w      io.Writer
	tty    bool
	failed atomic.Pointer[writeError] // The last one.
}

// Write implements io.Writer.
func (s *stream) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.EBADF) || s.tty && errors.Is(err, syscall.EIO) {
		return n, ErrClosed
	}

	if err == nil {
		return n, nil
	}

	var at *fs.PathError
	if errors.As(err, &at) { // /dev/stdout says less than "the output"
		err = at.Err
	}

	failed := &writeError{err}
	s.failed.Store(failed)

	return n, failed
}

// Lost returns an ErrWrite if something that was written to stdout was lost. Help and completion scripts are written by
// code that does not look at the result of a write.
func (s *Streams) Lost() error {
	if s.stdout != nil {
		if failed := s.stdout.failed.Load(); failed != nil {
			return failed
		}
	}

	return nil
}

type heedless struct{ w io.Writer }

// UntilClosed returns a writer to a stream that discards everything once the stream is closed.
func UntilClosed(w io.Writer) io.Writer {
	if t, ok := w.(*Terminal); ok {
		return &Terminal{w: &heedless{t.w}} // it stays a terminal, whose styles and sequences pass
	}

	return &heedless{w}
}

// Write implements io.Writer.
func (h *heedless) Write(b []byte) (int, error) {
	n, err := h.w.Write(b)
	if errors.Is(err, ErrClosed) {
		return len(b), nil
	}

	return n, err
}

// WithoutClosed removes ErrClosed from an error: a closed output is not a failure.
func WithoutClosed(err error) error {
	if !errors.Is(err, ErrClosed) {
		return err
	}

	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // the tree is walked by hand, branch by branch
	if !ok {
		return nil
	}

	return errors.Join(lists.Map(joined.Unwrap(), WithoutClosed)...)
}
