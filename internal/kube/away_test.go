package kube

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/client-go/rest"
)

func TestDefinite(t *testing.T) {
	t.Parallel()

	answers := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	away := httptest.NewServer(answers(http.StatusOK))
	away.Close()

	for name, c := range map[string]struct {
		server *httptest.Server
		want   bool
	}{
		"forbidden":             {httptest.NewServer(answers(http.StatusForbidden)), true},
		"not to be trusted":     {httptest.NewTLSServer(answers(http.StatusOK)), true},
		"not well for a moment": {httptest.NewServer(answers(http.StatusInternalServerError)), false},
		"away":                  {away, false},
	} {
		t.Cleanup(c.server.Close)

		client, err := fromRest(&rest.Config{Host: c.server.URL}, "test")
		if err != nil {
			t.Fatal(err)
		}

		if _, _, err = client.Node(t.Context(), "worker-1"); err == nil || Definite(err) != c.want {
			t.Errorf("%s: definite %t: %v", name, Definite(err), err)
		}
	}
}
