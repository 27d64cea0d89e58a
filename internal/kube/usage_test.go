package kube

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

func TestFlexVolumePods(t *testing.T) {
	t.Parallel()

	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")

		if r.URL.Query().Get("continue") == "" {
			fmt.Fprint(w, `{"apiVersion":"v1","kind":"PodList","metadata":{"continue":"more"},"items":[
				{"metadata":{"name":"a","namespace":"x"},"spec":{"volumes":[{"name":"flex","flexVolume":{"driver":"d/e"}},{"name":"e","emptyDir":{}}]}},
				{"metadata":{"name":"b","namespace":"x"},"spec":{"volumes":[{"name":"near","hostPath":{"path":"/usr/libexec/kubernetes-other"}}]}}]}`)

			return
		}

		fmt.Fprint(w, `{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"c","namespace":"y"},
			"spec":{"volumes":[{"name":"host","hostPath":{"path":"/usr/libexec/kubernetes/kubelet-plugins/volume/exec/nodeagent~uds"}}]}}]}`)
	})

	if got, err := c.FlexVolumePods(t.Context()); err != nil || !slices.Equal(got, []string{"x/a volume flex", "y/c volume host"}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestDeprecatedAPIs(t *testing.T) {
	t.Parallel()

	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			t.Errorf("path %s", r.URL.Path)
		}

		fmt.Fprint(w, `# HELP apiserver_requested_deprecated_apis [STABLE] Gauge of deprecated APIs that have been requested
# TYPE apiserver_requested_deprecated_apis gauge
apiserver_requested_deprecated_apis{group="flowcontrol.apiserver.k8s.io",removed_release="1.32",resource="flowschemas",subresource="status",version="v1beta3"} 1
apiserver_requested_deprecated_apis{group="",removed_release="",resource="componentstatuses",subresource="",version="v1"} 1
apiserver_request_total{code="200",resource="pods"} 5
`)
	})

	got, err := c.DeprecatedAPIs(t.Context())
	if want := []DeprecatedAPI{{"flowschemas.v1beta3.flowcontrol.apiserver.k8s.io", "1.32", 32}, {Name: "componentstatuses.v1"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestUsageFails(t *testing.T) {
	t.Parallel()

	for status, kind := range map[int]errs.Kind{http.StatusForbidden: errs.KindPermissionDenied, http.StatusInternalServerError: errs.KindUnreachable} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", status) })

		if _, err := c.FlexVolumePods(t.Context()); conn.KindOf(err) != kind {
			t.Errorf("%d: %v", status, err)
		}

		if _, err := c.DeprecatedAPIs(t.Context()); conn.KindOf(err) != kind {
			t.Errorf("%d: %v", status, err)
		}
	}
}
