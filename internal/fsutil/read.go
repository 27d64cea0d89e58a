package fsutil

import (
	"fmt"
	"io"
	"os"
)

// MaxText is the largest file of text that is read whole: a configuration, a patch, a talosconfig. It is above what the
// parsers accept, so that their messages, which say more, are seen first.
const MaxText = 64 << 20

// ReadFile reads a file of at most limit bytes. Unlike os.ReadFile it ends when the file does not: a device, or a pipe
// that is written without end.
func ReadFile(path string, limit int64) ([]byte, error) {
	in, err := os.Open(path) //nolint:gosec // G304: the one place where files are read whole; callers pass what the user named or wrote
	if err != nil {
		return nil, err
	}

	defer in.Close() //nolint:errcheck // it was only read

	return ReadAll(in, limit)
}

// ReadAll reads a stream of at most limit bytes.
func ReadAll(in io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, err
	}

	if int64(len(text)) > limit {
		return nil, tooLarge(limit)
	}

	return text, nil
}

func tooLarge(limit int64) error {
	if limit < 1<<20 {
		return fmt.Errorf("it is larger than %d KiB", limit>>10)
	}

	return fmt.Errorf("it is larger than %d MiB", limit>>20)
}
