package imager_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/imager"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/imagerstub"
)

// build runs `imager build` on a bed with JSON everywhere.
func build(t *testing.T, bed *imagerstub.Bed, args ...string) (imager.Result, clitest.Result) {
	t.Helper()

	args = append([]string{"imager", "build", "--registry", bed.Base, "--output-dir", filepath.Join(bed.Dir, "out"), "-o", "json", "--progress", "json"}, args...)
	got := clitest.Run(t, bed.Env(), args...)

	var doc output.Single[imager.Result]
	if err := json.Unmarshal([]byte(got.Stdout), &doc); err != nil {
		t.Fatalf("%v\n%s\n%s", err, got.Stdout, got.Stderr)
	}

	return doc.Result, got
}

// ok is build that must succeed.
func ok(t *testing.T, bed *imagerstub.Bed, args ...string) (imager.Result, clitest.Result) {
	t.Helper()

	result, got := build(t, bed, args...)
	if got.Code != 0 {
		t.Fatalf("exit code %d\n%s", got.Code, got.Stderr)
	}

	return result, got
}

// files lists everything in the output directory, the hidden included.
func files(t *testing.T, bed *imagerstub.Bed) []string {
	t.Helper()

	entries, err := os.ReadDir(filepath.Join(bed.Dir, "out"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}

	out := []string{}
	for _, e := range entries {
		out = append(out, e.Name())
	}

	return out
}

// The same builds with podman itself and through docker's command line.
func TestBuild(t *testing.T) {
	t.Parallel()

	for _, engine := range []string{"podman", "docker"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()

			bed := imagerstub.Start(t)
			if engine == "docker" {
				bed.AsDocker(t)
			}

			result, got := ok(t, bed, "iso", "--arch", "arm64", "--extension", "qemu-guest-agent", "--extension", "zfs:2.4.1-v1.14.1",
				"--overlay", "rpi_generic", "--overlay-option", "a=1", "--kernel-arg", "net.ifnames=0", "--meta", "0xa=x")

			if result.Engine != engine || result.Privileged {
				t.Errorf("engine %q, privileged %v", result.Engine, result.Privileged)
			}

			saw := imagerstub.Saw(t, got.Stderr)
			if saw.Privileged() || saw.HostDevices {
				t.Errorf("the container had privileges: %+v", saw)
			}

			digest := map[string]string{}
			for _, in := range result.Images {
				digest[in.Name] = in.Pinned()
			}

			want := []string{
				"iso", "--arch", "arm64", "--system-extension-image", digest["qemu-guest-agent"], "--system-extension-image", digest["zfs"],
				"--overlay-image", digest["rpi_generic"], "--overlay-name", "rpi_generic", "--overlay-option", "a=1",
				"--extra-kernel-arg", "net.ifnames=0", "--meta", "0xa=x",
			}
			if !slices.Equal(saw.Args, want) {
				t.Errorf("the imager got\n%v, want\n%v", saw.Args, want)
			}

			if !strings.HasPrefix(digest["zfs"], bed.Base+"/zfs:2.4.1-v1.14.1@sha256:") {
				t.Errorf("zfs is %q", digest["zfs"])
			}

			if !slices.Equal(files(t, bed), []string{"metal-arm64.iso"}) {
				t.Errorf("files %v", files(t, bed))
			}

			body, err := os.ReadFile(result.Files[0].Path)
			if err != nil {
				t.Fatal(err)
			}

			if f := result.Files[0]; f.SHA256 != fmt.Sprintf("%x", sha256.Sum256(body)) || f.SizeBytes != int64(len(body)) {
				t.Errorf("listed %+v", f)
			}
		})
	}
}

