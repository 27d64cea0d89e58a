package registry_test

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/registry"
)

func handler() http.Handler { return ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))) }

func serve(t *testing.T, h http.Handler) string {
	t.Helper()

	server := httptest.NewServer(h)
	t.Cleanup(server.Close)

	return strings.TrimPrefix(server.URL, "http://")
}

// store puts an image under a reference on an open registry and returns its digest.
func store(t *testing.T, reference string) string {
	t.Helper()

	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}

	ref, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}

	if err = remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}

	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}

	return d.String()
}

func client(t *testing.T, o registry.Options) *registry.Client {
	t.Helper()

	c, err := registry.New(o)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(c.Close)

	return c
}

func TestResolve(t *testing.T) {
	t.Parallel()

	ref := serve(t, handler()) + "/talos/installer:v1.13.9"
	want := store(t, ref)

	got, err := client(t, registry.Options{}).Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}

	if got.Digest != want || got.Pinned != strings.TrimSuffix(ref, ":v1.13.9")+"@"+want || got.Reference != ref {
		t.Errorf("got %+v, want digest %s", got, want)
	}

	// The pinned form resolves to itself.
	again, err := client(t, registry.Options{}).Resolve(t.Context(), got.Pinned)
	if err != nil || again.Digest != want {
		t.Errorf("pinned: %+v, %v", again, err)
	}
}

func TestResolveIndex(t *testing.T) {
	t.Parallel()

	reference := serve(t, handler()) + "/talos/installer:v1.13.9"

	index := v1.ImageIndex(empty.Index)

	for _, p := range []v1.Platform{{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "amd64"}, {OS: "unknown", Architecture: "unknown"}} {
		img, err := random.Image(16, 1)
		if err != nil {
			t.Fatal(err)
		}

		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
	}

	ref, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}

	if err = remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}

	got, err := client(t, registry.Options{}).Resolve(t.Context(), reference)
	if err != nil {
		t.Fatal(err)
	}

	if strings.Join(got.Platforms, " ") != "linux/amd64 linux/arm64" {
		t.Errorf("platforms %v", got.Platforms)
	}
}

func TestResolveTellsCausesApart(t *testing.T) {
	t.Parallel()

	status := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/" {
				return
			}

			w.WriteHeader(code)
		})
	}

	for label, c := range map[string]struct {
		host string
		want error
		kind errs.Kind
		exit errs.Code
	}{
		"no such image":  {serve(t, handler()), registry.ErrNotFound, errs.KindNotFound, errs.Failed},
		"404":            {serve(t, status(http.StatusNotFound)), registry.ErrNotFound, errs.KindNotFound, errs.Failed},
		"401":            {serve(t, status(http.StatusUnauthorized)), registry.ErrUnauthorised, errs.KindUnauthenticated, errs.Unreachable},
		"403":            {serve(t, status(http.StatusForbidden)), registry.ErrUnauthorised, errs.KindUnauthenticated, errs.Unreachable},
		"500":            {serve(t, status(http.StatusInternalServerError)), registry.ErrUnreachable, errs.KindUnreachable, errs.Unreachable},
		"nobody listens": {"127.0.0.1:1", registry.ErrUnreachable, errs.KindUnreachable, errs.Unreachable},
		"no such host":   {"registry.invalid", registry.ErrUnreachable, errs.KindUnreachable, errs.Unreachable},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()

			_, err := client(t, registry.Options{Timeout: 10 * time.Second}).Resolve(t.Context(), c.host+"/talos/installer:v1.13.9")
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}

			var typed *errs.Error
			if !errors.As(err, &typed) || typed.Kind != c.kind || typed.Exit != c.exit || typed.Hint == "" {
				t.Errorf("got %+v", typed)
			}

			if !strings.HasPrefix(err.Error(), "cannot resolve image "+c.host) {
				t.Errorf("phrased %q", err)
			}
		})
	}
}

func TestResolveIsUsageErrorForNonsense(t *testing.T) {
	t.Parallel()

	_, err := client(t, registry.Options{}).Resolve(t.Context(), "Not A Reference")
	if errs.ExitCode(err) != errs.Usage {
		t.Errorf("got %v", err)
	}
}

func TestResolveEndsWithItsDeadlineAndContext(t *testing.T) {
	t.Parallel()

	silent := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))

	_, err := client(t, registry.Options{Timeout: 50 * time.Millisecond}).Resolve(t.Context(), silent+"/a:b")
	if !errors.Is(err, registry.ErrUnreachable) {
		t.Errorf("deadline: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	_, err = client(t, registry.Options{}).Resolve(ctx, silent+"/a:b")
	if errs.ExitCode(err) != errs.Interrupted {
		t.Errorf("cancelled: %v", err)
	}
}

// locked lets in who knows the password.
func locked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "robot" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)

			return
		}

		next.ServeHTTP(w, r)
	})
}

