package iostreams

import (
	"errors"
	"io"
	"syscall"

	"github.com/talosmate/talosmate/internal/lists"
)

// ErrClosed is the error of a write to a stream that nobody reads any more, as with `| head -1` or a closed terminal.
var ErrClosed = errors.New("the output was closed")

// stream turns the errors of a closed stream into ErrClosed.
type stream struct {
	w   io.Writer
	tty bool
}

// Write implements io.Writer.
func (s *stream) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.EBADF) || s.tty && errors.Is(err, syscall.EIO) {
		err = ErrClosed
	}

	return n, err
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
