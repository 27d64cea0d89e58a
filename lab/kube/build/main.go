// Command build builds the kubebed binary and prints its path. The binary is kept in the user's cache under a key made
// of all its inputs, so that a second call is instant. A lock lets concurrent callers wait for one build.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	module = "github.com/talosmate/talosmate/lab/kube"
	// kept is how many binaries stay in the cache, at 120 MB each.
	kept = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "build:", err)
		}
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("build", flag.ContinueOnError)
	f.SetOutput(stderr)
	dir := f.String("module", ".", "directory of the module "+module)
	cache := f.String("cache", "", "cache directory (default: talosmate/kube in the user's cache)")
	parallel := f.Int("p", runtime.NumCPU(), "how many packages to compile at once")
	pathOnly := f.Bool("path", false, "print the path without building; fail if it is not built")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		*cache = filepath.Join(base, "talosmate", "kube")
	}
	var err error
	if *cache, err = filepath.Abs(*cache); err != nil {
		return err // go build -C runs elsewhere
	}
	r, err := newRecipe(*dir)
	if err != nil {
		return err
	}
	binary := filepath.Join(*cache, r.key, "kubebed")
	if *pathOnly {
		if _, err := os.Stat(binary); err != nil {
			return fmt.Errorf("not built yet: %w", err)
		}
	} else if err := r.ensure(ctx, *cache, binary, *parallel, stderr); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, binary)
	return err
}

// recipe holds the inputs that distinguish binaries.
type recipe struct {
	dir     string
	ldflags string
	key     string
}

func newRecipe(dir string) (recipe, error) {
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return recipe{}, err
	}
	if !strings.HasPrefix(string(gomod), "module "+module+"\n") {
		return recipe{}, fmt.Errorf("%s is not the directory of %s", dir, module)
	}
	version, err := kubernetesVersion(string(gomod))
	if err != nil {
		return recipe{}, err
	}
	r := recipe{dir: dir, ldflags: ldflags(version)}

	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH, r.ldflags)
	files, err := sources(dir)
	if err != nil {
		return recipe{}, err
	}
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return recipe{}, err
		}
		fmt.Fprintln(h, filepath.ToSlash(name), len(text))
		h.Write(text)
	}
	r.key = hex.EncodeToString(h.Sum(nil)[:12])
	return r, nil
}

// sources are the files of the binary, in addition to the modules, whose content go.sum pins.
func sources(dir string) ([]string, error) {
	files := []string{"go.mod", "go.sum"}
	for _, top := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(dir, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			rel, err := filepath.Rel(dir, path)
			files = append(files, rel)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// kubernetesVersion reads the linked version of Kubernetes from go.mod.
func kubernetesVersion(gomod string) (string, error) {
	for line := range strings.Lines(gomod) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "k8s.io/kubernetes" {
			return fields[1], nil
		}
	}
	return "", errors.New("go.mod does not require k8s.io/kubernetes")
}

// ldflags set the version of the binary. Without them the API server reports v0.0.0, and clients rely on it.
func ldflags(version string) string {
	const pkg = "k8s.io/component-base/version."
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	flags := []string{"-s", "-w", "-X " + pkg + "gitVersion=" + version}
	if len(parts) == 3 {
		flags = append(flags, "-X "+pkg+"gitMajor="+parts[0], "-X "+pkg+"gitMinor="+parts[1])
	}
	return strings.Join(flags, " ")
}

// ensure builds the binary if it does not exist.
func (r recipe) ensure(ctx context.Context, cache, binary string, parallel int, stderr io.Writer) error {
	if _, err := os.Stat(binary); err == nil {
		now := time.Now()
		return os.Chtimes(filepath.Dir(binary), now, now) // the least recently used are removed first
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return err
	}
	unlock, err := lock(ctx, filepath.Join(cache, "lock"), stderr)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(binary); err == nil {
		return nil // another process built it while we waited
	}
	if err := os.MkdirAll(filepath.Dir(binary), 0o700); err != nil {
		return err
	}
	fmt.Fprintln(stderr, "building the Kubernetes test bed: 14 CPU minutes the first time, a link of one minute later")
	// A half-written binary must never be found under its name.
	half := binary + ".part"
	cmd := exec.CommandContext(ctx, "go", "build", "-C", r.dir, "-p", strconv.Itoa(parallel),
		"-tags", "kubernetes", "-trimpath", "-buildvcs=false", "-ldflags", r.ldflags, "-o", half, "./cmd/kubebed")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	cmd.Stdout = stderr
	cmd.Stderr = stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	if err := os.Rename(half, binary); err != nil {
		return err
	}
	return prune(cache)
}

// lock waits for the lock file. The kernel releases it when its holder dies.
func lock(ctx context.Context, file string, stderr io.Writer) (func(), error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	const every = 200 * time.Millisecond
	t := time.NewTicker(every)
	defer t.Stop()
	for said := false; ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
		if !said {
			fmt.Fprintln(stderr, "another build is running: waiting for it")
			said = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
}

// prune removes all but the last used binaries. A running one keeps its open file.
func prune(cache string) error {
	entries, err := os.ReadDir(cache)
	if err != nil {
		return err
	}
	type built struct {
		dir  string
		used time.Time
	}
	var all []built
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() {
			all = append(all, built{filepath.Join(cache, e.Name()), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b built) int { return b.used.Compare(a.used) })
	for _, b := range all[min(kept, len(all)):] {
		if err := os.RemoveAll(b.dir); err != nil {
			return err
		}
	}
	return nil
}
