package iostreams

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
)

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestWriteToNobody(t *testing.T) {
	t.Parallel()

	full := &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}

	for name, tt := range map[string]struct {
		err               error
		tty               bool
		read, untilClosed error
	}{
		"fine":            {},
		"pipe closed":     {err: &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}, read: ErrClosed},
		"stdout closed":   {err: syscall.EBADF, read: ErrClosed},
		"terminal gone":   {err: syscall.EIO, tty: true, read: ErrClosed},
		"disk broken":     {err: syscall.EIO, read: syscall.EIO, untilClosed: syscall.EIO},
		"disk full":       {err: full, read: syscall.ENOSPC, untilClosed: ErrWrite},
		"something short": {err: io.ErrShortWrite, read: io.ErrShortWrite, untilClosed: io.ErrShortWrite},
	} {
		s := &stream{w: failing{tt.err}, tty: tt.tty}
		if _, err := s.Write([]byte("x")); !errors.Is(err, tt.read) {
			t.Errorf("%s: %v, want %v", name, err, tt.read)
		}

		if _, err := UntilClosed(s).Write([]byte("x")); !errors.Is(err, tt.untilClosed) {
			t.Errorf("%s: a change gets %v, want %v", name, err, tt.untilClosed)
		}
	}
}

func TestLost(t *testing.T) {
	t.Parallel()

	for name, tt := range map[string]struct{ err, want error }{
		"fine":        {},
		"pipe closed": {err: syscall.EPIPE},
		"disk full":   {err: &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}, want: ErrWrite},
	} {
		stdout := &stream{w: failing{tt.err}}
		s := &Streams{Out: stdout, stdout: stdout}

		_, err := s.Guard().Out.Write([]byte("x"))
		if (err == nil) != (tt.err == nil) {
			t.Errorf("%s: %v", name, err)
		}

		lost := s.Guard().Lost()
		if !errors.Is(lost, tt.want) || (lost == nil) != (tt.want == nil) {
			t.Errorf("%s: %v, want %v", name, lost, tt.want)
		}

		// One error, of which the user reads one line.
		if want := "cannot write the output: no space left on device"; lost != nil && (lost.Error() != want || len(errs.Entries(err)) != 1 || errs.Entries(err)[0].Message != want) {
			t.Errorf("%s: %v, %+v", name, lost, errs.Entries(err))
		}
	}
}

func TestWithoutClosed(t *testing.T) {
	t.Parallel()

	no := errors.New("the answer is no")
	gone := fmt.Errorf("cannot write: %w", ErrClosed)

	for name, tt := range map[string]struct{ err, want error }{
		"nothing":        {nil, nil},
		"closed":         {gone, nil},
		"a failure":      {no, no},
		"both":           {errors.Join(no, gone), no},
		"both, deeper":   {errors.Join(errors.Join(gone, nil), errors.Join(gone, no)), no},
		"closed, joined": {errors.Join(gone, gone), nil},
	} {
		if got := WithoutClosed(tt.err); !errors.Is(got, tt.want) || errors.Is(got, ErrClosed) || tt.want == nil && got != nil {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
