package cmdutil

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

func completing(t *testing.T, env map[string]string) (*Factory, *cobra.Command) {
	t.Helper()

	f := NewFactory(&iostreams.Streams{Env: func(key string) (string, bool) {
		value, ok := env[key]

		return value, ok
	}}, Build{})
	root := &cobra.Command{Use: "talosmate"}
	AddGlobalFlags(f, root)

	cmd := New(f, Command{Use: "x [NAME]", Spec: Spec{Kind: Read}}, NoDocument(), func(*Call) error { return nil })
	root.AddCommand(cmd)
	cmd.InheritedFlags()
	cmd.SetContext(t.Context())

	return f, cmd
}

// TestCompletionEnds completes from functions that never return, that panic, and that heed the deadline: after two seconds of
// the fake clock there is an answer.
func TestCompletionEnds(t *testing.T) {
	t.Parallel()

	for name, fn := range map[string]CompletionFunc{
		"stuck":    func(context.Context, *Call, []string) []string { <-t.Context().Done(); return []string{"late"} },
		"deadline": func(ctx context.Context, _ *Call, _ []string) []string { <-ctx.Done(); return nil },
		"panic":    func(context.Context, *Call, []string) []string { panic("oh") },
		"stdin": func(_ context.Context, c *Call, _ []string) []string {
			data, err := c.Input("-", "what is typed")
			if err != nil || len(data) > 0 {
				return []string{"read"}
			}

			return nil
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			f, cmd := completing(t, nil)

			release := make(chan struct{})
			defer close(release)

			run := fn
			if name == "stuck" {
				run = func(context.Context, *Call, []string) []string { <-release; return []string{"late"} }
			}

			start := time.Now()
			got, shell := f.complete(cmd, "", nil, "", run)

			if took := time.Since(start); len(got) > 0 || shell != cobra.ShellCompDirectiveNoFileComp || took > 2*time.Second {
				t.Errorf("%s: %q, %v after %s", name, got, shell, took)
			}
		})
	}
}

// TestCompletionCache asks a cluster again when the answer is older than 30 seconds, when the question is another one, or
// when there was no answer.
func TestCompletionCache(t *testing.T) {
	t.Parallel()

	server := replay.Start(t, "talos-v1.13.8", nil)
	home := t.TempDir()
	env := map[string]string{"HOME": home, "TALOSCONFIG": server.Talosconfig(t, "os:reader")}
	f, cmd := completing(t, env)
	now := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	f.Now = func() time.Time { return now }

	asked, flag := 0, ""

	var failure error

	complete := func(question string, args ...string) []string {
		got, _ := f.complete(cmd, flag, args, "", func(_ context.Context, c *Call, _ []string) []string {
			return c.cached(question, func() ([]string, error) {
				asked++

				return []string{"a", "b\x1b[2J"}, failure
			})
		})

		return got
	}

	for i, step := range []struct {
		later    time.Duration
		question string
		args     []string
		err      error
		want     int // How often the cluster was asked by then.
	}{
		{0, "x", nil, nil, 1},
		{29 * time.Second, "x", nil, nil, 1},
		{time.Second, "x", nil, nil, 2},
		{0, "x", []string{"arg"}, nil, 3},
		{0, "y", nil, nil, 4},
		{0, "y", nil, nil, 4},
		{0, "z", nil, errors.New("down"), 5},
		{0, "z", nil, nil, 6},
		{-time.Hour, "z", nil, nil, 7}, // the clock was set back
	} {
		now, failure = now.Add(step.later), step.err

		got := complete(step.question, step.args...)
		if asked != step.want || step.err == nil && !slices.Equal(got, []string{"a"}) || step.err != nil && got != nil {
			t.Errorf("step %d: asked %d times, want %d: %q", i, asked, step.want, got)
		}
	}

	flag = "namespace" // of the same command, with the same arguments
	if complete("z"); asked != 8 {
		t.Errorf("a flag has the candidates of an argument")
	}

	dir := filepath.Join(home, ".cache", "talosmate", "completion")

	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v: %v", files, err)
	}

	path := filepath.Join(dir, files[0].Name())
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || strings.Contains(files[0].Name(), "..") {
		t.Errorf("%v: %v", info, err)
	}

	// What is not such a file is not used: another's link, nonsense, too much.
	for name, put := range map[string]func() error{
		"nonsense": func() error { return os.WriteFile(path, []byte("{"), 0o600) },
		"too much": func() error { return os.WriteFile(path, make([]byte, cacheBytes+1), 0o600) },
		"a link":   func() error { return os.Symlink(home, path) },
	} {
		if err := errors.Join(os.RemoveAll(path), put()); err != nil {
			t.Fatal(err)
		}

		before := asked
		if got := complete("z"); asked != before+1 || !slices.Equal(got, []string{"a"}) {
			t.Errorf("%s: asked %d times: %q", name, asked-before, got)
		}
	}

	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}

	// Another context is another file, and only so many are kept.
	for i := range cacheFiles + 3 {
		writeCache(filepath.Join(dir, strings.Repeat("0", i+1)+".json"), []cacheEntry{{Key: "k", Time: now}})
	}

	if files, err = os.ReadDir(dir); err != nil || len(files) != cacheFiles {
		t.Errorf("%d files: %v", len(files), err)
	}

	many := make([]cacheEntry, cacheEntries+5)
	for i := range many {
		many[i] = cacheEntry{Key: "k", Time: now}
	}

	writeCache(path, many)

	if got := readCache(path, now); len(got) != cacheEntries {
		t.Errorf("%d entries", len(got))
	}
}

// TestCompletionAfterCommas completes the last of several values.
func TestCompletionAfterCommas(t *testing.T) {
	t.Parallel()

	for typed, want := range map[string]string{"": "a b c", "a,": "a,b a,c", "a,b,x": "a,b,c", "x": "a b c"} {
		got := afterComma(Words("a", Described("b", "the second"), "c"))(t.Context(), &Call{Typed: typed}, nil)
		names := strings.ReplaceAll(strings.Join(got, " "), "\tthe second", "")

		if names != want {
			t.Errorf("%q: %q, want %q", typed, names, want)
		}
	}
}
