package imager_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/imagerstub"
)

// Whom the container runs as, and whose its files are: a daemon of root's is told the caller, where the imager
// can; a rootless engine's root is the caller already.
func TestBuildRunsAsTheCaller(t *testing.T) {
	t.Parallel()

	const caller = 4321

	docker := imagerstub.Start(t)
	docker.AsDocker(t)
	docker.Retag(t, "imager:"+imagerstub.Version, "imager:v1.12.9")

	rootlessDocker := imagerstub.Start(t)
	rootlessDocker.Script(t, "docker", "case \"$1\" in --version) echo 'Docker version 28.2.2, build e6534b4';; "+
		"info) echo '[name=seccomp,profile=builtin name=rootless name=cgroupns]';; *) exec "+rootlessDocker.Bin()+"/podman \"$@\";; esac")

	for label, c := range map[string]struct {
		bed     *imagerstub.Bed
		version string
		inside  int  // The user in the container.
		named   bool // Whether the command line names the user.
	}{
		"docker":           {docker, "v1.14.1", caller, true},
		"docker, 1.12":     {docker, "v1.12.9", 0, false},
		"rootless docker":  {rootlessDocker, "v1.14.1", 0, false},
		"rootless podman":  {imagerstub.StartRootless(t, caller), "v1.14.1", 0, false},
		"podman with sudo": {imagerstub.Start(t), "v1.14.1", 0, false},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()

			out := filepath.Join(c.bed.Dir, strings.ReplaceAll(label, " ", "-"))
			got := clitest.Run(t, append(c.bed.Env(), "SUDO_UID=4321", "SUDO_GID=4321"), "imager", "build", "iso", "--arch", "amd64",
				"--registry", c.bed.Base, "--talos-version", c.version, "--output-dir", out, "-o", "json", "--progress", "json")

			if got.Code != 0 {
				t.Fatal(got.Stderr)
			}

			saw := imagerstub.Saw(t, got.Stderr)
			if saw.UID != c.inside || saw.Privileged() {
				t.Errorf("user %d, want %d, privileged %v", saw.UID, c.inside, saw.Privileged())
			}

			if command := strings.Fields(got.Stdout); slices.Contains(command, `"4321:4321",`) != c.named {
				t.Errorf("command\n%s", got.Stdout)
			}

			info, err := os.Stat(filepath.Join(out, "metal-amd64.iso"))
			if err != nil || ownerOf(info) != caller {
				t.Errorf("owner %d, %v", ownerOf(info), err)
			}
		})
	}
}

// Without root there are no loop devices to be had, and that is said.
func TestBuildRootlessLoopDevices(t *testing.T) {
	t.Parallel()

	bed := imagerstub.Start(t)
	bed.Retag(t, "imager:"+imagerstub.Version, "imager:v1.12.9")
	bed.Script(t, "docker", "case \"$1\" in --version) echo 'Docker version 28.2.2, build e6534b4';; info) echo '[name=rootless]';; "+
		"run) echo 'failed to attach loop device: operation not permitted'; exit 1;; *) exit 0;; esac")

	_, got := build(t, bed, "metal", "--talos-version", "v1.12.9")
	if got.Code != 1 || !strings.Contains(got.Stderr, "hint: a rootless engine has no loop devices") {
		t.Errorf("exit code %d\n%s", got.Code, got.Stderr)
	}
}
