package iostreams

import (
	"errors"
	"fmt"
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

// stream turns the errors of a closed stream into ErrClosed and others into ErrWrite.
type stream struct {
	w      io.Writer
	tty    bool
	failed atomic.Bool // With ErrWrite.
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

	s.failed.Store(true)

	var at *fs.PathError
	if errors.As(err, &at) { // /dev/stdout says less than "the output"
		err = at.Err
	}

	return n, fmt.Errorf("%w: %w", ErrWrite, err)
}

// Lost returns ErrWrite if something that was written to stdout was lost. Help and completion scripts are written by
// code that does not look at the result of a write.
func (s *Streams) Lost() error {
	if s.stdout != nil && s.stdout.failed.Load() {
		return ErrWrite
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
