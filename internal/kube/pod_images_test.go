package kube

import (
	"net/http"
	"slices"
	"testing"
)

// TestPodImages: everything that a pod bound to the node may start or mount is in use, whatever the pod's phase.
func TestPodImages(t *testing.T) {
	t.Parallel()

	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("fieldSelector"); got != "spec.nodeName=worker-1" {
			t.Errorf("field selector %q", got)
		}

		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"PodList","items":[
			{"metadata":{"name":"a","namespace":"x"},"status":{"phase":"Running"},"spec":{"nodeName":"worker-1",
				"initContainers":[{"name":"i","image":"r.example/init:v1"}],
				"containers":[{"name":"c","image":"r.example/app:v1"}],
				"ephemeralContainers":[{"name":"d","image":"r.example/debug:v1"}],
				"volumes":[{"name":"v","image":{"reference":"r.example/model:v1"}},{"name":"e","emptyDir":{}}]}},
			{"metadata":{"name":"b","namespace":"x"},"status":{"phase":"Succeeded"},"spec":{"nodeName":"worker-1","containers":[{"name":"c","image":"r.example/job:v1"}]}},
			{"metadata":{"name":"c","namespace":"x"},"status":{"phase":"Failed"},"spec":{"nodeName":"worker-1","containers":[{"name":"c","image":"r.example/failed:v1"}]}},
			{"metadata":{"name":"d","namespace":"x"},"status":{"phase":"Pending"},"spec":{"nodeName":"worker-1","containers":[{"name":"c","image":"r.example/pending:v1"}]}},
			{"metadata":{"name":"e","namespace":"x"},"spec":{"nodeName":"worker-2","containers":[{"name":"c","image":"r.example/other:v1"}]}}]}`))
	})

	got, err := c.PodImages(t.Context(), "worker-1")
	if err != nil {
		t.Fatal(err)
	}

	slices.Sort(got)

	want := []string{
		"r.example/app:v1", "r.example/debug:v1", "r.example/failed:v1", "r.example/init:v1", "r.example/job:v1", "r.example/model:v1", "r.example/pending:v1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