// A disk image of 1.12 needs loop devices; nothing else does, and 1.13 never.
func TestBuildPrivileges(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)
	bed.Retag(t, "imager:"+imagerstub.Version, "imager:v1.12.9")

	for _, c := range []struct {
		args []string
		want bool
	}{
		{[]string{"metal", "--talos-version", "v1.12.9"}, true},
		{[]string{"iso", "--talos-version", "v1.12.9"}, false},
		{[]string{"metal"}, false},
		{[]string{"metal", "--privileged", "always"}, true},
		{[]string{"metal", "--talos-version", "v1.12.9", "--privileged", "never"}, false},
	} {
		result, got := ok(t, bed, c.args...)
		saw := imagerstub.Saw(t, got.Stderr)

		if saw.Privileged() != c.want || saw.HostDevices != c.want || result.Privileged != c.want {
			t.Errorf("%v: privileged %v, host devices %v, document says %v", c.args, saw.Privileged(), saw.HostDevices, result.Privileged)
		}
	}
}

func TestBuildMounts(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)
	sums := map[string]string{}

	file := func(path, body string) string {
		full := filepath.Join(bed.Dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(full, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}

		sums[body] = fmt.Sprintf("%x", sha256.Sum256([]byte(body)))

		return full
	}

	keys := filepath.Dir(file("keys/uki-signing-cert.pem", "cert"))
	file("keys/uki-signing-key.pem", "key")
	file("keys/pcr-signing-key.pem", "pcr")

	_, got := ok(t, bed, "secureboot-metal", "--secureboot-keys", keys, "--secureboot-include-well-known-certs",
		"--embedded-config", file("machine:config.yaml", "config"), "--image-cache", filepath.Dir(file("cache/index.json", "cache")),
		"--registry-auth", file("auth.json", "{}"), "--overlay", "rpi_generic", "--overlay-option", "dtb=@"+file("board.yaml", "board"),
		"--network", "none")

	saw := imagerstub.Saw(t, got.Stderr)

	for path, body := range map[string]string{
		"/secureboot/uki-signing-cert.pem": "cert", "/embedded-config.yaml": "config", "/image-cache/index.json": "cache",
		"/registry-auth/config.json": "{}", "/overlay-options/0": "board",
	} {
		if saw.Files[path] != sums[body] {
			t.Errorf("%s is not what was given", path)
		}
	}

	if len(saw.Writable) > 0 {
		t.Errorf("writable: %v", saw.Writable)
	}

	if !slices.Contains(saw.Env, "DOCKER_CONFIG=/registry-auth") || !slices.Contains(saw.Args, "dtb=@/overlay-options/0") {
		t.Errorf("env %v, args %v", saw.Env, saw.Args)
	}
}

func TestBuildTakesOver(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)
	result, _ := ok(t, bed, "metal", "--kernel-arg", "stub.owner=1234")

	info, err := os.Stat(result.Files[0].Path)
	if err != nil {
		t.Fatal(err)
	}

	if uid := ownerOf(info); info.Mode().Perm() != 0o644 || uid != os.Geteuid() {
		t.Errorf("mode %v, owner %d", info.Mode(), uid)
	}

	// sudo's caller is the one to own it.
	got := clitest.Run(t, append(bed.Env(), "SUDO_UID=4321", "SUDO_GID=4321"), "imager", "build", "metal", "--registry", bed.Base,
		"--output-dir", filepath.Join(bed.Dir, "out"), "--kernel-arg", "stub.owner=1234")
	if got.Code != 0 {
		t.Fatal(got.Stderr)
	}

	if info, err = os.Stat(result.Files[0].Path); err != nil || ownerOf(info) != 4321 {
		t.Errorf("owner %d, %v", ownerOf(info), err)
	}
}

