package kube

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
)

// paths serves what is at each path, as an API server that nothing reaches through a network.
type paths map[string]string

func (p paths) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")

	if body, ok := p[r.URL.Path]; ok && r.Method == http.MethodGet {
		fmt.Fprint(w, body)
	} else {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","message":"not found","code":404}`)
	}

	return w.Result(), nil
}

// TestObject: an object of any kind is read by its names, and what cannot be read says why and is not asked again.
func TestObject(t *testing.T) {
	t.Parallel()

	c := clientOf(t, paths{
		"/api/v1":               `{"kind":"APIResourceList","resources":[{"name":"nodes/status","kind":"Node"},{"name":"nodes","kind":"Node"},{"name":"pods","kind":"Pod","namespaced":true}]}`,
		"/apis/ceph.rook.io/v1": `{"kind":"APIResourceList","resources":[{"name":"cephclusters","kind":"CephCluster","namespaced":true}]}`,
		"/api/v1/nodes/n1":      `{"metadata":{"name":"n1"}}`,
		"/api/v1/nodes/large":   `"` + strings.Repeat("x", objectSize) + `"`,
		"/apis/ceph.rook.io/v1/namespaces/rook/cephclusters/rook": `{"metadata":{"name":"rook"}}`,
	})

	for _, o := range []struct{ version, kind, namespace, name, err, hint string }{
		{"v1", "Node", "", "n1", "", ""},
		{"ceph.rook.io/v1", "CephCluster", "rook", "rook", "", ""},
		{"v1", "Node", "", "n2", "not found", ""},
		{"v1", "Node", "default", "n1", "a Node is in no namespace", `k8s("v1", "Node", "", "n1")`},
		{"v1", "Pod", "", "p", "a Pod is in a namespace", `k8s("v1", "Pod", "NAMESPACE", "p")`},
		{"v1", "Pood", "default", "p", `v1 has no kind "Pood"`, "api-resources"},
		{"v2", "Pod", "default", "p", "the API v2: not found", "api-versions"},
		{"v1", "Secret", "default", "s", "does not read Secrets", ""},
		{"v1", "Node", "", "large", "larger than 4 MiB", ""},
		{"v1", "Node", "", "../pods", "is not an API version, a namespace or a name", ""},
		{"v1", "Node", "", "", "is not an API version", ""},
		{"", "Node", "", "n1", "is not an API version", ""},
		{"../v1", "Node", "", "n1", "is not an API version", ""},
	} {
		got, err := c.Object(t.Context(), o.version, o.kind, o.namespace, o.name)

		switch {
		case o.err == "":
			if meta, _ := got["metadata"].(map[string]any); err != nil || meta["name"] != o.name {
				t.Errorf("%v: %v, %v", o, got, err)
			}
		case err == nil || !strings.Contains(err.Error(), o.err) || !strings.Contains(strings.Join(errs.Hints(err), " "), o.hint) || !Definite(err):
			t.Errorf("%v: %v, hints %q", o, err, errs.Hints(err))
		}
	}
}
