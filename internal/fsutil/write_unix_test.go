//go:build unix

package fsutil_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/talosmate/talosmate/internal/fsutil"
)

// Root may replace a device by a file, and every program of the machine would miss it.
func TestWriteFileReplacesOnlyFiles(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	pipe, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "link")

	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.NoError(t, os.Symlink(pipe, link))

	for path, named := range map[string]string{pipe: pipe, link: pipe, dir: dir} {
		require.EqualError(t, fsutil.WriteBytes(path, 0o600, []byte("text")), "cannot write "+named+": it is not a regular file")
	}

	info, err := os.Lstat(pipe)
	require.NoError(t, err)
	require.Equal(t, fs.ModeNamedPipe, info.Mode().Type())

	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 2, "a temporary file is left")
}
