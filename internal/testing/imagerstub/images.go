package imagerstub

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

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

// imager builds the stub's image, which contains an installer archive with the name that the imager gives it.
func (b *Bed) imager(t *testing.T) v1.Image {
	t.Helper()

	program := filepath.Join(t.TempDir(), "imager")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, //nolint:noctx // bounded by the test's own deadline
		"github.com/talosmate/talosmate/internal/testing/imagerstub/stub")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")

	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the stub imager: %v\n%s", err, out)
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

	tag, err := name.NewTag("ghcr.io/siderolabs/installer-base:1.14.1")
	if err != nil {
		t.Fatal(err)
	}

	var out bytes.Buffer
	if err = tarball.Write(tag, img, &out); err != nil {
		t.Fatal(err)
	}

	return out.Bytes()
}
