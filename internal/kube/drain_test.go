package kube

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// serve makes a client of a Kubernetes API that is nothing but this handler for its list of pods.
func serve(t *testing.T, pods http.HandlerFunc) *Client {
	t.Helper()

	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/pods", pods)
	mux.HandleFunc("GET /metrics", pods)

	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	c, err := fromRest(&rest.Config{Host: server.URL}, "test")
	if err != nil {
		t.Fatal(err)
	}

	return c
}

func noPods(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"PodList","items":[]}`))
}

// TestDrainWaitsForTheAPI: a server that is down for a moment does not end a drain, one that refuses does.
func TestDrainWaitsForTheAPI(t *testing.T) {
	t.Parallel()

	var asked, again atomic.Int64

	away := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusInternalServerError)

			return
		}

		noPods(w, r)
	})

	left, err := away.Drain(t.Context(), "worker-1", DrainOptions{Timeout: time.Minute, Again: func() { again.Add(1) }})
	if err != nil || left != 0 || again.Load() != 1 {
		t.Errorf("%d pods, %d times again: %v", left, again.Load(), err)
	}

	asked.Store(0)

	forbidden := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusForbidden)
	})

	if _, err = forbidden.Drain(t.Context(), "worker-1", DrainOptions{Timeout: time.Minute}); err == nil || asked.Load() != 1 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}

	if !Definite(forbiddenError(t, forbidden)) {
		t.Error("what is forbidden now is forbidden in a second")
	}

	gone := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	if _, err = gone.Drain(t.Context(), "worker-1", DrainOptions{Timeout: 100 * time.Millisecond}); err == nil {
		t.Error("a server that never comes back did not end the drain at its timeout")
	}
}

func forbiddenError(t *testing.T, c *Client) error {
	t.Helper()

	_, err := c.Blockers(t.Context(), "worker-1")

	return err
}
