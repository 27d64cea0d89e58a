package container_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/container"
	"github.com/talosmate/talosmate/internal/errs"
)

// script makes an engine out of a shell script.
func script(t *testing.T, name, body string) *container.Engine {
	t.Helper()

	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}

	return &container.Engine{Name: name, Path: path}
}

func TestArgv(t *testing.T) {
	t.Parallel()

	e := &container.Engine{Name: "podman"}
	got := e.Argv(container.Spec{
		Name: "n", Image: "i", Args: []string{"a"}, User: "1:2", Network: "host", Unconfined: true, Env: []string{"K=V"},
		Mounts: []container.Mount{{Source: "/a", Target: "/b"}, {Source: "/c:d", Target: "/e", ReadOnly: true}},
	})
	want := "podman run --rm --name n --pull never --security-opt label=disable --user 1:2 --network host -v /a:/b " +
		"--mount type=bind,source=/c:d,target=/e,readonly -e K=V i a"

	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}

	if got = e.Argv(container.Spec{Image: "i", Privileged: true, Unconfined: true}); strings.Join(got, " ") != "podman run --rm --privileged i" {
		t.Errorf("got %v", got)
	}
}

// What engines say about a failed pull becomes one clear error.
func TestPullTellsCausesApart(t *testing.T) {
	t.Parallel()

	for says, want := range map[string]struct {
		kind errs.Kind
		exit errs.Code
	}{
		"Error: initializing source docker://x/y:z: reading manifest z in x/y: manifest unknown": {errs.KindNotFound, errs.Failed},
		"Error response from daemon: pull access denied for x":                                   {errs.KindUnauthenticated, errs.Unreachable},
		"Error: pinging container registry 10.0.0.1: dial tcp 10.0.0.1:443: connect: refused":    {errs.KindUnreachable, errs.Unreachable},
		"write /var/lib/docker/tmp/GetImageBlob1: no space left on device":                       {"", errs.Failed},
		"something nobody has seen before":                                                       {"", errs.Failed},
	} {
		err := script(t, "docker", "echo '"+says+"' >&2; exit 125").Pull(t.Context(), "x/y:z", nil)

		var typed *errs.Error
		if !errors.As(err, &typed) || typed.Kind != want.kind || typed.Exit != want.exit {
			t.Errorf("%s: %+v", says, typed)
		}

		if last := strings.TrimPrefix(says, "Error: "); !strings.HasSuffix(err.Error(), last) || !strings.HasPrefix(err.Error(), "cannot pull x/y:z with docker: ") {
			t.Errorf("phrased %q", err)
		}
	}
}

func TestRunHandsOverLines(t *testing.T) {
	t.Parallel()

	var lines []string

	err := script(t, "docker", `printf 'one\rtwo\n\n'; printf 'last' >&2; exit 3`).
		Run(t.Context(), container.Spec{Name: "n", Image: "i"}, func(line string) { lines = append(lines, line) })

	slices.Sort(lines)

	if strings.Join(lines, " ") != "last one two" {
		t.Errorf("lines %q", lines)
	}

	var exit *container.ExitError
	if !errors.As(err, &exit) || exit.Status != 3 {
		t.Errorf("got %v", err)
	}
}