// only is an environment of one variable.
func only(variable, value string) func(string) (string, bool) {
	return func(key string) (string, bool) {
		if key == variable {
			return value, true
		}

		return "", false
	}
}

func TestResolveUsesTheUsersCredentials(t *testing.T) {
	t.Parallel()

	open := handler()
	digest := store(t, serve(t, open)+"/talos/installer:v1.13.9")
	host := serve(t, locked(open))
	ref := host + "/talos/installer:v1.13.9"

	login := `{"auths":{"` + host + `":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("robot:secret")) + `"}}}`
	nested := strings.Replace(login, host, host+"/talos/installer", 1)

	for label, c := range map[string]struct{ variable, file, body string }{
		"docker":                  {"DOCKER_CONFIG", "config.json", login},
		"docker in home":          {"HOME", ".docker/config.json", login},
		"podman by variable":      {"REGISTRY_AUTH_FILE", "", login},
		"podman runtime":          {"XDG_RUNTIME_DIR", "containers/auth.json", login},
		"podman config":           {"XDG_CONFIG_HOME", "containers/auth.json", login},
		"podman, by repository":   {"HOME", ".config/containers/auth.json", nested},
		"without any credentials": {"HOME", "", ""},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()

			value := t.TempDir()

			if c.body != "" {
				path := filepath.Join(value, c.file)
				if c.file == "" {
					path = filepath.Join(value, "auth.json")
					value = path
				}

				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}

				if err := os.WriteFile(path, []byte(c.body), 0o600); err != nil {
					t.Fatal(err)
				}
			}

			env := only(c.variable, value)
			got, err := client(t, registry.Options{Env: env}).Resolve(t.Context(), ref)

			if c.body == "" {
				if !errors.Is(err, registry.ErrUnauthorised) {
					t.Errorf("got %v", err)
				}

				return
			}

			if err != nil || got.Digest != digest {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestBrokenCredentialsAreAUsageError(t *testing.T) {
	t.Parallel()

	path := filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}

	_, err := client(t, registry.Options{Env: only("REGISTRY_AUTH_FILE", path)}).Resolve(t.Context(), serve(t, handler())+"/a:b")
	if errs.ExitCode(err) != errs.Usage || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func TestSelfSignedCertificate(t *testing.T) {
	t.Parallel()

	h := handler()
	digest := store(t, serve(t, h)+"/talos/installer:v1.13.9")

	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)

	ref := strings.TrimPrefix(server.URL, "https://") + "/talos/installer:v1.13.9"

	_, err := client(t, registry.Options{}).Resolve(t.Context(), ref)

	var typed *errs.Error
	if !errors.Is(err, registry.ErrUnreachable) || !errors.As(err, &typed) || !strings.Contains(typed.Hint, "--registry-ca") {
		t.Errorf("untrusted: %v, %+v", err, typed)
	}

	ca := filepath.Join(t.TempDir(), "ca.pem")
	body := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})

	if err = os.WriteFile(ca, body, 0o600); err != nil {
		t.Fatal(err)
	}

	got, err := client(t, registry.Options{CAFile: ca}).Resolve(t.Context(), ref)
	if err != nil || got.Digest != digest {
		t.Errorf("trusted: %+v, %v", got, err)
	}
}

func TestBadCAFile(t *testing.T) {
	t.Parallel()

	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	for _, file := range []string{empty, empty + ".missing"} {
		if _, err := registry.New(registry.Options{CAFile: file}); errs.ExitCode(err) != errs.Usage {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// A private address is not spoken to in the clear by guess.
func TestNoCleartextByGuess(t *testing.T) {
	t.Parallel()

	var asked atomic.Int32

	backend := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusNotFound)
	})

	guard := registry.CleartextGuard(func(host string) bool { return host != "10.1.2.3:5000" })
	host := serve(t, backend)

	for target, want := range map[string]bool{"10.1.2.3:5000": false, host: true} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+target+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}

		resp, err := guard.RoundTrip(req)
		if resp != nil {
			_ = resp.Body.Close()
		}

		if (err == nil) != want {
			t.Errorf("%s: %v", target, err)
		}
	}

	if asked.Load() != 1 {
		t.Errorf("%d requests reached the server", asked.Load())
	}
}