func TestBuildFailures(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)
	bed.Push(t, "wrong:1.0-v1.12.0", imagerstub.Image(t, map[string][]byte{"manifest.yaml": imagerstub.Manifest(">= v1.5.0")}))
	bed.Push(t, "future:1.0", imagerstub.Image(t, map[string][]byte{"manifest.yaml": imagerstub.Manifest(">= v1.15.0")}))
	bed.Push(t, "noextension:1.0", imagerstub.Image(t, map[string][]byte{"x": nil}))
	bed.Push(t, "third:1.0", imagerstub.Image(t, map[string][]byte{"manifest.yaml": imagerstub.Manifest(">= v1.5.0")}))

	for label, c := range map[string]struct {
		args []string
		code errs.Code
		says string
	}{
		"no profile":            {nil, errs.Usage, "want a PROFILE"},
		"unknown profile":       {[]string{"disk-image"}, errs.Usage, `unknown imager profile "disk-image"`},
		"profile too new":       {[]string{"metal-4k", "--talos-version", "v1.13.9"}, errs.Usage, "it came with v1.14.0"},
		"latest":                {[]string{"iso", "--talos-version", "latest"}, errs.Usage, "`latest` is not a version"},
		"unknown extension":     {[]string{"iso", "--extension", "guest-agent"}, errs.Usage, "did you mean qemu-guest-agent?"},
		"latest extension":      {[]string{"iso", "--extension", "zfs:latest"}, errs.Usage, "refusing extension zfs:latest"},
		"other tag":             {[]string{"iso", "--extension", "zfs:2.2.0-v1.9.0"}, errs.Usage, "was released with zfs:2.4.1-v1.14.1@sha256:"},
		"other digest":          {[]string{"iso", "--extension", "zfs@sha256:" + strings.Repeat("0", 64)}, errs.Usage, "refusing extension zfs@"},
		"foreign, other kernel": {[]string{"iso", "--extension", bed.Base + "/wrong:1.0-v1.12.0"}, errs.Usage, "it was built for Talos v1.12.0"},
		"foreign, other range":  {[]string{"iso", "--extension", bed.Base + "/future:1.0"}, errs.Usage, "it is for Talos >= v1.15.0"},
		"foreign, no version":   {[]string{"iso", "--extension", bed.Base + "/third"}, errs.Usage, "it names no version"},
		"not an extension":      {[]string{"iso", "--extension", bed.Base + "/noextension:1.0"}, errs.Usage, "it has no manifest.yaml"},
		"twice":                 {[]string{"iso", "--extension", "zfs", "--extension", "siderolabs/zfs"}, errs.Usage, "named twice"},
		"unknown overlay":       {[]string{"iso", "--overlay", "rpi_9"}, errs.Usage, `no overlay "rpi_9"`},
		"image missing":         {[]string{"iso", "--talos-version", "v1.13.1"}, errs.Failed, "the registry does not have it"},
		"registry away":         {[]string{"iso", "--registry", "127.0.0.1:1/siderolabs"}, errs.Unreachable, "the registry cannot be reached"},
		"unknown engine":        {[]string{"iso", "--engine", "lxc"}, errs.Usage, "unknown --engine"},
		"engine missing":        {[]string{"iso", "--engine", "nerdctl"}, errs.Failed, "cannot find a container engine: no nerdctl"},
		"imager fails":          {[]string{"iso", "--kernel-arg", "stub.fail=7"}, errs.Failed, "failed as told with 7 (exit status 7)"},
		"nothing written":       {[]string{"iso", "--kernel-arg", "stub.nothing"}, errs.Failed, "wrote nothing"},
		"a link":                {[]string{"iso", "--kernel-arg", "stub.link"}, errs.Failed, "link, which is not a plain file"},
		"meta in an installer":  {[]string{"installer", "--meta", "0xa=x"}, errs.Usage, "cannot have META"},
		"bad meta":              {[]string{"iso", "--meta", "0x100=x"}, errs.Usage, "not a number up to 0xff"},
		"push of an iso":        {[]string{"iso", "--push", "x/y:z"}, errs.Usage, "--load and --push are for installers"},
		"base of an iso":        {[]string{"iso", "--base-installer", "x/y:1"}, errs.Usage, "only an installer has a base installer"},
		"check without lock":    {[]string{"iso", "--check"}, errs.Usage, "need the lock file"},
		"secure boot keys":      {[]string{"secureboot-iso"}, errs.Usage, "needs signing keys"},
		"secure boot flag":      {[]string{"iso", "--secureboot-keys", "x"}, errs.Usage, "is not a secure boot profile"},
		"too new a flag": {
			[]string{"secureboot-iso", "--talos-version", "v1.13.9", "--secureboot-keys", "x", "--secureboot-enroll-keys", "force"}, errs.Usage, "v1.14.0 is the first",
		},
		"timeout": {[]string{"iso", "--kernel-arg", "stub.sleep=60s", "--build-timeout", "1500ms"}, errs.Timeout, "did not finish within 1.5s"},
	} {
		t.Run(label, func(t *testing.T) {
			_, got := build(t, bed, c.args...)

			if got.Code != int(c.code) || !strings.Contains(got.Stderr, c.says) {
				t.Errorf("exit code %d, want %d and %q\n%s", got.Code, c.code, c.says, got.Stderr)
			}

			if left := files(t, bed); len(left) > 0 {
				t.Errorf("files left: %v", left)
			}

			if left := bed.Containers(t); len(left) > 0 {
				t.Errorf("containers left: %v", left)
			}
		})
	}

	// What a foreign extension says of itself fits: it goes in by digest.
	if result, _ := ok(t, bed, "iso", "--extension", bed.Base+"/third:1.0"); !strings.Contains(strings.Join(result.Command, " "), "/third:1.0@sha256:") {
		t.Errorf("command %v", result.Command)
	}
}

