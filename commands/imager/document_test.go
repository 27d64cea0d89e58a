package imager_test

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/imager"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/imagerstub"
)

// fromStdin runs `imager build -` with a profile document.
func fromStdin(t *testing.T, bed *imagerstub.Bed, document string, args ...string) (imager.Result, clitest.Result) {
	t.Helper()

	args = append([]string{
		"imager", "build", "-", "--registry", bed.Base, "--output-dir", filepath.Join(bed.Dir, "out"), "-o", "json", "--progress", "json",
	}, args...)
	got := clitest.RunContext(t, t.Context(), strings.NewReader(document), bed.Env(), args...)

	var doc output.Single[imager.Result]
	if err := json.Unmarshal([]byte(got.Stdout), &doc); err != nil {
		t.Fatalf("%v\n%s\n%s", err, got.Stdout, got.Stderr)
	}

	return doc.Result, got
}

// signer listens on a socket and says its name to whoever connects. It returns its address.
func signer(t *testing.T, name string) string {
	t.Helper()

	dir, err := os.MkdirTemp("", "signer-") //nolint:usetesting // a socket's path is short, and a test's own directory is not
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = os.RemoveAll(dir) })

	path := filepath.Join(dir, "s")

	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = listener.Close() })

	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}

			_, _ = conn.Write([]byte(name))
			_ = conn.Close()
		}
	}()

	return "unix://" + path
}

// A service that signs is reached from the container over its socket, and no key goes in.
func TestBuildSigners(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)
	bed.Retag(t, "imager:"+imagerstub.Version, "imager:v1.14.0")

	kernel, measurements := signer(t, "kernel"), signer(t, "measurements")

	_, got := ok(t, bed, "secureboot-iso", "--talos-version", "v1.14.0", "--secureboot-signer-address", kernel, "--pcr-signer-address", measurements)

	saw := imagerstub.Saw(t, got.Stderr)
	if saw.Signers["unix:///signer/secureboot.sock"] != "kernel" || saw.Signers["unix:///signer/pcr.sock"] != "measurements" {
		t.Errorf("behind the sockets: %v", saw.Signers)
	}

	for label, c := range map[string]struct {
		args []string
		says string
	}{
		"one signer needs the other's key": {[]string{"--talos-version", "v1.14.0", "--secureboot-signer-address", kernel}, "needs signing keys"},
		"too old":                          {[]string{"--talos-version", "v1.13.9", "--secureboot-signer-address", kernel, "--pcr-signer-address", kernel}, "v1.14.0 is the first"},
		"not a socket": {
			[]string{"--talos-version", "v1.14.0", "--secureboot-signer-address", "unix:///etc/passwd", "--pcr-signer-address", kernel}, "has no listener",
		},
		"another machine": {
			[]string{"--talos-version", "v1.14.0", "--secureboot-signer-address", "tcp://x:1", "--pcr-signer-address", kernel}, "is not unix:// and an absolute path",
		},
	} {
		if _, got := build(t, bed, append([]string{"secureboot-iso"}, c.args...)...); got.Code != int(errs.Usage) || !strings.Contains(got.Stderr, c.says) {
			t.Errorf("%s: exit code %d\n%s", label, got.Code, got.Stderr)
		}
	}
}

const profile = `# kept
arch: amd64
platform: metal
secureboot: false
version: v1.14.1
customization:
  extraKernelArgs: [net.ifnames=0]
  metaContents: [{key: 10, value: x}]
  embeddedMachineConfiguration: |
    token: hunter2
input:
  kernel: {path: /usr/install/amd64/vmlinuz}
  systemExtensions:
    - tarballPath: TARBALL
    - imageRef: ghcr.io/siderolabs/zfs:2.4.1-v1.14.1
overlay:
  name: rpi_generic
  image:
output:
  kind: iso
  isoOptions: {sdBootEnrollKeys: force}
  outFormat: raw
`

