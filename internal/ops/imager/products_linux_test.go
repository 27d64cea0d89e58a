package imager_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/imager"
)

const nobody = 65534

// asNobody runs fn on a thread of its own that has no rights; the thread ends with it.
func asNobody(t *testing.T, fn func()) {
	t.Helper()

	done := make(chan error)

	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is not to be used again

		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0)); errno != 0 {
			done <- errno

			return
		}

		fn()

		done <- nil
	}()

	if err := <-done; err != nil {
		t.Fatalf("cannot give up root's rights: %v", err)
	}
}

// A file of the container's root becomes the caller's by a copy, since only root may change owners.
func TestOwnWithoutRoot(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatalf("the test takes root: %v", err)
	}

	// The directory above is the test's own and for root only.
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}

	readable, secret := filepath.Join(dir, "image"), filepath.Join(dir, "secret")

	for path, mode := range map[string]os.FileMode{readable: 0o644, secret: 0o600} {
		if err := os.WriteFile(path, []byte("content"), mode); err != nil {
			t.Fatal(err)
		}
	}

	asNobody(t, func() {
		p, err := imager.Own(readable, imager.Owner(nobody, nobody))
		if err != nil || p.SizeBytes != 7 {
			t.Errorf("got %+v, %v", p, err)
		}

		_, err = imager.Own(secret, imager.Owner(nobody, nobody))

		var typed *errs.Error
		if !errors.As(err, &typed) || typed.Hint == "" {
			t.Errorf("a file that only root reads: %v", err)
		}
	})

	info, err := os.Stat(readable)
	if err != nil {
		t.Fatal(err)
	}

	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Uid != nobody || info.Mode().Perm() != 0o644 {
		t.Errorf("owner %+v, mode %v", info.Sys(), info.Mode())
	}

	if left, err := filepath.Glob(filepath.Join(dir, "*.copy")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
