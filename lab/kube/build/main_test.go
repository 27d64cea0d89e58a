package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func source(with map[string]string) map[string]string {
	files := map[string]string{
		"go.mod":              "module " + module + "\n\nrequire (\n\tk8s.io/kubernetes v1.35.4\n)\n",
		"go.sum":              "sums\n",
		"cmd/kubebed/main.go": "package main\n",
		"internal/a/a.go":     "package a\n",
	}
	for name, text := range with {
		files[name] = text
	}
	return files
}

func TestKeyCoversWhatGoesIntoTheBinary(t *testing.T) {
	base, err := newRecipe(tree(t, source(nil)))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		file    string
		text    string
		differs bool
	}{
		"same":           {"go.sum", "sums\n", false},
		"sums":           {"go.sum", "other\n", true},
		"source":         {"internal/a/a.go", "package a // changed\n", true},
		"new source":     {"internal/b/b.go", "package b\n", true},
		"version":        {"go.mod", "module " + module + "\n\nrequire k8s.io/x v1\n\tk8s.io/kubernetes v1.36.0\n", true},
		"test":           {"internal/a/a_test.go", "package a\n", false},
		"readme":         {"README.md", "words\n", false},
		"the test suite": {"bedtest/bed_test.go", "package bedtest\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := newRecipe(tree(t, source(map[string]string{tc.file: tc.text})))
			if err != nil {
				t.Fatal(err)
			}
			if differs := got.key != base.key; differs != tc.differs {
				t.Errorf("key differs: %v, want %v", differs, tc.differs)
			}
		})
	}
}

func TestRecipeOfTheModuleItself(t *testing.T) {
	r, err := newRecipe("..")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.ldflags, "gitVersion=v1.") || !strings.Contains(r.ldflags, "gitMajor=1 ") {
		t.Errorf("ldflags %s", r.ldflags)
	}
}

func TestOtherDirectoriesAreRefused(t *testing.T) {
	if _, err := newRecipe(tree(t, map[string]string{"go.mod": "module example.com/x\n"})); err == nil {
		t.Error("accepted")
	}
}

func TestBuiltBinaryIsFoundWithoutTheGoCommand(t *testing.T) {
	dir := tree(t, source(nil))
	r, err := newRecipe(dir)
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	var out strings.Builder
	args := []string{"-module", dir, "-cache", cache}
	if err := run(t.Context(), append(args, "-path"), &out, io.Discard); err == nil {
		t.Error("-path found a binary that is not there")
	}
	want := filepath.Join(cache, r.key, "kubebed")
	if err := os.MkdirAll(filepath.Dir(want), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(want, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "")
	if err := run(t.Context(), args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(out.String()) != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}

func TestFailedBuildLeavesNoBinary(t *testing.T) {
	dir, cache := tree(t, source(nil)), t.TempDir()
	t.Setenv("PATH", "")
	if err := run(t.Context(), []string{"-module", dir, "-cache", cache}, io.Discard, io.Discard); err == nil {
		t.Fatal("a build without a go command succeeded")
	}
	if err := run(t.Context(), []string{"-module", dir, "-cache", cache, "-path"}, io.Discard, io.Discard); err == nil {
		t.Error("there is a binary")
	}
}

func TestLockIsHeldByOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), file, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, file, io.Discard); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second got %v", err)
	}
	unlock()
	again, err := lock(t.Context(), file, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestPruneKeepsTheLastUsed(t *testing.T) {
	cache := t.TempDir()
	for i, name := range []string{"oldest", "old", "b", "c", "d"} {
		dir := filepath.Join(cache, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		used := time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC)
		if err := os.Chtimes(dir, used, used); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(cache, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := prune(cache); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range left {
		names = append(names, filepath.Base(p))
	}
	if got := strings.Join(names, " "); got != "b c d lock" {
		t.Errorf("left: %s", got)
	}
}