func TestBuildEngineChoice(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)
	bed.Script(t, "docker", "case \"$1\" in --version) echo 'Docker version 28.2.2, build e6534b4';; *)"+
		" echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?' >&2; exit 1;; esac")

	// A docker without its daemon is passed over.
	if result, _ := ok(t, bed, "iso"); result.Engine != "podman" || result.EngineVersion == "" {
		t.Errorf("engine %q %q", result.Engine, result.EngineVersion)
	}

	_, got := build(t, bed, "iso", "--engine", "docker")
	if got.Code != int(errs.Unreachable) || !strings.Contains(got.Stderr, "Cannot connect to the Docker daemon") || !strings.Contains(got.Stderr, "hint: check that the daemon runs") {
		t.Errorf("exit code %d\n%s", got.Code, got.Stderr)
	}

	none := clitest.Run(t, []string{"PATH=" + t.TempDir()}, "imager", "build", "iso", "--registry", bed.Base)
	if none.Code != int(errs.Failed) || !strings.Contains(none.Stderr, "cannot find a container engine: no docker, podman, nerdctl on the PATH") {
		t.Errorf("exit code %d\n%s", none.Code, none.Stderr)
	}
}

// Without a registry in reach, an imager that the engine has is good enough.
func TestBuildWithALocalImager(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)
	bed.Podman(t, "pull", "-q", bed.Base+"/imager:"+imagerstub.Version)
	bed.Podman(t, "tag", bed.Base+"/imager:"+imagerstub.Version, "127.0.0.1:1/away/imager:"+imagerstub.Version)

	got := clitest.Run(t, bed.Env(), "imager", "build", "iso", "--registry", "127.0.0.1:1/away", "--output-dir", filepath.Join(bed.Dir, "out"))
	if got.Code != 0 {
		t.Errorf("exit code %d\n%s", got.Code, got.Stderr)
	}
}

