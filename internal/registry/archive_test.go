package registry_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/registry"
)

// archive writes an image as the imager writes an installer, under the base installer's name, and returns its path.
func archive(t *testing.T) string {
	t.Helper()

	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}

	inside, err := name.NewTag("ghcr.io/siderolabs/installer-base:1.14.0")
	if err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(t.TempDir(), "installer.tar")
	if err = tarball.WriteToFile(path, inside, img); err != nil {
		t.Fatal(err)
	}

	return path
}

func TestPush(t *testing.T) {
	t.Parallel()

	tar := archive(t)
	host := serve(t, locked(handler()))
	login := only("DOCKER_CONFIG", t.TempDir())
	dir, _ := login("DOCKER_CONFIG")

	body := `{"auths":{"` + host + `":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("robot:secret")) + `"}}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}

	pushed, err := client(t, registry.Options{Env: login}).Push(t.Context(), tar, host+"/talos/installer:v1.14.0-mine")
	if err != nil {
		t.Fatal(err)
	}

	// What was pushed is what the name resolves to, and not the name that the archive has inside.
	got, err := client(t, registry.Options{Env: login}).Resolve(t.Context(), host+"/talos/installer:v1.14.0-mine")
	if err != nil || got.Digest != pushed.Digest || got.Pinned != pushed.Pinned || !strings.HasPrefix(pushed.Pinned, host+"/talos/installer@sha256:") {
		t.Errorf("pushed %+v, resolved %+v, %v", pushed, got, err)
	}
}

func TestPushTellsCausesApart(t *testing.T) {
	t.Parallel()

	tar := archive(t)
	broken := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	read := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.WriteHeader(http.StatusForbidden)
		}
	}))

	for label, c := range map[string]struct {
		tar, reference string
		want           error
		exit           errs.Code
	}{
		"no credentials": {tar, serve(t, locked(handler())) + "/a:b", registry.ErrUnauthorised, errs.Unreachable},
		"may only read":  {tar, read + "/a:b", registry.ErrUnauthorised, errs.Unreachable},
		"nobody listens": {tar, "127.0.0.1:1/a:b", registry.ErrUnreachable, errs.Unreachable},
		"refused":        {tar, broken + "/a:b", nil, errs.Failed},
		"by digest":      {tar, "127.0.0.1:1/a@sha256:" + strings.Repeat("0", 64), nil, errs.Usage},
		"nonsense":       {tar, "A B", nil, errs.Usage},
		"no archive":     {tar + ".missing", "127.0.0.1:1/a:b", nil, errs.Failed},
	} {
		_, err := client(t, registry.Options{Env: only("HOME", t.TempDir())}).Push(t.Context(), c.tar, c.reference)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || errs.ExitCode(err) != c.exit {
			t.Errorf("%s: exit code %d, %v", label, errs.ExitCode(err), err)
		}
	}
}
