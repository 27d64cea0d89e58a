package iostreams

import (
	"errors"
	"io"
	"syscall"
)

// ErrClosed is what a write ends with when nobody reads the stream any more: `| head -1` has what it wanted, or the
// terminal is gone.
var ErrClosed = errors.New("nobody reads the output any more")

// stream turns the errors of a stream that nobody reads into ErrClosed.
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

// Heedless gives a writer to a stream that takes everything once nobody reads it any more.
func Heedless(w io.Writer) io.Writer {
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

// WithoutClosed takes ErrClosed out of an error: that nobody reads on is no failure.
func WithoutClosed(err error) error {
	if !errors.Is(err, ErrClosed) {
		return err
	}

	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // the tree is walked by hand, branch by branch
	if !ok {
		return nil
	}

	var rest []error
	for _, e := range joined.Unwrap() {
		rest = append(rest, WithoutClosed(e))
	}

	return errors.Join(rest...)
}
