package fsutil_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/talosmate/talosmate/internal/fsutil"
)

// endless is a stream that does not end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestReadFile(t *testing.T) {
	t.Parallel()

	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, make([]byte, 2048), 0o600))

	text, err := fsutil.ReadFile(path, 2048)
	require.NoError(t, err)
	require.Len(t, text, 2048)

	_, err = fsutil.ReadFile(path, 1024)
	require.EqualError(t, err, "it is larger than 1 KiB")

	_, err = fsutil.ReadAll(endless{}, 1<<20)
	require.EqualError(t, err, "it is larger than 1 MiB")

	_, err = fsutil.ReadFile(path+".missing", 1)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
