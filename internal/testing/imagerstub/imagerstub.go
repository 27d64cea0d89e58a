// Package imagerstub is a bed for imager builds: a real container engine with a store of its own, a real
// registry on loopback with a release's images, and a stand-in for the imager built from scratch.
package imagerstub

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/talosmate/talosmate/internal/testing/imagerstub/seen"
)

// Version is the Talos version whose images the registry has.
const Version = "v1.13.9"

// Bed is one engine with one registry.
type Bed struct {
	Host string // The registry's host and port.
	Base string // Where the release images are.
	Dir  string // For what a test writes.

	bin    string
	podman string
}

// Start makes a bed with podman, the engine that the PATH of Env leads to.
func Start(t *testing.T) *Bed {
	t.Helper()

	return start(t, 0)
}

// StartRootless is Start with an engine that runs as the given user and has no rights of root's. It takes root.
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

// Registry serves a release's images but the imager itself, and returns where they are. The release v1.13.2 has
// no proper catalogue.
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
		user = fmt.Sprintf("setpriv --reuid=%[1]d --regid=%[1]d --clear-groups env HOME=%[2]s XDG_RUNTIME_DIR=%[2]s PATH=/usr/sbin:/usr/bin:/sbin:/bin ", uid, state)
		storage = "[storage.options]\nignore_chown_errors = \"true\"\n" // one user has one ID to give away
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

// handOver gives directories of a test to a user, and lets the user pass through what is above them.
func handOver(t *testing.T, uid int, dirs ...string) {
	t.Helper()

	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}

		for _, path := range append(files, dir) {
			if err := os.Chown(path, uid, uid); err != nil {
				t.Fatalf("the test takes root: %v", err)
			}
		}

		if err := errors.Join(os.Chmod(dir, 0o700), os.Chmod(filepath.Dir(dir), 0o711)); err != nil {
			t.Fatal(err)
		}
	}
}

// AsDocker puts docker's name before the same engine and records how it is called.
func (b *Bed) AsDocker(t *testing.T) (record string) {
	t.Helper()

	record = filepath.Join(t.TempDir(), "argv")
	// What differs on the command line is answered here: docker's word for rootless.
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

// Script puts a program of a test's own on the PATH.
func (b *Bed) Script(t *testing.T, name, body string) {
	t.Helper()
	b.write(t, filepath.Join(b.bin, name), "#!/bin/sh\n"+body+"\n", 0o755)
}

// Bin is the directory that has the bed's engines.
func (b *Bed) Bin() string { return b.bin }

// Env is the environment of a command line that shall find this bed.
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

// Building waits until a container has said something, or until stop is closed.
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

// publish puts a release's images into the registry.
func (b *Bed) publish(t *testing.T) {
	t.Helper()

	b.Push(t, "installer-base:"+Version, Image(t, map[string][]byte{"base": []byte("base installer")}))

	var digests, descriptions strings.Builder

	for _, e := range []struct{ tag, tier, text string }{
		{"qemu-guest-agent:10.2.0", "core", "This system extension provides the QEMU Guest Agent service."},
		{"zfs:2.4.1-" + Version, "contrib", "This system extension provides the ZFS kernel module."},
		{"iscsi-tools:v0.2.0", "core", "This system extension provides iscsi-tools."},
	} {
		line := OfficialName(e.tag) + "@" + b.Push(t, e.tag, Image(t, map[string][]byte{"manifest.yaml": Manifest(">= v1.5.0")}))
		fmt.Fprintln(&digests, line)
		fmt.Fprintf(&descriptions, "%s:\n  author: Sidero Labs\n  description: |\n    [%s] %s\n", line, e.tier, e.text)
	}

	b.Push(t, "extensions:"+Version, Image(t, map[string][]byte{
		"image-digests": []byte(digests.String()), "descriptions.yaml": []byte(descriptions.String()),
	}))

	board := b.Push(t, "sbc-raspberrypi:v0.2.0", Image(t, map[string][]byte{"board": []byte("rpi")}))
	b.Push(t, "overlays:"+Version, Image(t, map[string][]byte{"overlays.yaml": []byte(
		"overlays:\n  - name: rpi_generic\n    image: ghcr.io/siderolabs/sbc-raspberrypi:v0.2.0\n    digest: " + board + "\n")}))
}

// OfficialName is how the catalogues name an image.
func OfficialName(tagged string) string { return "ghcr.io/siderolabs/" + tagged }

// Manifest is the manifest of an extension that is for the given Talos versions.
func Manifest(versions string) []byte {
	return []byte("version: v1alpha1\nmetadata:\n  name: x\n  version: \"1\"\n  compatibility:\n    talos:\n      version: \"" + versions + "\"\n")
}

// Push puts an image under the release's base and returns its digest.
func (b *Bed) Push(t *testing.T, tagged string, img v1.Image) string {
	t.Helper()

	ref, err := name.ParseReference(b.Base + "/" + tagged)
	if err != nil {
		t.Fatal(err)
	}

	if err = remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}

	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}

	return digest.String()
}

// Retag gives an image of the registry another tag.
func (b *Bed) Retag(t *testing.T, from, to string) {
	t.Helper()

	ref, err := name.ParseReference(b.Base + "/" + from)
	if err != nil {
		t.Fatal(err)
	}

	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}

	b.Push(t, to, img)
}

// Image makes an image from scratch with the given files.
func Image(t *testing.T, files map[string][]byte) v1.Image {
	t.Helper()

	var layer bytes.Buffer

	w := tar.NewWriter(&layer)

	for file, body := range files {
		mode := int64(0o644)
		if file == "imager" {
			mode = 0o755
		}

		if err := w.WriteHeader(&tar.Header{Name: file, Mode: mode, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}

		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	content, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}

	img, err := mutate.AppendLayers(empty.Image, content)
	if err != nil {
		t.Fatal(err)
	}

	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}

	config.OS, config.Architecture = "linux", runtime.GOARCH

	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}

	return img
}

// imager builds the stand-in's image, with an installer archive in it that names itself as the imager's do.
func (b *Bed) imager(t *testing.T) v1.Image {
	t.Helper()

	program := filepath.Join(t.TempDir(), "imager")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, //nolint:noctx // bounded by the test's own deadline
		"github.com/talosmate/talosmate/internal/testing/imagerstub/stub")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")

	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the stand-in imager: %v\n%s", err, out)
	}

	body, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}

	img := Image(t, map[string][]byte{"imager": body, "installer.tar": installerArchive(t)})

	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}

	config.Config.Entrypoint = []string{"/imager"}

	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}

	return img
}

func installerArchive(t *testing.T) []byte {
	t.Helper()

	img, err := random.Image(128, 2)
	if err != nil {
		t.Fatal(err)
	}

	tag, err := name.NewTag("ghcr.io/siderolabs/installer-base:1.13.9")
	if err != nil {
		t.Fatal(err)
	}

	var out bytes.Buffer
	if err = tarball.Write(tag, img, &out); err != nil {
		t.Fatal(err)
	}

	return out.Bytes()
}

// Saw finds the stand-in's report among progress events (--progress json).
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

	t.Fatalf("the stand-in imager did not run:\n%s", stderr)

	return seen.Report{}
}
