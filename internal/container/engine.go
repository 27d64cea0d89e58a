// Package container is the adapter to the user's container engine (docker, podman or nerdctl). It runs the engine's own
// command line, so that contexts, rootless set-ups and credentials work.
package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
)

// Auto selects the first engine that works.
const Auto = "auto"

// Names lists the engines in the order in which they are tried.
func Names() []string { return []string{"docker", "podman", "nerdctl"} }

// Engine is a container engine's command line.
type Engine struct {
	Name     string // docker, podman or nerdctl.
	Path     string // The program.
	Version  string // The version that the program prints, empty when it was not asked.
	Rootless bool   // Root in a container is the calling user.
}

// Find looks for an engine on the PATH of the environment and verifies that it answers. With Auto, an engine that is
// installed but does not answer is skipped.
func Find(ctx context.Context, choice string, env func(string) (string, bool)) (*Engine, error) {
	names := Names()
	if choice != Auto {
		if !slices.Contains(names, choice) {
			return nil, errs.Usagef("unknown container engine %q, want one of %s", choice, strings.Join(append(names, Auto), ", "))
		}

		names = []string{choice}
	}

	var (
		broken  []error
		hints   []string
		missing = true
	)

	for _, name := range names {
		path, ok := lookPath(name, env)
		if !ok {
			continue
		}

		missing = false
		e := &Engine{Name: name, Path: path}

		err := e.ask(ctx)
		if err == nil {
			return e, nil
		}

		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}

		broken = append(broken, err)
		hints = append(hints, e.startHint())
	}

	if missing {
		return nil, errs.New(errs.Failed, "cannot find a container engine: no %s on the PATH", strings.Join(names, ", ")).
			WithKind(errs.KindNotFound).WithHint("install docker or podman, or name the engine with --engine")
	}

	return nil, (&errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Err: joinLine(broken)}).
		WithHint("%s", strings.Join(hints, "; "))
}

// Guess names the engine that a dry run would use, without calling it.
func Guess(choice string, env func(string) (string, bool)) *Engine {
	names := Names()
	if choice != Auto {
		names = []string{choice}
	}

	for _, name := range names {
		if path, ok := lookPath(name, env); ok {
			return &Engine{Name: name, Path: path}
		}
	}

	return &Engine{Name: names[0], Path: names[0]}
}

func joinLine(all []error) error {
	return errors.New(lists.Join(all, "; ", error.Error))
}

// lookPath is exec.LookPath over an environment that tests can replace.
func lookPath(name string, env func(string) (string, bool)) (string, bool) {
	path, _ := env("PATH")

	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			continue
		}

		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return file, true
		}
	}

	return "", false
}

// ask verifies that the engine's daemon, where it has one, answers, and reads whether it is rootless.
func (e *Engine) ask(ctx context.Context) error {
	version, err := e.output(ctx, "--version")
	if err != nil {
		return fmt.Errorf("cannot use %s: %w", e.Name, err)
	}

	e.Version = lastWordLikeVersion(version)

	format := "{{.SecurityOptions}}"
	if e.Name == "podman" {
		format = "{{.Host.Security.Rootless}}"
	}

	info, err := e.output(ctx, "info", "--format", format)
	if err != nil {
		return fmt.Errorf("cannot use %s: it is installed but does not answer: %w", e.Name, err)
	}

	e.Rootless = strings.Contains(info, "rootless") || strings.TrimSpace(info) == "true"

	return nil
}

func (e *Engine) startHint() string {
	if e.Name == "podman" {
		return "run `podman info` for the cause"
	}

	return fmt.Sprintf("check that the daemon runs and that this user may use it: `%s info`", e.Name)
}

// lastWordLikeVersion returns the version in text such as `Docker version 28.2.2, build e6534b4`.
func lastWordLikeVersion(s string) string {
	for _, word := range strings.Fields(s) {
		word = strings.Trim(word, ",v")
		if word != "" && word[0] >= '0' && word[0] <= '9' && strings.Contains(word, ".") {
			return word
		}
	}

	return ""
}

// output runs a short command and returns its stdout. The error is the last line of its stderr.
func (e *Engine) output(ctx context.Context, args ...string) (string, error) {
	var out, errOut bytes.Buffer

	cmd := exec.CommandContext(ctx, e.Path, args...) //nolint:gosec // G204: the container engine that the user chose or that is on PATH; no shell
	cmd.Stdout, cmd.Stderr = &out, &errOut

	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}

		return "", errors.New(lastLine(errOut.String(), err))
	}

	return out.String(), nil
}

func lastLine(text string, err error) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for _, line := range slices.Backward(lines) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "Error: "))
		// Docker ends some failures with a pointer to its help text.
		if line != "" && !strings.HasPrefix(line, "See '") && !strings.HasPrefix(line, "Run '") && !strings.HasPrefix(line, "errors pretty printing info") {
			return line
		}
	}

	return err.Error()
}
