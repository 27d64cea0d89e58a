//go:build unix

package imager_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/talosmate/talosmate/internal/app"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/testing/imagerstub"
)

// A real SIGINT to the process: exit 130, no container, no file. It has the process to itself, so it is not
// parallel.
func TestBuildSIGINT(t *testing.T) { //nolint:paralleltest // the signal reaches every run of the process
	bed := imagerstub.Start(t)
	home := t.TempDir()

	var out, errOut bytes.Buffer

	streams := &iostreams.Streams{In: strings.NewReader(""), Out: &out, Err: &errOut, Width: 80, Env: func(key string) (string, bool) {
		for _, kv := range bed.Env() {
			if k, v, _ := strings.Cut(kv, "="); k == key {
				return v, true
			}
		}

		return home, key == "HOME"
	}}

	stop := make(chan struct{})
	defer close(stop)

	go func() {
		bed.Building("creating disk image", stop)
		_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
	}()

	code := app.Main([]string{
		"imager", "build", "metal", "--registry", bed.Base, "--output-dir", filepath.Join(bed.Dir, "out"), "--kernel-arg", "stub.sleep=60s",
	}, streams)

	if code != int(errs.Interrupted) || !strings.Contains(errOut.String(), "error: interrupted by interrupt") {
		t.Errorf("exit code %d\n%s", code, errOut.String())
	}

	if left := bed.Containers(t); len(left) > 0 {
		t.Errorf("containers left: %v", left)
	}

	if left := files(t, bed); len(left) > 0 {
		t.Errorf("files left: %v", left)
	}
}

// ownerOf is the user who owns a file.
func ownerOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}

	return -1
}
