package fsutil_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/talosmate/talosmate/internal/fsutil"
)

func TestWriteFileReplaces(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "config")

	if err := fsutil.WriteBytes(path, 0o600, []byte("one")); err != nil {
		t.Fatal(err)
	}

	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}

	if err := fsutil.WriteBytes(link, 0o640, []byte("two")); err != nil {
		t.Fatal(err)
	}

	got, err := os.ReadFile(path)
	if err != nil || string(got) != "two" {
		t.Errorf("content %q, %v", got, err)
	}

	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link became a file")
	}
}

func TestWriteFileFailsWhole(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	broken := errors.New("broken stream")

	if err := fsutil.WriteBytes(path, 0o600, []byte("old")); err != nil {
		t.Fatal(err)
	}

	err := fsutil.WriteFile(path, 0o600, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half") // a temporary file takes four bytes

		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}

	got, _ := os.ReadFile(path)
	if string(got) != "old" {
		t.Errorf("content %q", got)
	}

	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestWriteVerified(t *testing.T) {
	t.Parallel()

	path := filepath.Join(t.TempDir(), "snapshot")
	write := func(w io.Writer) error {
		_, err := io.WriteString(w, "content")

		return err
	}
	unproved := errors.New("not proved")

	err := fsutil.WriteVerified(path, 0o600, write, func(tmp string) error {
		if got, readErr := os.ReadFile(tmp); readErr != nil || string(got) != "content" {
			t.Errorf("verify sees %q, %v", got, readErr)
		}

		return unproved
	})
	if !errors.Is(err, unproved) {
		t.Errorf("error %v", err)
	}

	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}

	if err = fsutil.WriteVerified(path, 0o600, write, func(string) error { return nil }); err != nil {
		t.Error(err)
	}
}