// A container that cannot be removed is said to be left.
func TestRunSaysWhatIsLeft(t *testing.T) {
	t.Parallel()

	started := filepath.Join(t.TempDir(), "started")
	e := script(t, "docker", "case \"$1\" in run) : > "+started+"; exec sleep 60;; rm) echo 'device busy' >&2; exit 1;; *) exit 0;; esac")

	ctx, cancel := context.WithCancelCause(t.Context())
	why := errs.New(errs.Interrupted, "interrupted")

	go func() {
		for {
			if _, err := os.Stat(started); err == nil || t.Context().Err() != nil {
				cancel(why)

				return
			}

			<-time.After(10 * time.Millisecond)
		}
	}()

	err := e.Run(ctx, container.Spec{Name: "n", Image: "i"}, nil)
	if !errors.Is(err, why) || !strings.Contains(err.Error(), "the container could not be removed: n: device busy") {
		t.Errorf("got %v", err)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()

	env := func(dirs ...string) func(string) (string, bool) {
		return func(key string) (string, bool) {
			return strings.Join(dirs, string(filepath.ListSeparator)), key == "PATH"
		}
	}

	docker := filepath.Dir(script(t, "docker", "case $1 in --version) echo 'Docker version 28.2.2, build x';; info) echo '[name=rootless]';; esac").Path)
	nerdctl := filepath.Dir(script(t, "nerdctl", "case $1 in --version) echo 'nerdctl version 2.1.3';; info) echo 'containerd is away' >&2; exit 1;; esac").Path)

	e, err := container.Find(t.Context(), container.Auto, env(nerdctl, docker))
	if err != nil || e.Name != "docker" || e.Version != "28.2.2" || !e.Rootless {
		t.Errorf("got %+v, %v", e, err)
	}

	_, err = container.Find(t.Context(), container.Auto, env(nerdctl))
	if errs.ExitCode(err) != errs.Unreachable || !strings.Contains(err.Error(), "containerd is away") {
		t.Errorf("got %v", err)
	}

	if _, err = container.Find(t.Context(), "lxc", env(docker)); errs.ExitCode(err) != errs.Usage {
		t.Errorf("got %v", err)
	}

	if g := container.Guess(container.Auto, env()); g.Name != "docker" {
		t.Errorf("guessed %s", g.Name)
	}
}

// Each engine is called with exactly this: every operation, and what follows an interrupt.
func TestEveryCall(t *testing.T) {
	t.Parallel()

	spec := container.Spec{Name: "n", Image: "r/i@sha256:d", Args: []string{"iso"}, Mounts: []container.Mount{{Source: "/a", Target: "/out"}}}

	for _, name := range container.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			dir := t.TempDir()
			record, running := filepath.Join(dir, "argv"), filepath.Join(dir, "running")
			e := script(t, name, "echo \"$@\" >> "+record+"; case \"$1 $2\" in '--version ') echo 'x version 1.2.3';; 'container inspect') exit 1;; "+
				"'run --rm') if [ -e "+running+" ]; then exit 0; fi; : > "+running+"; exec sleep 60;; esac")

			ctx, cancel := context.WithCancelCause(t.Context())
			why := errs.New(errs.Interrupted, "interrupted")

			go func() {
				for _, err := os.Stat(running); err != nil && t.Context().Err() == nil; _, err = os.Stat(running) {
					<-time.After(10 * time.Millisecond)
				}

				cancel(why)
			}()

			path := func(key string) (string, bool) { return filepath.Dir(e.Path), key == "PATH" }
			if _, err := container.Find(t.Context(), name, path); err != nil {
				t.Error(err)
			}

			e.Has(t.Context(), "r/i:1")

			if err := e.Pull(t.Context(), "r/i:1", nil); err != nil {
				t.Error(err)
			}

			if err := e.Run(ctx, spec, nil); !errors.Is(err, why) {
				t.Errorf("got %v", err)
			}

			if err := e.Run(t.Context(), spec, nil); err != nil {
				t.Error(err)
			}

			if err := e.Load(t.Context(), "/a.tar"); err != nil {
				t.Error(err)
			}

			rootless := "{{.SecurityOptions}}"
			if name == "podman" {
				rootless = "{{.Host.Security.Rootless}}"
			}

			const run = "run --rm --name n --pull never -v /a:/out r/i@sha256:d iso"

			want := []string{
				"--version", "info --format " + rootless, "image inspect --format {{.Id}} r/i:1", "pull r/i:1", run,
				"rm -f n", "container inspect --format {{.Id}} n", // the container is removed, and its removal is verified
				run, "load -i /a.tar",
			}

			body, err := os.ReadFile(record)
			if got := strings.Split(strings.TrimSpace(string(body)), "\n"); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s was called with\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}