// An interrupt takes the container and the half file away, also from an imager that does not listen.
func TestBuildInterrupted(t *testing.T) {
	t.Parallel()

	for _, knob := range []string{"stub.polite", "stub.deaf"} {
		t.Run(knob, func(t *testing.T) {
			t.Parallel()

			bed := imagerstub.Start(t)
			ctx, cancel := context.WithCancelCause(t.Context())

			defer cancel(nil)

			go func() {
				bed.Building("creating disk image", ctx.Done())
				cancel(errs.New(errs.Interrupted, "interrupted by interrupt"))
			}()

			got := clitest.RunContext(t, ctx, strings.NewReader(""), bed.Env(), "imager", "build", "metal", "--registry", bed.Base, "--output-dir",
				filepath.Join(bed.Dir, "out"), "--kernel-arg", knob, "--kernel-arg", "stub.sleep=60s")

			if got.Code != int(errs.Interrupted) || !strings.Contains(got.Stderr, "interrupted by interrupt") {
				t.Errorf("exit code %d\n%s", got.Code, got.Stderr)
			}

			if left := bed.Containers(t); len(left) > 0 {
				t.Errorf("containers left: %v", left)
			}

			if left := files(t, bed); len(left) > 0 {
				t.Errorf("files left: %v", left)
			}
		})
	}
}

func TestBuildDryRunWithoutRegistry(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)
	record := bed.AsDocker(t)
	args := []string{
		"imager", "build", "metal", "--registry", "127.0.0.1:1/siderolabs", "--talos-version", "v1.14.1", "--extension", "iscsi-tools",
		"--output-dir", "/results",
	}

	got := clitest.Run(t, bed.Env(), append(args, "--dry-run")...)
	if got.Code != 0 || !strings.Contains(got.Stdout, " 127.0.0.1:1/siderolabs/imager:v1.14.1 ") ||
		!strings.Contains(got.Stdout, "--system-extension-image 127.0.0.1:1/siderolabs/iscsi-tools") || strings.Contains(got.Stdout, "sha256") {
		t.Errorf("%+v", got)
	}

	if !strings.Contains(got.Stderr, "a registry cannot be reached: images are named by tag") {
		t.Errorf("stderr: %s", got.Stderr)
	}

	got = clitest.Run(t, bed.Env(), append(args, "--dry-run", "-o", "json", "--query", ".result.unresolved")...)
	if got.Code != 0 || got.Stdout != "true\n" {
		t.Errorf("%+v", got)
	}

	// What is built, or locked, has digests.
	for _, more := range [][]string{{}, {"--dry-run", "--lock", t.TempDir() + "/lock.yaml"}} {
		if got = clitest.Run(t, bed.Env(), append(args, more...)...); got.Code == 0 {
			t.Errorf("%v: %+v", more, got)
		}
	}

	if body, err := os.ReadFile(record); err == nil && strings.Contains(string(body), "\nrun\n") {
		t.Errorf("the engine ran something: %s", body)
	}
}

func TestBuildDryRun(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)
	record := bed.AsDocker(t)

	got := clitest.Run(t, bed.Env(), "imager", "build", "metal", "--registry", bed.Base, "--dry-run", "--kernel-arg", "a b", "--output-dir", "/results")
	if got.Code != 0 {
		t.Fatal(got.Stderr)
	}

	want := "docker run --rm -v /results:/out " + bed.Base + "/imager@sha256:"
	if !strings.HasPrefix(got.Stdout, want) || !strings.HasSuffix(got.Stdout, " --extra-kernel-arg 'a b'\n") {
		t.Errorf("got %s", got.Stdout)
	}

	if body, err := os.ReadFile(record); err == nil {
		t.Errorf("a dry run called the engine: %s", body)
	}

	refused := clitest.Run(t, bed.Env(), "imager", "build", "metal", "--registry", bed.Base, "--read-only")
	if refused.Code != int(errs.Refused) {
		t.Errorf("--read-only: exit code %d", refused.Code)
	}
}

