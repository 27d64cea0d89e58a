// Package imagerstub is a test bed for imager builds: a real container engine with a store of its own, a real registry
// on loopback with a release's images, and a stub of the imager built from scratch.
package imagerstub

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/talosmate/talosmate/internal/testing/imagerstub/seen"
)

// Version is the Talos version whose images the registry has.
const Version = "v1.14.1"

// Bed is one engine with one registry.
type Bed struct {
	Host string // The registry's host and port.
	Base string // Where the release images are.
	Dir  string // For files of the test.

	bin    string
	podman string
}

// Start makes a bed with podman, the engine that the PATH of Env leads to.
func Start(t *testing.T) *Bed {
	t.Helper()

	return start(t, 0)
}

// StartRootless is Start with an engine that runs as the given user without root's rights. Starting it needs root.
func StartRootless(t *testing.T, uid int) *Bed {
	t.Helper()

	return start(t, uid)
}

func start(t *testing.T, uid int) *Bed {
	t.Helper()

	podman, err := exec.LookPath("podman")
	if err != nil {
		t.Fatal("podman is not installed, and these tests build with a real engine: run `make deps`")
	}

	b := serve(t)
	b.Dir, b.bin, b.podman = t.TempDir(), t.TempDir(), podman

	b.configure(t, uid)
	b.Push(t, "imager:"+Version, b.imager(t))

	return b
}

// Registry serves a release's images except the imager itself, and returns where they are. The release v1.13.2 has no
// valid catalogue.
func Registry(t *testing.T) (base string) {
	t.Helper()

	b := serve(t)
	b.Push(t, "overlays:v1.13.2", Image(t, map[string][]byte{"x": nil}))

	return b.Base
}

func serve(t *testing.T) *Bed {
	t.Helper()

	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)

	host := strings.TrimPrefix(server.URL, "http://")
	b := &Bed{Host: host, Base: host + "/siderolabs"}
	b.publish(t)

	return b
}

// configure gives podman a store, a runtime directory and a registry policy of its own, and runs it as uid.
func (b *Bed) configure(t *testing.T, uid int) {
	t.Helper()

	state := t.TempDir()
	user, storage := "", ""

	if uid != 0 {
		state = shortDir(t) // the rootless engine waits long for sockets whose path is too long
		user = fmt.Sprintf("setpriv --reuid=%[1]d --regid=%[1]d --clear-groups env HOME=%[2]s XDG_RUNTIME_DIR=%[2]s PATH=/usr/sbin:/usr/bin:/sbin:/bin ", uid, state)
		storage = "[storage.options]\nignore_chown_errors = \"true\"\n" // one user can map only one ID
	}
	files := map[string]string{
		"containers.conf": "[containers]\nnetns = \"none\"\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n" +
			"[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nlock_type = \"file\"\ntmp_dir = \"" + state + "/tmp\"\n",
		"storage.conf":    "[storage]\ndriver = \"vfs\"\ngraphroot = \"" + state + "/graph\"\nrunroot = \"" + state + "/run\"\n" + storage,
		"registries.conf": "[[registry]]\nlocation = \"" + b.Host + "\"\ninsecure = true\n",
		"policy.json":     `{"default":[{"type":"insecureAcceptAnything"}]}`,
	}

	for file, body := range files {
		b.write(t, filepath.Join(state, file), body, 0o600)
	}

	b.write(t, filepath.Join(b.bin, "podman"), strings.Join([]string{
		"#!/bin/sh",
		"export CONTAINERS_CONF=" + state + "/containers.conf CONTAINERS_STORAGE_CONF=" + state + "/storage.conf",
		"export CONTAINERS_REGISTRIES_CONF=" + state + "/registries.conf",
		"exec " + user + b.podman + " \"$@\"",
	}, "\n")+"\n", 0o755)

	if uid != 0 {
		handOver(t, uid, state, b.Dir)

		if err := os.Chmod(filepath.Dir(b.Dir), 0o711); err != nil { // to pass through
			t.Fatal(err)
		}
	}

	t.Cleanup(func() {
		if left := b.Containers(t); len(left) > 0 {
			t.Errorf("containers left behind: %v", left)
			b.Podman(t, "rm", "-f", "-a")
		}

		if uid != 0 {
			b.Podman(t, "system", "migrate") // ends the process that holds the user namespace
		}
	})
}

