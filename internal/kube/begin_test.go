package kube

import (
	"errors"
	"net/http"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
)

type sent struct{ n int }

func (s *sent) RoundTrip(*http.Request) (*http.Response, error) {
	s.n++

	return &http.Response{StatusCode: http.StatusOK}, nil
}

func TestBeginBeforeEveryChange(t *testing.T) {
	t.Parallel()

	refused := errs.Usagef("it cannot be logged")

	for _, tt := range []struct {
		method, path string
		read         bool
	}{
		{http.MethodGet, "/api/v1/nodes", true},
		{http.MethodPost, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", true},
		{http.MethodPost, "/api/v1/namespaces/default/pods/a/eviction", false},
		{http.MethodPut, "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/talosmate", false},
		{http.MethodPatch, "/api/v1/nodes/a", false},
		{http.MethodDelete, "/api/v1/nodes/a", false},
	} {
		next := &sent{}
		a := &announcer{next, &Client{Begin: func() error { return refused }}}

		r, err := http.NewRequestWithContext(t.Context(), tt.method, "https://127.0.0.1"+tt.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}

		_, err = a.RoundTrip(r) //nolint:bodyclose // there is none
		if tt.read != (err == nil) || tt.read != (next.n == 1) || err != nil && (!errors.Is(err, refused) || !Definite(err)) {
			t.Errorf("%s %s: sent %d times: %v", tt.method, tt.path, next.n, err)
		}
	}
}