// The document reaches the imager as it is, with its images by digest and its files in reach.
func TestBuildDocument(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)
	bed.AsDocker(t)

	tarball := filepath.Join(bed.Dir, "extension.tar")
	if err := os.WriteFile(tarball, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	document := strings.Replace(profile, "TARBALL", tarball, 1)

	result, got := fromStdin(t, bed, document)
	if got.Code != 0 || result.Expected != "metal-amd64.iso" || result.Profile != "-" {
		t.Fatalf("exit code %d, %+v\n%s", got.Code, result, got.Stderr)
	}

	digest := map[string]string{}
	for _, in := range result.Images {
		digest[in.Name] = in.Pinned()
	}

	// What was there is there, and nothing but the images changed.
	want := strings.NewReplacer("ghcr.io/siderolabs/zfs:2.4.1-v1.14.1", digest["zfs"], "image:\n", "image:\n    imageRef: "+digest["rpi_generic"]+"\n").Replace(document)
	saw := imagerstub.Saw(t, got.Stderr)

	if !slices.Equal(saw.Args, []string{"-"}) || !sameYAML(t, saw.Document, want) || !strings.HasPrefix(saw.Document, "# kept\n") {
		t.Errorf("args %v, document\n%s\nwant\n%s", saw.Args, saw.Document, want)
	}

	if strings.Contains(got.Stdout, "hunter2") || !sameYAML(t, result.Document, strings.Replace(want, "|\n    token: hunter2", "\"[redacted]\"", 1)) {
		t.Errorf("shown\n%s", result.Document)
	}

	if command := strings.Join(result.Command, " "); !strings.Contains(command, " -i -v ") || !strings.Contains(command, tarball+":"+tarball+":ro") {
		t.Errorf("command %s", command)
	}

	// A base profile says the rest; the release's base installer is pinned too.
	got = clitest.RunContext(t, t.Context(), strings.NewReader("baseProfileName: installer\narch: arm64\n"), bed.Env(),
		"imager", "build", "-", "--registry", bed.Base, "--dry-run")
	if got.Code != 0 || !strings.Contains(got.Stdout, " -i -v ") || !strings.Contains(got.Stdout, "    imageRef: "+bed.Base+"/installer-base:v1.14.1@sha256:") {
		t.Errorf("exit code %d\n%s\n%s", got.Code, got.Stdout, got.Stderr)
	}

	lock := filepath.Join(bed.Dir, "lock")
	for range 2 {
		if _, got = fromStdin(t, bed, document, "--lock", lock); got.Code != 0 {
			t.Errorf("exit code %d\n%s", got.Code, got.Stderr)
		}
	}

	if _, got = fromStdin(t, bed, document+"\n# another\n", "--lock", lock); got.Code != int(errs.Usage) || !strings.Contains(got.Stderr, "is for another build") {
		t.Errorf("exit code %d\n%s", got.Code, got.Stderr)
	}
}

func sameYAML(t *testing.T, a, b string) bool {
	t.Helper()

	text := make([]string, 2)

	for i, source := range []string{a, b} {
		var v any
		if err := yaml.Unmarshal([]byte(source), &v); err != nil {
			t.Error(err)
		}

		body, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}

		text[i] = string(body)
	}

	return text[0] == text[1]
}

func TestBuildDocumentRefused(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)

	for label, c := range map[string]struct {
		document string
		args     []string
		says     string
	}{
		"not YAML":            {"arch: [", nil, "cannot read the imager profile"},
		"a build file":        {"version: talosmate/v1\nkind: ImagerBuild\n", nil, "not an imager profile"},
		"no architecture":     {"baseProfileName: iso\n", nil, "names no architecture"},
		"no platform":         {"arch: amd64\noutput: {kind: iso}\n", nil, "neither a platform nor a base profile"},
		"unknown base":        {"arch: amd64\nbaseProfileName: x\n", nil, `unknown imager profile "x"`},
		"unknown kind":        {"arch: amd64\nplatform: metal\noutput: {kind: floppy}\n", nil, `unknown output kind "floppy"`},
		"another version":     {"arch: amd64\nbaseProfileName: iso\nversion: v1.12.0\n", []string{"--talos-version", "v1.14.1"}, "is for Talos v1.12.0, not v1.14.1"},
		"what to build":       {"arch: amd64\nbaseProfileName: iso\n", []string{"--kernel-arg", "a", "--arch", "arm64"}, "put --arch, --kernel-arg into the profile document"},
		"a file missing":      {"arch: amd64\nbaseProfileName: iso\ninput: {imageCache: {ociPath: /nonexistent}}\n", nil, "cannot read /nonexistent, which the imager profile names: no such file"},
		"no keys":             {"arch: amd64\nbaseProfileName: secureboot-iso\n", nil, "needs signing keys"},
		"keys for nothing":    {"arch: amd64\nbaseProfileName: iso\n", []string{"--secureboot-keys", "x"}, "is not for secure boot"},
		"latest":              {"arch: amd64\nbaseProfileName: iso\ninput: {systemExtensions: [{imageRef: x.lan/y:latest}]}\n", nil, "refusing extension x.lan/y:latest"},
		"two overlays":        {"arch: amd64\nbaseProfileName: iso\noverlay: {name: a, image: {imageRef: a:1}}\ninput: {overlayInstaller: {imageRef: b:1}}\n", nil, "two overlay images"},
		"too old to embed":    {"arch: amd64\nbaseProfileName: iso\nversion: v1.11.0\ncustomization: {embeddedMachineConfiguration: x}\n", nil, "cannot embed a machine configuration"},
		"signer not listened": {"arch: amd64\nversion: v1.14.0\nbaseProfileName: secureboot-iso\ninput: {secureboot: {secureBootSigner: {signerAddress: unix:///x}, pcrSigner: {keyPath: /k}}}\n", nil, "has no listener"},
	} {
		if _, got := fromStdin(t, bed, c.document, c.args...); got.Code != int(errs.Usage) || !strings.Contains(got.Stderr, c.says) {
			t.Errorf("%s: exit code %d, want %q\n%s", label, got.Code, c.says, got.Stderr)
		}
	}
}
