package imager_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/testing/imagerstub"
)

// The results go to a file system that is full before the image is.
func TestBuildDiskFull(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)

	out := filepath.Join(bed.Dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}

	if err := syscall.Mount("tmpfs", out, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("cannot mount a small file system, which takes root: %v", err)
	}

	t.Cleanup(func() {
		if err := syscall.Unmount(out, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})

	_, got := build(t, bed, "metal", "--kernel-arg", "stub.fill")
	if got.Code != int(errs.Failed) || !strings.Contains(got.Stderr, "no space left on the disk") || !strings.Contains(got.Stderr, "hint: free space there") {
		t.Errorf("exit code %d\n%s", got.Code, got.Stderr)
	}

	if left := files(t, bed); len(left) > 0 {
		t.Errorf("files left: %v", left)
	}
}