// Docker is called with exactly this.
func TestBuildDockerArgv(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)
	record := bed.AsDocker(t)

	result, _ := ok(t, bed, "iso", "--arch", "amd64")

	body, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}

	image := strings.Split(result.Images[0].Reference, ":v1")[0] + "@" + result.Images[0].Digest
	name := result.Command[slices.Index(result.Command, "--name")+1]
	calls := strings.Split(strings.TrimSuffix(string(body), "--\n"), "--\n")

	var got []string
	for _, c := range calls {
		got = append(got, strings.Join(strings.Fields(c), " "))
	}

	scratch, _, _ := strings.Cut(result.Command[slices.Index(result.Command, "-v")+1], ":")
	want := []string{
		"--version", "info --format {{.SecurityOptions}}", "image inspect --format {{.Id}} " + image, "pull " + image,
		"run --rm --name " + name + " --pull never -v " + scratch + ":/out " + image + " iso --arch amd64",
	}

	if !slices.Equal(got, want) {
		t.Errorf("docker was called with\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	if filepath.Dir(scratch) != result.OutputDir || !strings.HasPrefix(name, "talosmate-imager-") {
		t.Errorf("scratch %s, name %s", scratch, name)
	}
}

func TestBuildFromFileAndLock(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)
	file, lock := filepath.Join(bed.Dir, "build.yaml"), filepath.Join(bed.Dir, "build.lock")

	write := func(body string) {
		if err := os.WriteFile(file, []byte("version: talosmate/v1\nkind: ImagerBuild\ntalos_version: v1.14.1\narch: amd64\n"+body), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	write("profile: metal\nextensions: [qemu-guest-agent]\n")

	first, _ := ok(t, bed, "-f", file, "--lock", lock)

	locked, err := os.ReadFile(lock)
	if err != nil {
		t.Fatal(err)
	}

	second, got := ok(t, bed, "-f", file, "--lock", lock, "--output-dir", filepath.Join(bed.Dir, "again"))
	if first.Files[0].SHA256 != second.Files[0].SHA256 {
		t.Error("two builds from one lock file differ")
	}

	saw := imagerstub.Saw(t, got.Stderr)
	if !slices.Contains(saw.Env, "DETERMINISTIC_SEED=1") || len(saw.Env) != 2 {
		t.Errorf("env %v", saw.Env)
	}

	again, err := os.ReadFile(lock)
	if err != nil || string(again) != string(locked) {
		t.Errorf("a build from a lock changed it: %v", err)
	}

	if _, got = build(t, bed, "-f", file, "--lock", lock, "--check"); got.Code != 0 {
		t.Errorf("check of what did not change: exit code %d\n%s", got.Code, got.Stderr)
	}

	// A lock whose images are not the build's is refused.
	for old, changed := range map[string]string{
		"/imager:": "/other:", "/qemu-guest-agent:": "/zfs:", "role: extension": "role: overlay", "digest: sha256:": "digest: sha256:0",
		"reference: ": "reference: evil.example.org/", ":" + imagerstub.Version: ":v1.13.0", "images:\n": "images:\n    - {role: extension, name: x, reference: x, digest: x}\n",
	} {
		forged := strings.Replace(string(locked), old, changed, 1)
		if forged == string(locked) {
			t.Fatalf("%q is not in the lock", old)
		}

		if err = os.WriteFile(lock, []byte(forged), 0o600); err != nil {
			t.Fatal(err)
		}

		if _, got = build(t, bed, "-f", file, "--lock", lock); got.Code != int(errs.Usage) || !strings.Contains(got.Stderr, "was changed after it was made") {
			t.Errorf("%s for %s: exit code %d\n%s", changed, old, got.Code, got.Stderr)
		}
	}

	if err = os.WriteFile(lock, locked, 0o600); err != nil {
		t.Fatal(err)
	}

	// The tag moves upstream: a build stays with the lock, --check notices, --update-lock takes it in.
	bed.Push(t, "imager:"+imagerstub.Version, imagerstub.Image(t, map[string][]byte{"x": []byte("moved")}))

	if third, _ := ok(t, bed, "-f", file, "--lock", lock); third.Images[0].Digest != first.Images[0].Digest {
		t.Error("a locked build took a moved tag")
	}

	checked, got := build(t, bed, "-f", file, "--lock", lock, "--check")
	if got.Code != int(errs.Negative) || len(checked.Changes) != 1 || checked.Changes[0].Subject != "imager" ||
		!strings.HasSuffix(checked.Changes[0].Locked, first.Images[0].Digest) {
		t.Errorf("exit code %d, changes %+v\n%s", got.Code, checked.Changes, got.Stderr)
	}

	// Another build needs another lock.
	write("profile: metal\nextensions: [qemu-guest-agent, zfs]\n")

	if _, got = build(t, bed, "-f", file, "--lock", lock); got.Code != int(errs.Usage) || !strings.Contains(got.Stderr, "is for another build: build changed") {
		t.Errorf("exit code %d\n%s", got.Code, got.Stderr)
	}

	checked, _ = build(t, bed, "-f", file, "--lock", lock, "--check")
	if len(checked.Changes) != 3 { // the build, the imager, and zfs
		t.Errorf("changes %+v", checked.Changes)
	}

	for _, bad := range []string{"profile: metal\nextension: [x]\n", "kind: Other\n", "profile: [\n"} {
		write(bad)

		if _, got = build(t, bed, "-f", file); got.Code != int(errs.Usage) {
			t.Errorf("%q: exit code %d", bad, got.Code)
		}
	}

	if _, got = build(t, bed, "-f", file, "--kernel-arg", "a=b"); got.Code != int(errs.Usage) || !strings.Contains(got.Stderr, "put --kernel-arg into the build file") {
		t.Errorf("exit code %d\n%s", got.Code, got.Stderr)
	}
}

func TestBuildInstaller(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)
	reference := bed.Host + "/talos/installer:v1.14.1-mine"
	lock := filepath.Join(bed.Dir, "lock")

	first, got := ok(t, bed, "installer", "--arch", "amd64", "--extension", "zfs", "--push", reference, "--load", "--lock", lock)

	if first.Pushed == nil || first.Pushed.Reference != reference || !strings.HasPrefix(first.Pushed.Pinned, bed.Host+"/talos/installer@sha256:") {
		t.Fatalf("pushed %+v", first.Pushed)
	}

	if saw := imagerstub.Saw(t, got.Stderr); !strings.HasPrefix(after(saw.Args, "--base-installer-image"), bed.Base+"/installer-base:v1.14.1@sha256:") {
		t.Errorf("args %v", saw.Args)
	}

	if id := bed.Podman(t, "image", "inspect", "--format", "{{.Id}}", first.Loaded); id == "" || first.Loaded != reference {
		t.Errorf("loaded %q as %q", id, first.Loaded)
	}

	// The imager stamps installers with the time; a locked one is the same bytes again.
	second, _ := ok(t, bed, "installer", "--arch", "amd64", "--extension", "zfs", "--push", reference, "--lock", lock)
	if first.Files[0].SHA256 != second.Files[0].SHA256 || first.Pushed.Digest != second.Pushed.Digest {
		t.Errorf("two locked installers differ: %+v, %+v", first.Pushed, second.Pushed)
	}

	// Without a reference it still has a name of its own inside, not the base installer's.
	bed.Retag(t, "installer-base:"+imagerstub.Version, "our-base:1")

	plain, got := ok(t, bed, "installer", "--arch", "amd64", "--base-installer", bed.Base+"/our-base:1")
	if saw := imagerstub.Saw(t, got.Stderr); !strings.HasPrefix(after(saw.Args, "--base-installer-image"), bed.Base+"/our-base:1@sha256:") {
		t.Errorf("args %v", saw.Args)
	}

	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(plain.Files[0].Path) })
	if err != nil || manifest[0].RepoTags[0] != "localhost/installer:v1.14.1" {
		t.Errorf("manifest %+v, %v", manifest, err)
	}

	_, got = build(t, bed, "installer", "--push", "127.0.0.1:1/x:y")
	if got.Code != int(errs.Unreachable) || !strings.Contains(got.Stderr, "cannot push 127.0.0.1:1/x:y: the registry cannot be reached") {
		t.Errorf("exit code %d\n%s", got.Code, got.Stderr)
	}
}

func after(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}

	return ""
}