// shortDir is a directory with a short name. With a long one each rootless run took about 20 s longer, probably because
// a socket path exceeded its 108 bytes.
func shortDir(t *testing.T) string {
	t.Helper()

	dir, err := os.MkdirTemp("", "bed-") //nolint:usetesting // a test's own directory has a long name
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})

	return dir
}

// handOver changes the owner of test directories.
func handOver(t *testing.T, uid int, dirs ...string) {
	t.Helper()

	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}

		for _, path := range append(files, dir) {
			if err := os.Chown(path, uid, uid); err != nil {
				t.Fatalf("the test needs root: %v", err)
			}
		}

		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// AsDocker provides the same engine under docker's name and records how it is called.
func (b *Bed) AsDocker(t *testing.T) (record string) {
	t.Helper()

	record = filepath.Join(t.TempDir(), "argv")
	// Where the command lines differ, the script answers: rootless mode as docker prints it.
	b.write(t, filepath.Join(b.bin, "docker"), strings.Join([]string{
		"#!/bin/sh",
		"for a in \"$@\"; do printf '%s\\n' \"$a\"; done >> " + record,
		"echo -- >> " + record,
		"case \"$1\" in",
		"--version) echo 'Docker version 28.2.2, build e6534b4'; exit 0 ;;",
		"info) echo '[name=seccomp,profile=builtin name=cgroupns]'; exit 0 ;;",
		"esac",
		"exec " + filepath.Join(b.bin, "podman") + " \"$@\"",
	}, "\n")+"\n", 0o755)

	return record
}

// Script puts a program of the test on the PATH.
func (b *Bed) Script(t *testing.T, name, body string) {
	t.Helper()
	b.write(t, filepath.Join(b.bin, name), "#!/bin/sh\n"+body+"\n", 0o755)
}

// Bin is the directory with the bed's engines.
func (b *Bed) Bin() string { return b.bin }

// Env is the environment of a command line that is to use this bed.
func (b *Bed) Env() []string { return []string{"PATH=" + b.bin} }

// Podman runs podman on the bed's store.
func (b *Bed) Podman(t *testing.T, args ...string) string {
	t.Helper()

	var out, errOut strings.Builder

	cmd := exec.Command(filepath.Join(b.bin, "podman"), args...) //nolint:noctx // short, and outlives the test's context in cleanups
	cmd.Stdout, cmd.Stderr = &out, &errOut

	if err := cmd.Run(); err != nil {
		t.Errorf("podman %s: %v\n%s", strings.Join(args, " "), err, errOut.String())
	}

	return strings.TrimSpace(out.String())
}

// Building waits until a container has written a line, or until stop is closed.
func (b *Bed) Building(text string, stop <-chan struct{}) {
	ask := func(args ...string) string {
		out, _ := exec.Command(filepath.Join(b.bin, "podman"), args...).CombinedOutput() //nolint:noctx // short
		return strings.TrimSpace(string(out))
	}

	for !strings.Contains(ask("logs", ask("ps", "-q", "--latest")), text) {
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Containers lists every container of the store, by name.
func (b *Bed) Containers(t *testing.T) []string {
	t.Helper()

	return strings.Fields(b.Podman(t, "ps", "-a", "--format", "{{.Names}}"))
}

func (b *Bed) write(t *testing.T, path, body string, mode os.FileMode) {
	t.Helper()

	if err := os.WriteFile(path, []byte(body), mode); err != nil {
		t.Fatal(err)
	}
}

// Saw finds the stub's report among progress events (--progress json).
func Saw(t *testing.T, stderr string) seen.Report {
	t.Helper()

	lines := bufio.NewScanner(strings.NewReader(stderr))
	for lines.Scan() {
		var e struct {
			Message string `json:"message"`
		}

		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}

		if text, ok := strings.CutPrefix(e.Message, seen.Prefix); ok {
			var r seen.Report
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				t.Fatal(err)
			}

			return r
		}
	}

	t.Fatalf("the stub imager did not run:\n%s", stderr)

	return seen.Report{}
}
